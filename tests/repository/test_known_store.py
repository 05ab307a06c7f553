"""Opening a store in a bucket again: two requests, and never what the bucket no longer holds."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operations.bucket import Requests, bucket, buckets
from tests.servers.fixtures import Machine

import keepstone
from keepstone.foundation.format import CHECKPOINT_PREFIX, log_key
from keepstone.history.checkpoint import COMMITS_MIN
from keepstone.operations.sync import NOTE_BYTES_MIN
from keepstone.storage import locate
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.places import CACHE_BYTES_VARIABLE


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    monkeypatch.setattr(locate, "_BUCKETS", (*locate._BUCKETS, "bucket"))
    with buckets() as requests:
        yield requests


@pytest.fixture
def url(tmp_path: Path, net: Requests, machine: Machine) -> str:
    """A store in a bucket, with one version of `m`, opened on this machine and on another."""
    url = f"bucket://{tmp_path.name}"
    with keepstone.open(url, create=True) as store:
        store.save("m", "first")
    machine("there")
    assert loaded(url) == "first"
    machine("here")
    net.take()
    return url


def loaded(url: str, *, offline: bool = False) -> object:
    with keepstone.open(url, mode="r", offline=offline) as store:
        return store.load("m")


def saved(url: str, value: object) -> None:
    with keepstone.open(url) as store:
        store.save("m", value)


def objects(url: str) -> dict[str, bytes]:
    return bucket(url.removeprefix("bucket://")).objects


def put_back(url: str, kept: dict[str, bytes]) -> None:
    """Make the store what it was, as a restore from a backup does."""
    objects(url).clear()
    objects(url).update(kept)


def gets(*numbers: int) -> list[tuple[str, str]]:
    return [("GET", log_key(number)) for number in numbers]


def test_opening_again_asks_for_the_newest_known_commit_and_the_slot_behind_it(
    url: str, net: Requests
) -> None:
    net.take()
    keepstone.open(url).close()
    assert net.take() == gets(1, 2)
    # Also after others went on: their commits, once.
    for number in range(3):
        with keepstone.open(url) as store:
            store.save("m", number)
    net.take()
    keepstone.open(url, mode="r").close()
    assert net.take() == gets(4, 5)


def test_what_others_commit_meanwhile_is_read_once(url: str, machine: Machine, net: Requests) -> None:
    machine("there")
    saved(url, "second")
    machine("here")
    net.take()
    assert loaded(url) == "second"
    assert net.take() == gets(1, 2, 3, 3)
    net.take()
    assert loaded(url) == "second"
    assert net.take() == gets(2, 3, 3)
    assert loaded(url, offline=True) == "second"


def test_a_store_that_is_gone_is_not_opened_from_memory(url: str) -> None:
    put_back(url, {})
    for _ in range(2):
        with pytest.raises(keepstone.StoreNotFoundError):
            keepstone.open(url)


def test_another_store_at_the_same_place_is_that_one(url: str) -> None:
    with keepstone.open(url) as store:
        old = store.id
    kept = dict(objects(url))
    put_back(url, {})
    with keepstone.open(url, create=True) as store:
        assert store.id != old
        assert store.names() == []
        store.save("m", "anew")
    assert loaded(url) == loaded(url, offline=True) == "anew"
    # And the first one again.
    put_back(url, kept)
    assert loaded(url) == loaded(url, offline=True) == "first"
    assert loaded(url) == "first"


def test_a_store_that_was_put_back_is_what_was_put_back(url: str, machine: Machine) -> None:
    kept = dict(objects(url))
    saved(url, "lost")
    put_back(url, kept)
    assert loaded(url) == "first"
    assert loaded(url) == loaded(url, offline=True) == "first"
    saved(url, "goes on")
    assert loaded(url) == loaded(url, offline=True) == "goes on"
    machine("there")
    assert loaded(url) == "goes on"


def test_a_store_that_was_put_back_and_went_on_elsewhere(url: str, machine: Machine) -> None:
    kept = dict(objects(url))
    for value in ("lost", "lost as well", "and this"):
        saved(url, value)
    put_back(url, kept)
    machine("there")
    saved(url, "theirs")
    machine("here")
    assert loaded(url) == "theirs"
    with keepstone.open(url) as store:
        assert [version.load() for version in store.versions("m")] == ["theirs", "first"]
        store.save("m", "ours")
        assert store.fsck(read_data=True).ok
    assert loaded(url) == loaded(url, offline=True) == "ours"


@pytest.mark.parametrize("harm", ["some", "all", "flipped", "no identity"])
def test_a_cache_that_lost_something_costs_requests_and_nothing_else(
    harm: str, url: str, tmp_path: Path
) -> None:
    for number in range(6):
        saved(url, number)
    entries = sorted(path for path in (tmp_path / "here" / "cache").rglob("*-*") if path.is_file())
    assert len(entries) > 8
    for number, path in enumerate(entries):
        if harm == "flipped":
            data = bytearray(path.read_bytes())
            if data:
                data[-1] ^= 1
            path.write_bytes(data)
        elif (
            harm == "all"
            or (harm == "some" and number % 2)
            or (harm == "no identity" and b"store_id" in path.read_bytes())
        ):
            path.unlink()
    for _ in range(2):
        assert loaded(url) == 5
    saved(url, 6)
    assert loaded(url) == 6
    shutil.rmtree(tmp_path / "here" / "cache")
    assert loaded(url) == 6


def test_where_nothing_is_to_be_kept_nothing_piles_up(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_BYTES_VARIABLE, "0")

    def count_after(value: int) -> int:
        saved(url, value)
        assert loaded(url) == value
        return len(list((tmp_path / "here" / "cache").rglob("*")))

    counts = [count_after(value) for value in range(6)]

    assert counts[1:] == counts[1:2] * 5


def test_a_lost_cache_entry_does_not_bring_a_lost_history_back(url: str, tmp_path: Path) -> None:
    kept = dict(objects(url))
    for value in ("lost", "lost as well", "and this"):
        saved(url, value)
    # Some of what is known of the log had to make room; the rest must not be taken for what follows.
    for path in (tmp_path / "here" / "cache").rglob("*-*"):
        if path.is_file() and log_key(2).encode() in path.read_bytes():
            path.unlink()
    put_back(url, kept)
    assert loaded(url) == "first"
    assert loaded(url) == "first"


def test_a_lost_cache_entry_does_not_bring_lost_commits_back_below_a_checkpoint(
    url: str, tmp_path: Path, machine: Machine
) -> None:
    kept = dict(objects(url))
    with keepstone.open(url) as store:
        for value in ("lost", "lost as well", "and this"):
            store.save("m", value)
    for path in (tmp_path / "here" / "cache").rglob("*-*"):
        if path.is_file() and log_key(0).encode() in path.read_bytes():
            path.unlink()
    put_back(url, kept)
    machine("there")
    with keepstone.open(url) as store:
        for number in range(COMMITS_MIN + 12):
            store.save("m", number)
    # Closing may have merged what the commits brought.
    with keepstone.open(url, mode="r") as store:
        history = list(store.history())
    assert any(key.startswith(CHECKPOINT_PREFIX) for key in objects(url))
    machine("here")
    # The first time, what is above the checkpoint is read; from then on it is known, and what lies below with it.
    for _ in range(2):
        assert loaded(url) == COMMITS_MIN + 11
    with keepstone.open(url) as store:
        assert list(store.history()) == history
        assert store.load("m@v2") == 0


def test_a_push_that_goes_on_looks_whether_what_it_wrote_is_there(
    tmp_path: Path, net: Requests, machine: Machine
) -> None:
    with keepstone.open(tmp_path / "local") as local:
        local.save("large", random.Random(1).randbytes(NOTE_BYTES_MIN + 1))
        local.collection("items").update({f"key {number}": number for number in range(100)})
        # Once as it should be, to know which request is the commit.
        urls = [f"bucket://{tmp_path.name}-{number}" for number in range(2)]
        for url in urls:
            keepstone.open(url, create=True).close()
        net.take()
        local.push(urls[0])
        made = net.take()
        net.arm(
            next(at for at, (verb, key) in enumerate(made, 1) if verb == "PUT" and key.startswith("log/"))
        )
        with pytest.raises(keepstone.StorageError):
            local.push(urls[1])
        assert net.heal()
        for key in [key for key in objects(urls[1]) if key.startswith("packs/")]:
            del objects(urls[1])[key]

        local.push(urls[1])

    machine("there")
    with keepstone.open(urls[1], mode="r") as store:
        assert dict(store.collection("items")) == {f"key {number}": number for number in range(100)}
        assert len(store.load("large")) == NOTE_BYTES_MIN + 1
        assert store.fsck(read_data=True).ok


def test_a_bucket_that_hangs_keeps_nobody_from_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, goes_on, waits = f"memory://{tmp_path.name}", threading.Event(), threading.Event()
    keepstone.open(place, create=True).close()
    read_range = MemoryStorage.read_range

    def hang(self: MemoryStorage, key: str, start: int, end: int) -> bytes:
        if self.location == place and key.startswith("log/"):
            waits.set()
            assert goes_on.wait(60)
        return read_range(self, key, start, end)

    monkeypatch.setattr(MemoryStorage, "read_range", hang)
    opened: list[keepstone.Store] = []
    threads = [threading.Thread(target=lambda: opened.append(keepstone.open(place))) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert waits.wait(60)
        with keepstone.open(tmp_path / "local", create=True) as store:
            store.save("m", 1)
        assert opened == []
    finally:
        goes_on.set()
        for thread in threads:
            thread.join(60)
    # Those who waited for the same store share it.
    assert len({id(store.repository) for store in opened}) == 1
    for store in opened:
        store.close()


def test_the_cache_is_as_large_as_the_user_says(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> int:
        return sum(
            path.stat().st_size for path in (tmp_path / "here" / "cache").rglob("*-*") if path.is_file()
        )

    assert loaded(url) == "first"
    assert kept() > 0
    shutil.rmtree(tmp_path / "here" / "cache")
    monkeypatch.setenv("KEEPSTONE_CACHE_BYTES", "0")
    assert loaded(url) == "first"
    assert kept() == 0
    monkeypatch.setenv("KEEPSTONE_CACHE_BYTES", "plenty")
    with pytest.raises(keepstone.InvalidInputError, match="KEEPSTONE_CACHE_BYTES is 'plenty', not a size"):
        loaded(url)


def test_a_spool_that_fails_is_named_with_what_moves_it(url: str, tmp_path: Path) -> None:
    spool = tmp_path / "here" / "state"
    with keepstone.open(url) as store:
        answers = store.collection("answers")
        shutil.rmtree(spool, ignore_errors=True)
        spool.write_text("a file in the folder's place")
        with pytest.raises(keepstone.StorageError, match=str(spool)) as caught:
            answers["q1"] = 1
        assert "in the spool" in caught.value.hint
        assert "KEEPSTONE_SPOOL" in caught.value.hint
        spool.unlink()
        answers["q1"] = 2
    with keepstone.open(url) as store:
        assert dict(store.collection("answers")) == {"q1": 2}


def test_the_journals_of_a_folder_are_not_called_a_spool(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        (tmp_path / "store" / "journals").write_text("a file in the folder's place")
        with pytest.raises(keepstone.StorageError) as caught:
            store.collection("answers")["q1"] = 1
        assert "KEEPSTONE_SPOOL" not in caught.value.hint
        (tmp_path / "store" / "journals").unlink()
