"""A cached storage: what it keeps of a store, and what it answers without a connection."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.storage.contract import StorageContract
from tests.storage.slow import SlowStorage, slow_place

import keepstone
from keepstone.foundation.errors import ObjectNotFoundError, StorageError, StoragePermissionError
from keepstone.history.commit import Draft
from keepstone.storage.base import Storage
from keepstone.storage.cached import CachedStorage
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.read_cache import ReadCache

MIB = 1024 * 1024
PACK = "packs/ab/x"


class TestCachedStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return CachedStorage(MemoryStorage(), ReadCache(tmp_path))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, str, SlowStorage]:
    """A cached store, the same offline, and what lies behind; some of the store was read through the cache."""
    slow = SlowStorage(MemoryStorage(), "far://bucket", delay_seconds=0)
    online, _ = slow_place(monkeypatch, CachedStorage(slow, ReadCache(tmp_path / "cache")))
    offline, _ = slow_place(monkeypatch, CachedStorage(slow, ReadCache(tmp_path / "cache"), offline=True))
    with keepstone.open(online, create=True) as store:
        log = store.repository.session.log
        for number in range(200):
            log.append(lambda state, n=number: Draft(message=str(n)))
        store.save("prompt", "a text")
        store.save("model", random.Random(1).randbytes(3 * MIB))
        store.save("other", random.Random(2).randbytes(3 * MIB))
        store.collection("answers").update({"q1": 1, "q2": 2})
        store.flush()
    with keepstone.open(online, mode="r") as store:
        assert len(store.load("model")) == 3 * MIB
        assert dict(store.collection("answers").items()) == {"q1": 1, "q2": 2}
    return online, offline, slow


def test_offline_serves_what_was_read_and_names_what_was_not(place: tuple[str, str, SlowStorage]) -> None:
    _, offline, slow = place
    slow.forget()
    with keepstone.open(offline, mode="r") as store:
        assert store.load("prompt") == "a text"
        assert store.load("model") == random.Random(1).randbytes(3 * MIB)
        assert store.collection("answers")["q2"] == 2
        assert "q3" not in store.collection("answers")
        assert not store.exists("unknown")
        with pytest.raises(
            StorageError, match=r"offline, and packs/.* of far://bucket is not in the cache"
        ) as caught:
            store.load("other")
        assert "connect, or" in caught.value.hint
    assert not slow.requests


def test_offline_sees_the_log_as_it_ended_when_it_was_last_seen(
    place: tuple[str, str, SlowStorage], tmp_path: Path
) -> None:
    online, offline, slow = place
    with keepstone.open(online) as store:
        store.save("prompt", "another text")
    slow.forget()
    with keepstone.open(offline, mode="r") as store:
        assert store.load("prompt") == "another text"
        assert [version.number for version in store.versions("prompt")] == [2, 1]
    assert not slow.requests


def test_offline_a_commit_below_the_end_is_missed_and_one_above_it_absent(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path)
    cache.last_seen.note_tip(5)
    storage = CachedStorage(MemoryStorage(), cache, offline=True)

    with pytest.raises(StorageError, match="is not in the cache"):
        storage.read_range("log/00000000000000000005", 0, 9)
    with pytest.raises(ObjectNotFoundError, match="ended at commit 5"):
        storage.read_range("log/00000000000000000006", 0, 9)


def test_offline_nothing_is_written(place: tuple[str, str, SlowStorage], tmp_path: Path) -> None:
    storage = CachedStorage(place[2], ReadCache(tmp_path / "cache"), offline=True)
    assert not storage.writable
    for change in (
        lambda: storage.write_new(PACK, b"x"),
        lambda: storage.write_hint("checkpoints/LAST", b"x"),
        lambda: storage.delete(PACK),
    ):
        with pytest.raises(StoragePermissionError, match="opened offline"):
            change()


def test_offline_with_an_empty_cache_says_what_it_lacks(tmp_path: Path) -> None:
    storage = CachedStorage(MemoryStorage("memory://away"), ReadCache(tmp_path), offline=True)
    for what in ("store.json", "log/00000000000000000000", "checkpoints/LAST", PACK):
        with pytest.raises(StorageError, match=f"{what} of memory://away is not in the cache"):
            storage.read_range(what, 0, 9)
    with pytest.raises(StorageError, match="what lies below packs/"):
        storage.list("packs/")


def test_the_end_of_the_log_as_last_seen_never_goes_back(tmp_path: Path) -> None:
    first, second = ReadCache(tmp_path), ReadCache(tmp_path)
    for number, cache in [(3, first), (12, second), (7, first), (11, second)]:
        cache.last_seen.note_tip(number)

    assert ReadCache(tmp_path).last_seen.tip() == 12


def test_what_was_read_in_bulk_is_read_from_disk_the_next_time(place: tuple[str, str, SlowStorage]) -> None:
    online, _, slow = place
    slow.forget()
    with keepstone.open(online, mode="r") as store:
        assert len(store.load("model")) == 3 * MIB
        assert dict(store.collection("answers").items()) == {"q1": 1, "q2": 2}
        tip = store.repository.session.log.state.number
    # LAST, and slots behind the end of the log: what may change.
    for _, key in slow.requests:
        assert key == "checkpoints/LAST" or int(key.removeprefix("log/")) > tip
