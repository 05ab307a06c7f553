"""The proxy: what it counts, that it changes nothing, and each fault as a real client meets it."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from s3fs import S3FileSystem
from tests.servers.bucket import Bucket, client, single_tries
from tests.servers.faults import AFTER, Fault
from tests.servers.fixtures import on_servers
from tests.servers.program import Access
from tests.servers.proxy import Proxy
from tests.servers.test_servers import status_of

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DATA: Final = bytes(range(256)) * 800
"""Several pieces of what the proxy reads at once."""


def test_requests_are_counted_by_kind_with_keys_and_bytes(bucket: Bucket, proxy: Proxy) -> None:
    system: Any = single_tries()
    name = bucket.name
    with proxy.counted() as seen:
        system.pipe_file(f"{name}/packs/a", DATA, mode="create")
        system.call_s3("get_object", Bucket=name, Key="packs/a", Range="bytes=10-109")["Body"].close()
        system.call_s3("head_object", Bucket=name, Key="packs/a")
        system.call_s3("list_objects_v2", Bucket=name, Prefix="packs/")
        system.call_s3("delete_object", Bucket=name, Key="packs/a")
        status_of(lambda: system.call_s3("get_object", Bucket=name, Key="packs/a"))

    of_kind = {request.kind: request for request in seen}
    assert proxy.counts(seen) == {"put": 1, "get": 2, "head": 1, "list": 1, "delete": 1}
    put, *_, last = seen
    assert (put.method, put.bucket, put.key, put.sent_bytes) == ("PUT", name, "packs/a", len(DATA))
    assert (put.status, put.is_conditional, put.writes) == (200, True, True)
    assert (seen[1].range, seen[1].answered_bytes, seen[1].status) == ("bytes=10-109", 100, 206)
    assert (last.status, last.kind, last.is_conditional) == (404, "get", False)
    assert (of_kind["head"].answered_bytes, of_kind["delete"].status) == (0, 204)
    assert proxy.dollars(seen) == pytest.approx(2 * 0.005 / 1000 + 3 * 0.0004 / 1000)


def test_the_requests_of_a_multipart_upload_are_told_apart(bucket: Bucket, proxy: Proxy) -> None:
    parts = 3
    single_tries().pipe_file(f"{bucket.name}/large", b"x" * (parts * 5 * 2**20), chunksize=5 * 2**20)

    assert bucket.sizes() == {"large": parts * 5 * 2**20}
    assert proxy.counts() == {"multipart-create": 1, "multipart-part": parts, "multipart-complete": 1}


def test_requests_wait_as_long_as_they_are_told(bucket: Bucket, proxy: Proxy) -> None:
    system = single_tries()
    proxy.read_ms, proxy.write_ms = 20, 45
    began = time.monotonic()
    system.pipe_file(f"{bucket.name}/key", b"data")
    system.cat_file(f"{bucket.name}/key")

    assert time.monotonic() - began >= 0.065


def failing_calls(bucket: Bucket, proxy: Proxy) -> Iterator[tuple[Fault, int, bool]]:
    """Try each fault on a new key; yield it, the status that the client met, and whether the object is there."""
    system = single_tries(read_seconds=0.5)
    for fault in Fault:
        if fault in (Fault.HOLD, Fault.HOLD_AFTER):
            continue  # they wait for the test
        rule = proxy.fail(fault, kind="put", key=fault.value, seconds=60)
        status = status_of(lambda: system.pipe_file(f"{bucket.name}/{fault}", DATA, mode="create"))  # noqa: B023
        assert rule.struck == 1
        is_there = fault.value in bucket.sizes()
        if is_there:
            assert bucket.read(fault.value) == DATA
        yield fault, status, is_there


NOT_ANSWERED: Final = 0
AFTER_AT_ONCE: Final = AFTER - {Fault.HOLD_AFTER}
MET: Final = {
    Fault.CUT: (NOT_ANSWERED, False),
    Fault.HALF_SENT: (NOT_ANSWERED, False),
    Fault.LATE: (NOT_ANSWERED, False),
    Fault.LOST: (NOT_ANSWERED, True),
    Fault.HALF_ANSWERED: (NOT_ANSWERED, True),
    Fault.HANG: (NOT_ANSWERED, False),
    Fault.HANG_AFTER: (NOT_ANSWERED, True),
    Fault.SERVER_ERROR: (500, False),
    Fault.SERVER_ERROR_AFTER: (500, True),
    Fault.ERROR_IN_200: (500, False),
    Fault.SLOW_DOWN: (503, False),
    Fault.TOO_MANY: (429, False),
    Fault.CONFLICT: (409, False),
    Fault.FORBIDDEN: (403, False),
    Fault.NOT_IMPLEMENTED: (501, False),
    Fault.FAILED_CONDITION: (412, False),
    Fault.FAILED_CONDITION_AFTER: (412, True),
}


@on_servers("moto", "ministack", "rgw")
def test_every_fault_of_a_write_is_what_it_says(bucket: Bucket, proxy: Proxy) -> None:
    met = {fault: (status, is_there) for fault, status, is_there in failing_calls(bucket, proxy)}

    assert met == MET
    assert [request.fault for request in proxy.seen] == [fault.value for fault in met]
    assert {request.fault for request in proxy.seen if request.served} == {*AFTER_AT_ONCE}
    proxy.release()
    assert wait_for(lambda: Fault.LATE.value in bucket.sizes())


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return holds


def test_the_usual_client_sends_a_write_again_and_is_refused_by_itself(bucket: Bucket, proxy: Proxy) -> None:
    """Three layers try again: s3fs, botocore and aiohttp. So a refusal alone does not say who came first."""
    proxy.fail(Fault.LOST, kind="put")

    with pytest.raises(FileExistsError):
        S3FileSystem(skip_instance_cache=True).pipe_file(f"{bucket.name}/key", b"mine", mode="create")

    assert [request.status for request in proxy.seen] == [0, 412]
    assert bucket.read("key") == b"mine"


@on_servers("moto", "rgw")
@pytest.mark.parametrize(
    "fault", [Fault.CUT, Fault.LOST, Fault.HALF_ANSWERED, Fault.HANG, Fault.SERVER_ERROR, Fault.SLOW_DOWN]
)
def test_every_fault_of_a_read_is_an_error_and_never_half_the_data(
    bucket: Bucket, proxy: Proxy, fault: Fault
) -> None:
    bucket.put("key", DATA)
    system = single_tries(read_seconds=0.5)
    proxy.fail(fault, kind="get", key="key")

    with pytest.raises(Exception):  # noqa: B017  (what it is depends on the fault; that it is one counts)
        system.cat_file(f"{bucket.name}/key")

    assert system.cat_file(f"{bucket.name}/key") == DATA


@on_servers("s3rver")
def test_a_server_may_keep_half_of_what_was_meant_to_come(bucket: Bucket, proxy: Proxy) -> None:
    """Another reason to refuse it; the others keep nothing."""
    proxy.fail(Fault.HALF_SENT, kind="put")

    assert (
        status_of(lambda: single_tries().pipe_file(f"{bucket.name}/key", DATA, mode="create")) == NOT_ANSWERED
    )
    assert wait_for(lambda: bucket.sizes() == {"key": len(DATA) // 2})


def test_a_fault_strikes_the_kth_that_matches_and_as_often_as_told(bucket: Bucket, proxy: Proxy) -> None:
    system = single_tries()
    rule = proxy.fail(Fault.SLOW_DOWN, kind="put", key="log/", nth=2, times=2)

    def put(key: str) -> int:
        return status_of(lambda: system.pipe_file(f"{bucket.name}/{key}", b"data"))

    assert [put(key) for key in ("log/1", "packs/1", "log/2", "log/3", "log/4")] == [200, 200, 503, 503, 200]
    assert (rule.matched, rule.struck) == (4, 2)
    for_ever = proxy.fail(Fault.SERVER_ERROR, key="packs/", times=None)
    assert [put("packs/2") for _ in range(3)] == [500] * 3
    proxy.clear()
    assert put("packs/2") == 200
    assert for_ever.struck == 3


@pytest.mark.parametrize(("fault", "is_there"), [(Fault.HOLD, False), (Fault.HOLD_AFTER, True)])
def test_a_held_request_waits_until_it_is_released(
    bucket: Bucket, proxy: Proxy, fault: Fault, is_there: bool
) -> None:
    rule = proxy.fail(fault, kind="put")
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(single_tries().pipe_file, f"{bucket.name}/key", b"data")
        assert rule.arrived.wait(10)
        assert ("key" in bucket.sizes()) == is_there
        assert not put.done()
        rule.released.set()
        put.result(10)

    assert bucket.read("key") == b"data"


def test_a_held_request_lands_though_its_client_has_gone(bucket: Bucket, proxy: Proxy) -> None:
    rule = proxy.fail(Fault.HOLD, kind="put")
    connection = http.client.HTTPConnection(proxy.access.endpoint.removeprefix("http://"))
    connection.request("PUT", f"/{bucket.name}/key", body=DATA)
    assert rule.arrived.wait(10)
    connection.close()
    assert bucket.sizes() == {}
    rule.released.set()

    assert wait_for(lambda: bucket.sizes() == {"key": len(DATA)})


def test_of_a_lost_completion_the_error_may_come_in_a_200(bucket: Bucket, proxy: Proxy) -> None:
    proxy.fail(Fault.ERROR_IN_200, kind="multipart-complete")

    status = status_of(
        lambda: single_tries().pipe_file(f"{bucket.name}/large", b"x" * 10 * 2**20, chunksize=5 * 2**20)
    )

    assert status == 500
    assert (bucket.sizes(), bucket.uploads()) == ({}, [])
    assert proxy.counts()["multipart-abort"] == 1


@on_servers("moto", "ministack")
def test_a_dropped_condition_lets_a_second_create_overwrite(bucket: Bucket, proxy: Proxy) -> None:
    system = single_tries()
    system.pipe_file(f"{bucket.name}/key", b"first", mode="create")
    proxy.drops_condition, proxy.signs_again = True, False
    system.pipe_file(f"{bucket.name}/key", b"second", mode="create")

    assert bucket.read("key") == b"second"
    assert [request.is_conditional for request in proxy.seen] == [True, True]


@on_servers("rgw")
def test_where_signatures_are_checked_a_dropped_condition_is_found_out(bucket: Bucket, proxy: Proxy) -> None:
    proxy.drops_condition, proxy.signs_again = True, False

    status = status_of(lambda: single_tries().pipe_file(f"{bucket.name}/key", b"data", mode="create"))

    assert status == 403
    assert bucket.sizes() == {}


@on_servers("ministack", "rgw", "s3rver")
def test_a_connection_carries_many_requests(bucket: Bucket, proxy: Proxy) -> None:
    connections = proxy.connections
    system = single_tries()
    for number in range(10):
        system.pipe_file(f"{bucket.name}/{number}", DATA, mode="create")
        assert system.cat_file(f"{bucket.name}/{number}") == DATA

    assert proxy.connections == connections + 1


@on_servers("moto", "rgw")
@pytest.mark.parametrize("fault", [None, Fault.CONFLICT, Fault.CUT, Fault.HALF_SENT, Fault.LOST])
def test_a_body_that_waits_to_be_asked_for_passes_too(
    bucket: Bucket, proxy: Proxy, fault: Fault | None
) -> None:
    """boto3 sends a file with `Expect: 100-continue`, and signs its length and check."""
    if fault:
        proxy.fail(fault, kind="put")
        with pytest.raises((ClientError, ConnectionClosedError, OSError)):
            client(proxy.access).put_object(Bucket=bucket.name, Key="key", Body=io.BytesIO(DATA))
        assert (bucket.sizes() == {"key": len(DATA)}) == (fault is Fault.LOST)
    client(proxy.access).put_object(Bucket=bucket.name, Key="key", Body=io.BytesIO(DATA))

    assert bucket.read("key") == DATA


def test_a_body_in_signed_chunks_passes_too(bucket: Bucket, proxy: Proxy) -> None:
    place = proxy.access.endpoint.removeprefix("http://")
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "9",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request",
    }
    body = b"4\r\nfour\r\n5\r\nfives\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    connection = http.client.HTTPConnection(place)
    connection.request("PUT", f"/{bucket.name}/key", body=body, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()

    assert (answer.status, bucket.read("key")) == (200, b"fourfives")
    assert proxy.seen[0].sent_bytes == len(body)


@contextmanager
def listener(answer: bytes, heard: list[bytes], size: int) -> Iterator[str]:
    """Accept one connection, remember `size` bytes of it, answer, and end it; yields the endpoint."""

    def serve() -> None:
        with server, server.accept()[0] as connection:
            told = b""
            while len(told) < size and (more := connection.recv(65536)):
                told += more
            heard.append(told)
            connection.sendall(answer)

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    thread.join(10)


REQUESTS: Final = (
    b"PUT /b/k HTTP/1.1\r\nHost: a.b:1\r\nX-Odd:  two  spaces \r\nContent-Length: 5\r\n\r\nfives",
    b"PUT /b/k HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;chunk-signature=00\r\nfour\r\n0\r\nx-trailer: y\r\n\r\n",
    b"GET /b/%6b?x=%20 HTTP/1.1\r\nHOST: a\r\n\r\n",
)
ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Odd:  two  spaces \r\n\r\nfives",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end of the connection",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_every_byte_passes_as_it_is(request_: bytes, answer: bytes) -> None:
    heard: list[bytes] = []
    with listener(answer, heard, len(request_)) as endpoint, Proxy(Access(endpoint, "", "")) as proxy:
        place = proxy.access.endpoint.rpartition(":")[2]
        with socket.create_connection(("127.0.0.1", int(place))) as connection:
            connection.settimeout(10)
            connection.sendall(request_)
            told = b""
            expected = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            while len(told) < len(expected) and (more := connection.recv(65536)):
                told += more

    assert heard == [request_]
    assert told == expected
    assert not proxy.errors


def test_a_proxy_that_is_closed_leaves_neither_threads_nor_connections(bucket: Bucket) -> None:
    before = threading.active_count()
    with Proxy(bucket.access) as proxy, ThreadPoolExecutor(4) as pool:
        rule = proxy.fail(Fault.HOLD, times=None)
        puts = [pool.submit(put_through, proxy, bucket, f"{n}") for n in range(4)]
        assert wait_for(lambda: rule.struck == 4)
        proxy.__exit__()
        for put in puts:
            with suppress(Exception):
                put.result(10)

    assert wait_for(lambda: threading.active_count() <= before + 1)


def put_through(proxy: Proxy, bucket: Bucket, key: str) -> None:
    client(proxy.access).put_object(Bucket=bucket.name, Key=key, Body=b"data")


def test_it_runs_as_a_process_that_writes_down_what_it_sees(bucket: Bucket, tmp_path: Path) -> None:
    record = tmp_path / "seen.jsonl"
    arguments = [bucket.access.endpoint, "--record", str(record), "--fail", "503:put:log/:2:always"]
    command = [sys.executable, "-m", "tests.servers.proxy", *arguments, "--write-ms", "5", "--drop-condition"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, env=os.environ) as process:
        assert process.stdout is not None
        access = bucket.access._replace(endpoint=process.stdout.readline().decode().strip())
        for key in ("log/1", "log/1", "other"):
            with suppress(ClientError):
                client(access).put_object(Bucket=bucket.name, Key=key, Body=b"data", IfNoneMatch="*")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

    seen = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(one["kind"], one["key"], one["status"], one["fault"]) for one in seen] == [
        ("put", "log/1", 200, ""),
        ("put", "log/1", 503, "503"),
        ("put", "other", 200, ""),
    ]
