from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault
from tests.servers.fixtures import on_servers
from tests.servers.proxy import Proxy

from keepstone.foundation.errors import (
    KeepstoneError,
    ObjectExistsError,
    StorageBusyError,
    StorageError,
    StoragePermissionError,
    UnsafeStorageError,
)
from keepstone.storage.base import ObjectInfo, Storage
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import locate
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.probe import PROBE_REQUESTS, ProbeReport, probe
from keepstone.storage.remote import RemoteStorage
from keepstone.storage.wrapper import requests_made


@on_servers("moto", "ministack", "rgw")
def test_servers_that_heed_the_condition_pass_and_keep_nothing(bucket: Bucket) -> None:
    storage = locate(f"{bucket.url}/team")

    report = probe(storage)

    assert report == ProbeReport(location=storage.location, threads=8, rounds=20, refused=141)
    assert bucket.sizes() == {}
    assert requests_made(storage) == PROBE_REQUESTS


def test_folders_and_memory_pass(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for storage in (LocalStorage(tmp_path), MemoryStorage()):
        assert probe(storage).refused == 141
        assert list(storage.list("")) == []


@on_servers("s3rver")
def test_a_server_that_ignores_the_condition_is_refused(bucket: Bucket) -> None:
    with pytest.raises(UnsafeStorageError, match="overwrit") as caught:
        probe(locate(bucket.url))

    assert "single_writer" in caught.value.hint
    assert bucket.sizes() == {}


def test_a_proxy_that_drops_the_condition_is_refused(bucket: Bucket, proxy: Proxy) -> None:
    proxy.drops_condition = True

    with pytest.raises(UnsafeStorageError, match="overwrit"):
        probe(locate(bucket.url))
    assert bucket.sizes() == {}


def test_a_server_that_does_not_know_the_condition_is_refused_at_once(bucket: Bucket, proxy: Proxy) -> None:
    proxy.fail(Fault.NOT_IMPLEMENTED, kind="put", times=None)

    with pytest.raises(UnsafeStorageError, match=r"only if it is absent: .* 501 NotImplemented") as caught:
        probe(locate(bucket.url))

    assert "single_writer" in caught.value.hint
    assert proxy.counts()["put"] == 1


class Careless(MemoryStorage):
    """Looks before it writes, and lets others in between: the condition without the atomicity."""

    def write_new(self, key: str, data: bytes) -> None:
        if any(info.key == key for info in self.list("")) and not key.endswith(tuple("0123456789")):
            raise ObjectExistsError(f"{key} exists", key=key)
        self.write_hint(key, data)


class TwoFaced(MemoryStorage):
    """Refuses, and writes all the same."""

    def write_new(self, key: str, data: bytes) -> None:
        try:
            super().write_new(key, data)
        except ObjectExistsError:
            self.write_hint(key, data)
            raise


class Forgetful(MemoryStorage):
    """Lists what it held a while ago."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(())


class Haunted(MemoryStorage):
    """Has whatever is asked for."""

    def read(self, key: str) -> bytes:
        return b"boo"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Careless, "were told that they had created it"),
        (TwoFaced, "changed the object all the same"),
        (Forgetful, "not listed"),
        (Haunted, "which nobody wrote"),
    ],
)
def test_media_of_other_faults_are_refused(kind: type[MemoryStorage], message: str) -> None:
    storage = kind()

    with pytest.raises(UnsafeStorageError, match=message):
        probe(storage)

    assert list(MemoryStorage.list(storage, "")) == []


def test_requests_that_fail_now_and_then_change_nothing(bucket: Bucket, proxy: Proxy) -> None:
    for fault, nth in ((Fault.LOST, 7), (Fault.CONFLICT, 21), (Fault.SLOW_DOWN, 40), (Fault.CUT, 60)):
        proxy.fail(fault, kind="put", nth=nth)

    assert probe(locate(bucket.url)).refused == 141


def test_refusals_of_one_s_own_do_not_make_a_medium_unsafe(bucket: Bucket, proxy: Proxy) -> None:
    """Somebody on the way sends requests twice: what took effect is refused the second time."""
    proxy.fail(Fault.FAILED_CONDITION_AFTER, kind="put", times=None)

    probe(locate(bucket.url), threads=2, rounds=2)

    assert bucket.sizes() == {}


def test_absent_objects_that_are_denied_are_explained(bucket: Bucket, proxy: Proxy) -> None:
    proxy.fail(Fault.FORBIDDEN, kind="get")

    with pytest.raises(StoragePermissionError, match="does not say whether an object exists") as caught:
        probe(locate(bucket.url))
    assert "ListBucket" in caught.value.hint


@pytest.mark.parametrize("kind", ["get", "put", "list"])
def test_a_server_that_fails_is_neither_trusted_nor_called_unsafe(
    bucket: Bucket, proxy: Proxy, kind: str
) -> None:
    proxy.fail(Fault.SERVER_ERROR, kind=kind, nth=2 if kind != "list" else 1, times=None)

    with pytest.raises(StorageBusyError):
        probe(RemoteStorage(bucket.url))


def test_what_happens_in_one_thread_ends_the_others() -> None:
    class Failing(MemoryStorage):
        def write_new(self, key: str, data: bytes) -> None:
            if key.endswith("/03") and data.startswith(b"writer 5"):
                raise StorageError("broken")
            super().write_new(key, data)

    with pytest.raises(StorageError, match="broken") as caught:
        probe(Failing())
    assert not isinstance(caught.value, UnsafeStorageError)


def test_ctrl_c_ends_the_races() -> None:
    class Interrupted(MemoryStorage):
        writes = 0

        def write_new(self, key: str, data: bytes) -> None:
            self.writes += 1
            if self.writes == 20:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            super().write_new(key, data)

    storage = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        probe(storage, rounds=5_000)

    assert storage.writes < 8 * 5_000
    assert list(storage.list("")) == []


def test_storages_that_cannot_be_written_say_so() -> None:
    storage: Storage = MemoryStorage(writable=False)
    with pytest.raises(KeepstoneError, match="reading only"):
        probe(storage)


def test_of_a_medium_that_falls_silent_nothing_more_is_asked() -> None:
    class Silent(MemoryStorage):
        asked = 0

        def read(self, key: str) -> bytes:
            if key.endswith("first"):
                raise StorageBusyError("no answer", path=key)
            return super().read(key)

        def delete(self, key: str) -> None:
            self.asked += 1
            raise StorageBusyError("no answer", path=key)

    silent = Silent()
    with pytest.raises(StorageBusyError, match="no answer"):
        probe(silent)
    assert silent.asked == 1

    class SilentInTheRace(Silent):
        def read(self, key: str) -> bytes:
            if key.endswith("00"):
                raise StorageBusyError("no answer", path=key)
            return MemoryStorage.read(self, key)

    later = SilentInTheRace()
    with pytest.raises(StorageBusyError, match="no answer"):
        probe(later)
    assert later.asked == 1
