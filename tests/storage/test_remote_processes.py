"""Buckets and processes: forks, pools, exits, interrupts, memory. Each test looks at processes of its own."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import pytest
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault
from tests.servers.proxy import Proxy
from tests.storage.plain_server import plain_server

from keepstone.storage.base import Storage
from keepstone.storage.bucket import READ_SECONDS_MAX
from keepstone.storage.locate import locate

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
    )


def write_and_read(storage: Storage, key: str) -> bytes:
    storage.write_new(key, b"from a child")
    return storage.read(key)


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(m, marks=pytest.mark.long) for m in ("spawn", "forkserver"))]
)
def test_a_pool_of_processes_works_with_a_storage_in_use(bucket: Bucket, method: str) -> None:
    storage = locate(bucket.url)
    storage.write_new("log/parent", b"x")

    with multiprocessing.get_context(method).Pool(2) as pool:
        results = [pool.apply_async(write_and_read, (storage, f"log/{n}")) for n in range(4)]
        assert [result.get(60) for result in results] == [b"from a child"] * 4

    assert storage.read("log/parent") == b"x"


FORKS = """
    import os, sys, threading
    from keepstone.storage.remote import RemoteStorage

    storage = RemoteStorage(sys.argv[1])
    storage.write_new("log/parent", b"x" * 300_000)
    # Connections of the parent that rest, and some that are in use at the moment of the fork.
    stop = threading.Event()
    failed = []

    def read():
        while not stop.is_set():
            try:
                assert len(storage.read("log/parent")) == 300_000
            except BaseException as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            if number % 2:
                del storage  # collected in the child, or kept and used: neither may touch the parent
                import gc; gc.collect()
            else:
                assert len(storage.read("log/parent")) == 300_000
                storage.write_new(f"log/child-{number}", b"x")
                storage.close()
            sys.exit(0)  # with all that an interpreter does at its end
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4, codes
    assert not failed, failed
    for number in range(4):
        storage.write_new(f"log/after-{number}", b"x")
"""


def test_a_forked_child_has_connections_of_its_own_and_leaves_its_parents_alone(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    # moto closes each connection; this server keeps them open, as real ones do.
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        done = run(FORKS, "s3://bucket")

    keys = [
        "log/after-0",
        "log/after-1",
        "log/after-2",
        "log/after-3",
        "log/child-0",
        "log/child-2",
        "log/parent",
    ]
    assert done.stderr == ""
    assert sorted(path.removeprefix("/bucket/") for path in server.objects) == keys


@pytest.mark.parametrize("first", ["storage.write_new('log/before', b'x')", "pass"])
def test_exit_handlers_can_still_write(bucket: Bucket, proxy: Proxy, first: str) -> None:
    # Executors are closed by then; looking up a name and reading certificates needs one.
    code = f"""
        import atexit, sys
        from keepstone.storage.remote import RemoteStorage
        storage = RemoteStorage(sys.argv[1])
        atexit.register(lambda: storage.write_new("log/at-exit", b"x"))
        {first}
    """
    done = run(code, bucket.url)

    assert done.stderr == ""
    assert bucket.read("log/at-exit") == b"x"


def test_ctrl_c_ends_a_call_that_waits_and_the_storage_works_on(bucket: Bucket, proxy: Proxy) -> None:
    code = """
        import sys
        from keepstone.storage.locate import locate
        storage = locate(sys.argv[1])
        storage.write_new("log/1", b"x")
        print("ready", flush=True)
        try:
            storage.read("log/1")
        except KeyboardInterrupt:
            print("interrupted")
        print(storage.read("log/1").decode())
    """
    rule = proxy.fail(Fault.HANG, kind="get")
    child = subprocess.Popen(
        [sys.executable, "-c", dedent(code), bucket.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert rule.arrived.wait(60)
    child.send_signal(signal.SIGINT)
    # Nobody answers before the client gives up, which takes as long.
    out, err = child.communicate(timeout=READ_SECONDS_MAX)

    assert err == ""
    assert out.split() == ["ready", "interrupted", "x"]


def test_an_interrupted_upload_leaves_nothing_behind(bucket: Bucket, proxy: Proxy) -> None:
    code = """
        import sys, time
        from keepstone.storage.locate import locate
        storage = locate(sys.argv[1])
        try:
            storage.write_new("packs/ab/large", b"x" * (20 << 20))
        except KeyboardInterrupt:
            pass
        while storage.read("log/told") == b"wait":
            time.sleep(0.05)
    """
    bucket.put("log/told", b"wait")
    rule = proxy.fail(Fault.HANG, kind="multipart-part", nth=2)
    child = subprocess.Popen([sys.executable, "-c", dedent(code), bucket.url])
    assert rule.arrived.wait(60)
    child.send_signal(signal.SIGINT)
    until = time.monotonic() + 30
    while bucket.uploads() and time.monotonic() < until:
        threading.Event().wait(0.05)
    bucket.put("log/told", b"go")

    assert child.wait(60) == 0
    assert bucket.uploads() == []
    assert list(bucket.sizes()) == ["log/told"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_uploading_a_pack_of_64_mib_takes_less_than_as_much_again(bucket: Bucket, proxy: Proxy) -> None:
    code = """
        import sys
        from pathlib import Path
        from keepstone.storage.remote import RemoteStorage

        def peak():
            return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l).split()[1])

        storage = RemoteStorage(sys.argv[1])
        storage.write_new("packs/ab/small", b"x" * (17 << 20))
        data = bytes(64 << 20)
        before = peak()
        storage.write_new("packs/ab/large", data)
        print((peak() - before) * 1024)
    """
    above = int(run(code, bucket.url).stdout)

    assert above < 64 << 20
    assert bucket.sizes()["packs/ab/large"] == 64 << 20


def test_nothing_is_imported_or_asked_before_the_first_call(bucket: Bucket, proxy: Proxy) -> None:
    code = """
        import sys
        from keepstone.storage.locate import locate
        storage = locate(sys.argv[1])
        repr(storage), storage.location, storage.writable, storage.reads_at_once
        storage.close()
        print(sorted({"fsspec", "s3fs", "botocore", "aiohttp"} & set(sys.modules)))
    """
    assert run(code, bucket.url).stdout == "[]\n"
    assert not proxy.seen


def test_what_asks_no_server_imports_neither_asyncio_nor_a_library_of_clouds() -> None:
    code = """
        import sys
        from keepstone.storage.locate import locate
        locate("s3://bucket/store").close()
        print(*(name in sys.modules for name in ("asyncio", "fsspec", "s3fs", "botocore", "aiohttp")))
    """
    assert run(code).stdout.split() == ["False"] * 5
