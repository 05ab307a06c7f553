"""Journals cut off at every byte, flipped at every byte, and with holes: what is sound is kept, nothing is invented."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.processes import dead

import keepstone
from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.frame import HEADER_BYTES

ITEMS = {f"key {i}": {"n": i, "text": "x" * (7 * i)} for i in range(5)}


def journals(place: Path) -> list[Path]:
    return [path for path in (place / "journals").iterdir() if not path.name.startswith(".")]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A store whose items lie in one journal that nobody holds."""
    place = tmp_path / "written"
    with keepstone.open(place) as store:
        collection = store.collection("answers", durability="process")
        for key, value in ITEMS.items():
            collection[key] = value
    return place


def ends_of_items(place: Path) -> list[int]:
    """Offsets behind each item, in order."""
    with keepstone.open(place, mode="r") as store:
        (journal,) = store.repository.session.spool.journals()
        blobs = sorted(row.offset for _, row in journal.all_rows())
        return [*(offset - HEADER_BYTES for offset in blobs[1:]), journal.end]


def copies(written: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (place of a store, its journal) again and again, each time as it was written."""
    original = journals(written)[0]
    data = original.read_bytes()
    place = tmp_path / "damaged"
    while True:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(written, place)
        path = place / "journals" / original.name
        path.write_bytes(data)
        yield place, path


def readable(store: keepstone.Store) -> dict[str, object]:
    """The items that can be read; each other one is absent or an error of ours."""
    found: dict[str, object] = {}
    collection = store.collection("answers")
    for key in ITEMS:
        try:
            found[key] = collection[key]
        except KeepstoneError:
            continue
    return found


def test_a_journal_cut_at_any_byte_keeps_every_whole_item(written: Path, tmp_path: Path) -> None:
    ends = ends_of_items(written)
    place, path = next(copies(written, tmp_path))
    data = path.read_bytes()
    first = ends[0] - 400
    for cut in range(max(0, first), len(data)):
        path.write_bytes(data[:cut])
        with keepstone.open(place, mode="r") as store:
            whole = dict(list(ITEMS.items())[: sum(end <= cut for end in ends)])
            assert readable(store) == whole, f"cut at {cut}"


@pytest.mark.parametrize("nth", range(7))
def test_a_store_with_a_cut_journal_goes_on_and_recovers(written: Path, tmp_path: Path, nth: int) -> None:
    ends = ends_of_items(written)
    place, path = next(copies(written, tmp_path))
    cut = ends[1] + nth * (ends[2] - ends[1]) // 7
    path.write_bytes(path.read_bytes()[:cut])
    whole = {key: ITEMS[key] for key in ("key 0", "key 1")}
    with keepstone.open(place) as store:
        store.collection("answers")["later"] = "also"
        report = store.recover()

        assert report.skipped == (0 if nth == 0 else 1)
        assert report.damaged == ()
        assert readable(store) == whole
        assert sorted(store.collection("answers")) == [*whole, "later"]
        assert store.fsck(read_data=True).ok


def test_a_flipped_byte_anywhere_never_gives_a_wrong_value(written: Path, tmp_path: Path) -> None:
    ends = ends_of_items(written)
    place, path = next(copies(written, tmp_path))
    data = path.read_bytes()
    first = ends[0] - 200
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with keepstone.open(place, mode="r") as store:
            found = readable(store)
        assert all(ITEMS[key] == value for key, value in found.items()), f"flipped at {position}"
        if position >= first:
            # One item at most is touched; the others are read.
            assert len(found) >= len(ITEMS) - 1, f"flipped at {position}"


def test_flipped_bytes_are_left_behind_by_recovery(written: Path, tmp_path: Path) -> None:
    ends = ends_of_items(written)
    stores = copies(written, tmp_path)
    for position in range(ends[0], ends[3], 61):
        place, path = next(stores)
        flipped = bytearray(path.read_bytes())
        flipped[position] ^= 0x40
        path.write_bytes(flipped)
        with keepstone.open(place) as store:
            report = store.recover()

            assert report.skipped == 1, f"flipped at {position}"
            assert len(readable(store)) == len(ITEMS) - 1
            assert all(ITEMS[key] == value for key, value in readable(store).items())
            assert journals(place) == []
            assert store.fsck(read_data=True).ok


def hole(path: Path, start: int, size: int = 4096) -> None:
    """What a loss of power leaves of pages that were not synced."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(size))


def wide_store(place: Path, *, synced: bool) -> Path:
    """A store with 200 items of 300 bytes in one journal; return the journal."""
    with keepstone.open(place) as store:
        collection = store.collection("wide", durability="process")
        for i in range(200):
            collection[f"{i:03}"] = {"n": i, "text": "y" * 300}
        if synced:
            store.collection("wide", durability="disk")["last"] = 1
            # Only a later entry says how far the sync before it reached.
            collection["after"] = 1
    return journals(place)[0]


def test_a_hole_that_was_not_synced_costs_the_items_in_it_and_no_more(tmp_path: Path) -> None:
    place = tmp_path / "store"
    hole(wide_store(place, synced=False), 40_960)
    with keepstone.open(place) as store:
        report = store.recover()
        kept = sorted(store.collection("wide"))

        assert report.skipped == 1
        assert report.damaged == ()
        assert 185 <= len(kept) < 200
        assert all(store.collection("wide")[key]["n"] == int(key) for key in kept)
        assert journals(place) == []


def test_a_hole_below_what_was_synced_is_corruption_and_set_aside(tmp_path: Path) -> None:
    place = tmp_path / "store"
    path = wide_store(place, synced=True)
    hole(path, 40_960)
    with keepstone.open(place) as store:
        assert not store.fsck().ok
        report = store.recover()
        kept = sorted(store.collection("wide"))

        assert report.damaged == (path.name,)
        assert 187 <= len(kept) < 202
        assert (path.parent / f".{path.name}.damaged").exists()
        store.collection("wide")["new"] = 2
        store.flush()
        assert store.collection("wide")["new"] == 2


def test_a_hole_larger_than_any_read_does_not_end_the_journal(tmp_path: Path) -> None:
    place = tmp_path / "store"

    def write() -> None:
        collection = keepstone.open(place).collection("large", durability="process")
        for i in range(4):
            collection[f"{i}"] = b"%d" % i * 7_000_000
        collection["last"] = "here"

    dead(write)
    (path,) = journals(place)
    hole(path, 5_000, 21_000_000)
    with keepstone.open(place, mode="r") as store:
        assert store.collection("large")["last"] == "here"
        assert "1" not in store.collection("large")


def test_a_final_mark_inside_of_a_damaged_value_ends_nothing(tmp_path: Path) -> None:
    place, other = tmp_path / "store", tmp_path / "other"
    with keepstone.open(other) as store:
        store.collection("x")["y"] = 1
        store.repository.session.spool.finish()
        inner = journals(other)[0].read_bytes()
    with keepstone.open(place) as store:
        collection = store.collection("nested", durability="process")
        collection["journal"] = inner
        collection["last"] = "here"
    (path,) = journals(place)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(inner) - 60] ^= 1
    path.write_bytes(damaged)
    with keepstone.open(place) as store:
        assert dict(store.collection("nested")) == {"last": "here"}
        assert store.recover().skipped >= 1
        assert dict(store.collection("nested")) == {"last": "here"}
        assert not store.exists("x")
