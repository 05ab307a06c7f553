"""The catalog changes speed and nothing else: built, ahead, damaged, deleted, copied."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import CorruptionError
from keepstone.repository import catalog_rows, entries, sealer
from keepstone.repository.entries import Entries


@pytest.fixture(autouse=True)
def small_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    # A threshold, not behaviour: from how many entries on a catalog is worth its while.
    monkeypatch.setattr(entries, "CATALOG_ENTRIES_MIN", 10)


@pytest.fixture
def filled(folder: Path) -> Iterator[Path]:
    with keepstone.open(folder) as store:
        items = store.collection("c")
        for batch in range(3):
            items.add_many((f"k{batch}-{i}", {"n": i}) for i in range(20))
            items.flush()
        items["k0-0"] = {"n": "new"}
        del items["k0-1"]
        items.flush()
        for i in range(4):
            store.save("a", f"version {i}")
        _entries(store).fold(lambda: False)
    return folder


def _entries(store: Store) -> Entries:
    return store.repository.session.entries


def _catalog_file(folder: Path) -> Path:
    return next((folder / "cache").glob("*/catalog.sqlite"))


def _check(store: Store) -> None:
    items = store.collection("c")
    assert items["k0-0"] == {"n": "new"}
    assert items["k2-19"] == {"n": 19}
    assert "k0-1" not in items
    assert "nope" not in items
    assert len(items) == 59
    assert store.load("a@v2") == "version 1"
    assert store.load("a") == "version 3"
    assert list(items.missing(["k0-0", "k0-1", "x"])) == ["k0-1", "x"]


def test_answers_come_from_the_catalog(filled: Path) -> None:
    with keepstone.open(filled) as store:
        _check(store)
        assert _entries(store)._covered
        assert not _entries(store)._rows["c"]


def test_deleting_the_cache_changes_nothing(filled: Path) -> None:
    shutil.rmtree(filled / "cache")
    with keepstone.open(filled) as store:
        _check(store)


def test_deleting_the_cache_while_open_changes_nothing(filled: Path) -> None:
    with keepstone.open(filled) as store:
        _check(store)
        shutil.rmtree(filled / "cache")
        store.collection("c")["more"] = 1
        store.flush()
        _check_more(store)


def _check_more(store: Store) -> None:
    assert store.collection("c")["more"] == 1
    assert len(store.collection("c")) == 60


def test_every_flipped_byte_of_the_catalog_is_harmless_to_what_is_there(
    filled: Path, is_thorough: bool
) -> None:
    path = _catalog_file(filled)
    for litter in path.parent.glob("catalog.sqlite-*"):
        litter.unlink()
    good = path.read_bytes()
    for offset in range(0, len(good), 97 if is_thorough else 389):
        bad = bytearray(good)
        bad[offset] ^= 0x10
        shutil.rmtree(filled / "cache")
        path.parent.mkdir(parents=True)
        path.write_bytes(bad)
        with keepstone.open(filled, mode="a") as store:
            items = store.collection("c")
            for key in ("k0-0", "k1-5", "k2-19"):
                value = items.get(key)
                assert value is None or value == {"n": "new" if key == "k0-0" else int(key.split("-")[1])}
            assert list(items.missing(["k0-0", "k1-5", "k2-19"])) == []


def test_a_damaged_key_in_the_catalog_hides_no_item(filled: Path) -> None:
    path = _catalog_file(filled)
    for litter in path.parent.glob("catalog.sqlite-*"):
        litter.unlink()
    good = path.read_bytes()
    flipped = 0
    for batch, i in ((0, 0), (0, 19), (1, 7), (2, 5), (2, 19)):
        key = f"k{batch}-{i}".encode()
        offset = good.find(key)
        while offset >= 0:
            for within in range(len(key)):
                bad = bytearray(good)
                bad[offset + within] ^= 0x01 << (within % 7)
                shutil.rmtree(filled / "cache")
                path.parent.mkdir(parents=True)
                path.write_bytes(bad)
                flipped += 1
                with keepstone.open(filled) as store:
                    assert store.collection("c")[key.decode()] == {"n": i if (batch, i) != (0, 0) else "new"}
            offset = good.find(key, offset + 1)
    assert flipped > 20


def test_damage_that_changes_what_type_a_value_has_is_damage(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(_catalog_file(filled), isolation_level=None)) as other:
        other.execute("UPDATE entries SET writer = 'text', place = 7 WHERE key = 'k2-19'")
        other.execute("UPDATE blobs SET place = 'text', proof = 1")
    with keepstone.open(filled) as store:
        assert store.collection("c")["k2-19"] == {"n": 19}
    with keepstone.open(filled) as store:
        assert store.load("a@v2") == "version 1"


def test_a_collection_whose_name_was_damaged_is_not_empty(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(_catalog_file(filled), isolation_level=None)) as other:
        other.execute("UPDATE collections SET name = 'b' WHERE name = 'c'")
    with keepstone.open(filled) as store:
        _check(store)


def test_a_torn_catalog_is_made_anew(filled: Path) -> None:
    path = _catalog_file(filled)
    data = path.read_bytes()
    for litter in path.parent.glob("catalog.sqlite-*"):
        litter.unlink()
    for size in (0, 1, 100, 4096, len(data) // 2):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[:size])
        with keepstone.open(filled) as store:
            _check(store)
            _entries(store).fold(lambda: False)
            _check(store)


def test_a_copied_store_makes_a_catalog_of_its_own(filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled, tmp_path / "copy")
    with keepstone.open(tmp_path / "copy") as store:
        _check(store)
        store.collection("c")["more"] = 1
        store.flush()
        _entries(store).fold(lambda: False)
    with keepstone.open(filled) as store:
        _check(store)


def test_a_catalog_of_a_lost_history_is_not_believed(filled: Path, tmp_path: Path) -> None:
    # Power loss took the newest commit away; the catalog, synced by SQLite, still knows it.
    newest = sorted((filled / "log").iterdir())[-1]
    with keepstone.open(filled) as store:
        store.save("b", "later")
        _entries(store).fold(lambda: False)
    for path in sorted((filled / "log").iterdir()):
        if path.name > newest.name:
            path.unlink()
    with keepstone.open(filled) as store:
        assert not store.exists("b")
        store.save("c2", "another history")
        assert store.load("c2") == "another history"
        _check(store)


def test_a_lost_commit_takes_no_older_item_with_it(filled: Path) -> None:
    # The catalog holds one row of a key, the newest; without the commit that brought it an older one counts again.
    before = {path.name for path in (filled / "log").iterdir()}
    with keepstone.open(filled) as store:
        key = next(iter(store.collection("c")))
        old = store.collection("c")[key]
        store.collection("c")[key] = "newer"
        store.flush()
        _entries(store).fold(lambda: False)
    for path in (filled / "log").iterdir():
        if path.name not in before:
            path.unlink()

    with keepstone.open(filled) as store:
        assert store.collection("c")[key] == old


def test_two_processes_worth_of_sessions_share_it(filled: Path) -> None:
    with keepstone.open(filled) as writer, keepstone.open(filled, mode="r") as reader:
        writer.collection("c")["more"] = 1
        writer.flush()
        _entries(writer).fold(lambda: False)
        _check_more(reader)
        _check_more(writer)


def test_a_fold_that_another_prevents_says_so_and_succeeds_later(filled: Path) -> None:
    with keepstone.open(filled) as store:
        store.collection("c")["more"] = 1
        store.flush()
        with contextlib.closing(sqlite3.connect(_catalog_file(filled), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert not _entries(store).fold(lambda: False)
            other.execute("ROLLBACK")
        assert _entries(store).uncovered_entries == 1
        assert _entries(store).fold(lambda: False)
        assert _entries(store).uncovered_entries == 0
        _check_more(store)


def test_a_pack_that_cannot_be_read_keeps_no_other_out_of_the_catalog(filled: Path) -> None:
    with keepstone.open(filled) as store:
        for name in ("d", "e"):
            store.collection(name).update({f"{name}{i}": os.urandom(100) for i in range(3_000)})
            store.flush()
        packs = _entries(store).packs_of("d")
    for pack in packs:
        path = filled / pack.key
        damaged = bytearray(path.read_bytes())
        damaged[pack.offset + pack.record.size - pack.record.footer_size : pack.offset + pack.record.size] = (
            bytes(pack.record.footer_size)
        )
        path.chmod(0o600)
        path.write_bytes(damaged)
    shutil.rmtree(filled / "cache")
    with keepstone.open(filled) as store:
        _entries(store).fold(lambda: False)
        assert len(store.collection("e")["e2999"]) == 100
        assert _entries(store).uncovered_entries == 3_000
        assert not _entries(store)._rows.get("e")
        with pytest.raises(CorruptionError):
            store.collection("d")["d1"]


def test_a_fold_that_was_cut_off_goes_on_in_the_next_process(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(filled / "cache")
    monkeypatch.setattr(catalog_rows, "_FOLD_ENTRIES_MAX", 10)
    stops = iter([False, True])
    with keepstone.open(filled) as store:
        _check(store)
        assert not _entries(store).fold(lambda: next(stops))
        left = _entries(store).uncovered_entries
        assert 0 < left < 66
        assert _entries(store).fold(lambda: False)
        assert _entries(store).uncovered_entries == 0
        _check(store)


def test_a_large_store_gets_its_catalog_in_the_background(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "FOLD_ENTRIES_MIN", 10)
    monkeypatch.setattr(sealer, "FOLD_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(sealer, "FOLD_BATCH_MIN", 1)
    monkeypatch.setattr(sealer, "FOLD_RETRY_SECONDS", 0.01)
    with contextlib.closing(sqlite3.connect(_catalog_file(filled), isolation_level=None)) as other:
        for statement in ("BEGIN IMMEDIATE", "DELETE FROM packs", "DELETE FROM entries", "DELETE FROM blobs"):
            other.execute(statement)
        other.execute("COMMIT")
        other.execute("BEGIN IMMEDIATE")
        # Another process is writing; later it is done.
        with keepstone.open(filled) as store:
            assert _entries(store).uncovered_entries > 0
            other.execute("ROLLBACK")
            end = time.monotonic() + 30
            while _entries(store).uncovered_entries and time.monotonic() < end:
                time.sleep(0.005)
            assert _entries(store).uncovered_entries == 0
            _check(store)
