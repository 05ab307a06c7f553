"""The catalog changes speed and nothing else: built, ahead, damaged, deleted, copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import keepstone
from keepstone.api import Store
from keepstone.repository import entries
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


def test_every_flipped_byte_of_the_catalog_is_harmless_to_what_is_there(filled: Path) -> None:
    path = _catalog_file(filled)
    for litter in path.parent.glob("catalog.sqlite-*"):
        litter.unlink()
    good = path.read_bytes()
    for offset in range(0, len(good), 97):
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


def test_two_processes_worth_of_sessions_share_it(filled: Path) -> None:
    with keepstone.open(filled) as writer, keepstone.open(filled, mode="r") as reader:
        writer.collection("c")["more"] = 1
        writer.flush()
        _entries(writer).fold(lambda: False)
        _check_more(reader)
        _check_more(writer)
