"""Buckets and requests: how many each call makes, and what becomes of one that fails or is answered in part."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault
from tests.servers.proxy import Proxy
from tests.storage.plain_server import plain_server

from keepstone.foundation.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StoragePermissionError,
)
from keepstone.storage.base import ObjectInfo
from keepstone.storage.remote import RemoteStorage
from keepstone.storage.retrying import Retrying

MIB = 1 << 20


def test_each_call_is_one_request(storage: RemoteStorage, proxy: Proxy) -> None:
    storage.write_new("log/1", b"0123456789")
    calls = {
        "put": [
            lambda: storage.write_new("log/2", b"x"),
            lambda: storage.write_new("log/3", b""),
            lambda: storage.write_new("packs/ab/16", b"x" * (16 * MIB)),
            lambda: storage.write_hint("checkpoints/LAST", b"x"),
        ],
        "get": [
            lambda: storage.read("log/1"),
            lambda: storage.read_range("log/1", 2, 5),
            lambda: storage.read_range("log/1", 4, 4),
            lambda: storage.read_range("log/1", 50, 60),
        ],
        "head": [lambda: storage.size("log/1")],
        "delete": [lambda: storage.delete("log/1"), lambda: storage.delete("log/absent")],
        "list": [lambda: list(storage.list("")), lambda: list(storage.list("nothing/"))],
    }
    for kind, verbs in calls.items():
        for number, verb in enumerate(verbs):
            with proxy.counted() as requests:
                verb()
            assert proxy.counts(requests) == {kind: 1}, (kind, number)


def test_what_fails_is_one_request_too(storage: RemoteStorage, proxy: Proxy) -> None:
    storage.write_new("log/1", b"x")
    refused = {
        "get": (ObjectNotFoundError, lambda: storage.read("log/absent")),
        "head": (ObjectNotFoundError, lambda: storage.size("log/absent")),
        "put": (ObjectExistsError, lambda: storage.write_new("log/1", b"y")),
    }
    for kind, (error, verb) in refused.items():
        with proxy.counted() as requests, pytest.raises(error):
            verb()
        assert proxy.counts(requests) == {kind: 1}
    with proxy.counted() as requests, pytest.raises(ObjectNotFoundError):
        storage.read_range("log/absent", 3, 9)
    assert proxy.counts(requests) == {"get": 1}


@pytest.mark.parametrize(
    "fault", [Fault.CUT, Fault.SLOW_DOWN, Fault.SERVER_ERROR, Fault.CONFLICT, Fault.TOO_MANY]
)
def test_no_library_tries_again_behind_our_back(storage: RemoteStorage, proxy: Proxy, fault: Fault) -> None:
    storage.write_new("log/1", b"x")
    for verb in (
        lambda: storage.read("log/1"),
        lambda: storage.size("log/1"),
        lambda: storage.write_new("log/2", b"x"),
        lambda: storage.write_hint("log/hint", b"x"),
        lambda: storage.delete("log/1"),
        lambda: list(storage.list("")),
    ):
        proxy.fail(fault, times=None)
        with proxy.counted() as requests, pytest.raises(StorageBusyError):
            verb()
        proxy.clear()
        assert len(requests) == 1


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HALF_ANSWERED, Fault.SERVER_ERROR_AFTER])
def test_a_write_whose_answer_is_lost_is_in_doubt_and_not_sent_again(
    storage: RemoteStorage, proxy: Proxy, fault: Fault
) -> None:
    storage.write_new("log/1", b"x")
    storage.read("log/1")
    proxy.fail(fault)

    with proxy.counted() as requests, pytest.raises(StorageBusyError):
        storage.write_new("log/2", b"mine")

    assert len(requests) == 1
    assert storage.read("log/2") == b"mine"


def test_a_kept_connection_that_turns_out_to_be_closed_is_no_reason_to_write_twice(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aiohttp would: the second PUT would be refused because of the first.
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        storage = RemoteStorage("s3://bucket")
        storage.write_new("log/1", b"x")
        server.hangs_up_after = "PUT"

        with pytest.raises(StorageBusyError):
            storage.write_new("log/2", b"mine")

        assert server.requests == [("PUT", "/bucket/log/1"), ("PUT", "/bucket/log/2")]
        assert storage.read("log/2") == b"mine"
        assert server.connections == 2
        Retrying(storage).write_new("log/3", b"mine")
        server.hangs_up_after = "PUT"
        Retrying(storage).write_new("log/4", b"mine")
        storage.close()


def test_an_answer_that_is_cut_short_is_no_answer(storage: RemoteStorage, proxy: Proxy) -> None:
    storage.write_new("packs/ab/x", b"0123456789" * 1000)
    proxy.fail(Fault.HALF_ANSWERED, times=2)

    with pytest.raises(StorageBusyError):
        storage.read("packs/ab/x")
    with pytest.raises(StorageBusyError):
        storage.read_range("packs/ab/x", 10, 9000)


@pytest.mark.parametrize(
    ("size", "parts"), [(16 * MIB + 1, 3), pytest.param(40 * MIB, 5, marks=pytest.mark.thorough)]
)
def test_a_large_object_is_a_request_for_each_part_and_two_more(
    storage: RemoteStorage, proxy: Proxy, bucket: Bucket, size: int, parts: int
) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    with proxy.counted() as requests:
        storage.write_new("packs/ab/large", data)

    assert proxy.counts(requests) == {"multipart-create": 1, "multipart-part": parts, "multipart-complete": 1}
    assert storage.read("packs/ab/large") == data
    with pytest.raises(ObjectExistsError):
        storage.write_new("packs/ab/large", data)
    assert bucket.uploads() == []


@pytest.mark.parametrize(
    ("size", "parts"), [(16 * MIB + 1, 3), pytest.param(20 * MIB, 3, marks=pytest.mark.thorough)]
)
def test_an_object_that_comes_in_parts_is_a_request_for_each_8_mib_and_two_more(
    storage: RemoteStorage, proxy: Proxy, bucket: Bucket, size: int, parts: int
) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]

    def chunks() -> Generator[bytes]:
        for start in range(0, size, 3 * MIB):
            yield data[start : start + 3 * MIB]

    with proxy.counted() as requests:
        storage.write_parts("packs/ab/large", size, chunks)

    assert proxy.counts(requests) == {"multipart-create": 1, "multipart-part": parts, "multipart-complete": 1}
    assert storage.read("packs/ab/large") == data
    with pytest.raises(ObjectExistsError):
        storage.write_parts("packs/ab/large", size, chunks)
    assert bucket.uploads() == []


def test_what_comes_in_parts_and_fails_leaves_none(
    storage: RemoteStorage, proxy: Proxy, bucket: Bucket
) -> None:
    def chunks() -> Generator[bytes]:
        for _ in range(3):
            yield b"x" * (8 * MIB)

    proxy.fail(Fault.FORBIDDEN, kind="multipart-part", nth=2)
    with pytest.raises(StoragePermissionError):
        storage.write_parts("packs/ab/large", 24 * MIB, chunks)
    proxy.fail(Fault.ERROR_IN_200, kind="multipart-complete")
    with pytest.raises(StorageBusyError):
        storage.write_parts("packs/ab/large", 24 * MIB, chunks)

    assert bucket.uploads() == []
    assert bucket.sizes() == {}


def test_a_part_that_fails_is_sent_again_and_the_others_are_not(storage: RemoteStorage, proxy: Proxy) -> None:
    data = b"x" * (20 * MIB)
    proxy.fail(Fault.SLOW_DOWN, kind="multipart-part", nth=2)

    storage.write_new("packs/ab/large", data)

    assert proxy.counts() == {"multipart-create": 1, "multipart-part": 4, "multipart-complete": 1}
    assert storage.size("packs/ab/large") == len(data)


def test_an_upload_that_fails_leaves_no_parts(storage: RemoteStorage, proxy: Proxy, bucket: Bucket) -> None:
    proxy.fail(Fault.FORBIDDEN, kind="multipart-part", nth=2)
    with pytest.raises(StoragePermissionError):
        storage.write_new("packs/ab/large", b"x" * (20 * MIB))
    proxy.fail(Fault.ERROR_IN_200, kind="multipart-complete")
    with pytest.raises(StorageBusyError):
        storage.write_new("packs/ab/large", b"x" * (20 * MIB))

    assert bucket.uploads() == []
    assert bucket.sizes() == {}


def test_a_list_of_2500_takes_three_requests_and_goes_on_after_a_failure(
    storage: RemoteStorage, proxy: Proxy, bucket: Bucket
) -> None:
    from moto.s3.models import s3_backends

    keys = [f"packs/{n % 256:02x}/{n:05}" for n in range(2_500)]
    backend = s3_backends["123456789012"]["global"]
    for key in keys:
        backend.put_object(bucket.name, f"team/{key}", b"ab")

    with proxy.counted() as requests:
        found = list(storage.list("packs/"))

    assert proxy.counts(requests) == {"list": 3}
    assert found == [ObjectInfo(key, 2) for key in sorted(keys)]

    proxy.fail(Fault.SLOW_DOWN, kind="list", nth=3, times=2)
    patient = Retrying(storage, sleep=lambda _: None)
    with proxy.counted() as requests:
        assert list(patient.list("packs/")) == found
    assert proxy.counts(requests) == {"list": 5}
    for key in keys:
        backend.delete_object(bucket.name, f"team/{key}")


def test_a_server_that_ignores_ranges_gives_the_same_bytes(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.objects["/a-bucket/log/1"] = b"0123456789"
        storage = RemoteStorage("s3://a-bucket")
        for server.knows_ranges in (True, False):
            for start, end in [(0, 10), (2, 5), (4, 99), (9, 10), (10, 12)]:
                assert storage.read_range("log/1", start, end) == b"0123456789"[start:end]
        storage.close()
