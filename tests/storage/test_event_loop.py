from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from textwrap import dedent

import pytest
from tests.faults.processes import needs_fork
from tests.storage.plain_server import plain_server

from keepstone.storage.event_loop import request_loop, run


def test_all_threads_share_one_loop() -> None:
    loops = []
    threads = [threading.Thread(target=lambda: loops.append(request_loop())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(loops)) == 1
    assert loops[0].is_running()
    assert not loops[0].is_closed()


def test_what_takes_too_long_is_cancelled() -> None:
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        run(request_loop(), wait(), seconds_max=0.05)

    assert ended.wait(10)
    assert time.monotonic() - began < 10


def test_errors_come_out_as_they_are() -> None:
    async def fail() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        run(request_loop(), fail(), seconds_max=10)


@needs_fork
def test_a_child_that_closes_its_copies_of_connections_leaves_its_parent_s_alone() -> None:
    code = """
        import asyncio, os, sys
        from keepstone.storage.event_loop import request_loop, run

        loop = request_loop()
        reader, writer = run(loop, asyncio.open_connection("127.0.0.1", int(sys.argv[1])), seconds_max=10)
        child = os.fork()
        if child == 0:
            assert loop.is_closed() and not loop.is_running() and request_loop() is not loop
            writer.transport.write(b"GET /child HTTP/1.1\\r\\n\\r\\n")
            writer.transport.abort()
            os._exit(0)
        os.waitpid(child, 0)

        async def ask():
            writer.write(b"GET /parent HTTP/1.1\\r\\n\\r\\n")
            return await reader.readline()

        print(run(loop, ask(), seconds_max=10))
    """
    with plain_server() as server:
        server.objects["/parent"] = b"x"
        done = subprocess.run(
            [sys.executable, "-c", dedent(code), str(server.server_address[1])],
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.stderr == ""
    assert done.stdout == "b'HTTP/1.1 200 OK\\r\\n'\n"
    assert [path for _, path in server.requests] == ["/parent"]
