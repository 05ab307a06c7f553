"""Buckets: the port, beside other threads, closed and pickled, and what is refused."""

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

from keepstone.foundation.errors import (
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
