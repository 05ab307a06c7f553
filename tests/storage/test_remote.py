"""Buckets: the port, and what is particular to asking a server."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.servers.bucket import Bucket, new_bucket, remove
from tests.servers.faults import Fault
from tests.servers.fixtures import IN_PROCESS, Servers, set_environment
from tests.servers.proxy import Proxy
from tests.storage.contract import StorageContract
from tests.storage.plain_server import plain_server

from keepstone.foundation.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StorageError,
    StoragePermissionError,
    UnsafeStorageError,
)
from keepstone.storage.base import ObjectInfo, Storage
from keepstone.storage.create_guard import CreateGuard
from keepstone.storage.event_loop import request_loop, run
from keepstone.storage.remote import RemoteStorage
from keepstone.storage.retrying import Retrying

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared_bucket(servers: Servers) -> Iterator[Bucket]:
    """One bucket for the tests of the port, each below a prefix of its own: a bucket each takes longer than they do."""
    bucket = new_bucket(IN_PROCESS, servers.get(IN_PROCESS))
    yield bucket
    remove(bucket)


class TestRemoteStorage(StorageContract):
    @pytest.fixture
    def storage(
        self, shared_bucket: Bucket, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Storage]:
        set_environment(shared_bucket.access, monkeypatch)
        storage = RemoteStorage(f"{shared_bucket.url}/team/{abs(hash(request.node.name)):x}")
        yield storage
        storage.close()


@pytest.mark.long
class TestRetryingRemoteStorage(StorageContract):
    @pytest.fixture
    def storage(self, bucket: Bucket) -> Storage:
        return Retrying(RemoteStorage(bucket.url))


@pytest.fixture
def storage(proxy: Proxy, bucket: Bucket) -> Iterator[RemoteStorage]:
    """A storage whose requests the proxy sees."""
    storage = RemoteStorage(f"{bucket.url}/team")
    yield storage
    storage.close()


# ---- requests ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("size", "parts"), [(16 * MIB + 1, 3), (40 * MIB, 5)])
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


@pytest.mark.parametrize(("size", "parts"), [(16 * MIB + 1, 3), (20 * MIB, 3)])
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


# ---- threads, processes, time --------------------------------------------------------------------------


def test_many_threads_share_one_storage(bucket: Bucket) -> None:
    storage = RemoteStorage(bucket.url)

    def work(number: int) -> None:
        for at in range(5):
            storage.write_new(f"log/{number}-{at}", b"%d %d" % (number, at))
            assert storage.read(f"log/{number}-{at}") == b"%d %d" % (number, at)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))

    assert len(list(storage.list("log/"))) == 80


def test_it_can_be_used_after_it_was_closed_and_while_it_is(bucket: Bucket) -> None:
    storage = Retrying(RemoteStorage(bucket.url))
    storage.write_new("log/1", b"x")
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            assert storage.read("log/1") == b"x"

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read) for _ in range(2)]
        for _ in range(3):
            storage.close()
            assert storage.read("log/1") == b"x"
        stop.set()
        for one in reading:
            one.result()


def test_what_is_closed_under_an_upload_leaves_no_connection_behind(storage: RemoteStorage) -> None:
    loop = request_loop()
    before = set(loop.kept)
    reported: list[object] = []

    def chunks() -> Generator[bytes]:
        yield b"x" * (8 * MIB)
        connected = loop.kept - before
        assert connected
        storage.close()
        while connected & loop.kept:
            time.sleep(0.001)
        yield b"x" * (9 * MIB)

    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        storage.write_parts("packs/ab/large", 17 * MIB, chunks)
        gc.collect()
        run(loop, asyncio.sleep(0), seconds_max=10)
    finally:
        loop.set_exception_handler(None)

    assert reported == []
    assert storage.size("packs/ab/large") == 17 * MIB


def test_a_pickle_holds_the_location_and_nothing_else(storage: RemoteStorage, proxy: Proxy) -> None:
    storage.write_new("log/1", b"x")
    guard = CreateGuard(storage)
    guard.single_writer = True
    pickled = pickle.dumps(Retrying(guard))
    copy = pickle.loads(pickled)

    assert copy.read("log/1") == b"x"
    assert copy.location == storage.location
    assert proxy.access.secret.encode() not in pickled
    assert proxy.access.key.encode() not in pickled
    assert len(pickled) < 400
    assert copy.inner.single_writer
    assert not pickle.loads(pickle.dumps(RemoteStorage(storage.location, writable=False))).writable


# ---- what is refused -----------------------------------------------------------------------------------


def test_a_bucket_that_does_not_exist_is_named(storage: RemoteStorage) -> None:
    other = RemoteStorage("s3://keepstone-no-such-bucket/x")

    for verb in (lambda: other.read("a"), lambda: other.write_new("a", b""), lambda: list(other.list(""))):
        with pytest.raises(StorageError, match="the bucket does not exist") as caught:
            verb()
        assert not isinstance(caught.value, StorageBusyError)
        assert caught.value.hint


def test_reading_only_refuses_every_change_without_asking(bucket: Bucket, proxy: Proxy) -> None:
    storage = RemoteStorage(bucket.url, writable=False)

    assert not storage.writable
    for change in (
        lambda: storage.write_new("a", b""),
        lambda: storage.write_hint("a", b""),
        lambda: storage.delete("a"),
    ):
        with pytest.raises(StoragePermissionError, match="reading only"):
            change()
    assert not proxy.seen


def test_a_permission_that_is_missing_is_named(storage: RemoteStorage, proxy: Proxy) -> None:
    proxy.fail(Fault.FORBIDDEN, times=None)

    for verb in (lambda: storage.read("a"), lambda: storage.write_new("a", b""), lambda: storage.size("a")):
        with pytest.raises(StoragePermissionError, match="answers 403") as caught:
            verb()
        assert caught.value.hint


def test_a_botocore_that_does_not_know_the_condition_is_not_written_with(storage: RemoteStorage) -> None:
    storage.write_new("log/1", b"x")
    bucket = storage._bucket()[1]
    members = bucket._client.meta.service_model.operation_model("PutObject").input_shape.members  # type: ignore[attr-defined]
    removed = members.pop("IfNoneMatch")
    try:
        with pytest.raises(UnsafeStorageError, match="botocore") as caught:
            storage.write_new("log/1", b"y")
    finally:
        members["IfNoneMatch"] = removed

    assert "upgrade" in caught.value.hint
    assert storage.read("log/1") == b"x"


def test_objects_that_are_no_keys_of_ours_are_not_listed(storage: RemoteStorage, bucket: Bucket) -> None:
    storage.write_new("log/1", b"x")
    for key in ("team/", "team/log/", "team/log/größe", "team/.tmp-x", "teamwork/log/2", "team/a b"):
        bucket.put(key, b"")

    assert list(storage.list("")) == [ObjectInfo("log/1", 1)]
    assert list(storage.list("log/")) == [ObjectInfo("log/1", 1)]
