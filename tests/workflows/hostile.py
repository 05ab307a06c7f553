"""A filter that doubles "n", and misbehaves in the way that its first argument names for every item with
"bad"."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

mode = sys.argv[1]
side = sys.argv[2] if len(sys.argv) > 2 else ""


def say(text):
    os.write(1, text.encode() if isinstance(text, str) else text)


def answer(item, **more):
    say(json.dumps({"output": 2 * item["n"], **more}) + "\n")


def later(seconds, text):
    threading.Timer(seconds, say, [text]).start()


def surplus(item):
    return json.dumps({"output": 2 * item["n"]}) + "\n"


def misbehave(item):
    if mode == "chats":
        say("let me think\n")
        answer(item)
    elif mode == "chats_after":
        answer(item)
        say("that was hard\n")
    elif mode == "blank_line":
        answer(item)
        say("\n")
    elif mode == "skips":
        pass
    elif mode == "twice":
        answer(item)
        answer(item)
    elif mode == "twice_late":
        answer(item)
        time.sleep(0.05)
        answer(item)
    elif mode == "twice_from_a_thread":
        answer(item)
        later(0.004, surplus(item))
    elif mode == "not_json":
        say("{oops\n")
    elif mode == "a_list":
        say("[1]\n")
    elif mode == "not_utf8":
        say(b'{"output": "\xff\xfe"}\n')
    elif mode == "nan":
        say('{"output": NaN}\n')
    elif mode == "error":
        say(json.dumps({"error": "no idea", "output": "partial"}) + "\n")
    elif mode == "huge":
        say(b'{"output": "' + b"x" * (65 * 1024 * 1024) + b'"}\n')
    elif mode == "hangs":
        time.sleep(60)
    elif mode == "crashes":
        print("about to fail", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif mode == "exits":
        sys.exit(3)
    elif mode == "torn":
        say('{"output": ')
        sys.exit(0)
    elif mode == "closes_stdout":
        os.close(1)
        time.sleep(60)
    elif mode == "grandchild":
        subprocess.Popen(["sleep", "60"])
        os._exit(4)
    elif mode == "other_key":
        answer(item, id="q0")
    else:
        raise ValueError(mode)


def main():
    if mode == "banner":
        say('{"status": "ready"}\n')
    if mode == "buffers":
        time.sleep(60)
    if mode == "ignores_stdin":
        for i in range(1000):
            say(json.dumps({"output": i}) + "\n")
            time.sleep(0.01)
    if mode == "noisy":
        os.write(2, b"x" * 300_000)
    for line in sys.stdin:
        item = json.loads(line)
        if side:
            with open(side, "a") as file:
                file.write(item["id"] + "\n")
        if mode == "noisy":
            os.write(2, b"y" * 300_000)
        if mode == "exits_after_each":
            answer(item)
            return
        if mode == "descriptors":
            say(json.dumps({"output": sorted(os.listdir("/proc/self/fd"), key=int)}) + "\n")
        elif item["bad"] and mode not in ("banner", "noisy", "good", "echo", "deaf", "stays"):
            misbehave(item)
        elif mode == "banner":
            time.sleep(0.02)
            answer(item)
        elif mode in ("other_key", "echo"):
            answer(item, id=item["id"])
        elif mode == "slow":
            time.sleep(0.02)
            answer(item)
        elif mode == "deaf":
            os.close(0)
            answer(item)
            return
        else:
            answer(item)
    if mode == "stays":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)


main()
