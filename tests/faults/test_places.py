"""Stores in places that refuse, lie, were copied or hold something else; and clocks that go astray."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.faults.processes import dead, finished, forked
from tests.permissions import only_readable

import keepstone
from keepstone.foundation.clock import Clock
from keepstone.foundation.errors import (
    InvalidInputError,
    MalformedError,
    StorageError,
    StoragePermissionError,
    StoreNotFoundError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import JOURNAL_VALUE_BYTES_MAX

HOUR_NS = 3_600 * 10**9
LARGE = bytes(JOURNAL_VALUE_BYTES_MAX + 1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with published and journalled items."""
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.save("model", {"a": 1})
        store.collection("items", durability="store")["published"] = 1
        store.collection("items")["journalled"] = 2
    return place


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_store_that_may_only_be_read_reads_dead_and_living_journals(place: Path, mode: str) -> None:
    def read() -> None:
        with only_readable(place), keepstone.open(place, mode=mode) as store:  # type: ignore[arg-type]
            items = store.collection("items")
            assert dict(items) == {"published": 1, "journalled": 2, "living": 3}
            assert store.load("model") == {"a": 1}
            for refused in (
                lambda: items.update(new=1),
                lambda: store.save("model", 2),
                lambda: store.recover(),
                lambda: store.flush(),
            ):
                with pytest.raises(StoragePermissionError, match=r"for reading only|only be read"):
                    refused()
            assert dict(items) == {"published": 1, "journalled": 2, "living": 3}

    with keepstone.open(place) as writer:
        writer.collection("items")["living"] = 3
        before = sorted(os.listdir(place / "journals"))
        assert finished(forked(read))
        assert sorted(os.listdir(place / "journals")) == before
        writer.collection("items")["living"] = 4


def test_a_store_is_not_made_where_writing_is_refused(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()

    def create() -> None:
        with only_readable(locked), pytest.raises(StorageError):
            keepstone.open(locked / "store")

    assert finished(forked(create))


def test_reading_never_makes_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="there is no store at"):
        keepstone.open(tmp_path / "absent", mode="r")
    assert not (tmp_path / "absent").exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")

    with pytest.raises(InvalidInputError, match="is a file, not a folder"):
        keepstone.open(tmp_path / "file")


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")

    with pytest.raises(InvalidInputError, match=r"is not empty and not a store: it holds 'thesis\.tex'"):
        keepstone.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_store_of_a_newer_format_is_refused(place: Path) -> None:
    facts = json.loads((place / "store.json").read_text())
    (place / "store.json").write_text(json.dumps({**facts, "format": 7}))

    with pytest.raises(UnsupportedFormatError, match="is of format 7; this release reads format 1") as caught:
        keepstone.open(place)
    assert caught.value.hint == "upgrade keepstone"


def test_a_damaged_identity_is_refused(place: Path) -> None:
    text = (place / "store.json").read_text()
    (place / "store.json").write_text(text.replace('"b3"', '"b4"'))

    with pytest.raises(MalformedError, match="is damaged: its check does not match"):
        keepstone.open(place)


def test_a_journal_of_another_store_is_ignored_reported_and_kept(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with keepstone.open(other) as store:
        store.collection("items")["foreign"] = 1
    (foreign,) = (other / "journals").iterdir()
    shutil.copy(foreign, place / "journals")
    (place / "journals" / "rubbish").write_bytes(b"rubbish")
    with keepstone.open(place) as store:
        report = store.recover()

        assert {stranger.name for stranger in report.strangers} == {foreign.name, "rubbish"}
        assert dict(store.collection("items")) == {"published": 1, "journalled": 2}
    assert (place / "journals" / foreign.name).exists()
    assert (place / "journals" / "rubbish").exists()


def test_a_copied_store_reads_and_seals_its_own_copies(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with keepstone.open(place) as store:
        store.collection("items")["living"] = 3
        shutil.copytree(place, copy)
        with keepstone.open(copy) as second:
            assert dict(second.collection("items")) == {"published": 1, "journalled": 2, "living": 3}
            second.collection("items")["only in the copy"] = 4
            second.recover()
            assert second.stats().journals == 0
            assert second.fsck(read_data=True).ok
        assert dict(store.collection("items")) == {"published": 1, "journalled": 2, "living": 3}
        store.collection("items")["living"] = 5
    with keepstone.open(place) as store:
        store.recover()
        assert store.collection("items")["living"] == 5


def test_a_moved_store_goes_on(place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "store"
    moved.parent.mkdir()
    place.rename(moved)
    with keepstone.open(moved) as store:
        assert store.recover().journals == 1
        assert dict(store.collection("items")) == {"published": 1, "journalled": 2}


def put_at(place: Path, shift_ns: int, key: str, value: object) -> None:
    """Set a key in a process of its own whose clock is wrong by `shift_ns`."""

    def work() -> None:
        import time

        store = keepstone.open(place)
        store.repository.session.clock.now_ns = lambda: time.time_ns() + shift_ns
        store.collection("items", durability="process")[key] = value

    dead(work)


def test_the_later_put_wins_after_the_clock_went_back_in_one_process(place: Path) -> None:
    with keepstone.open(place) as store:
        items = store.collection("items")
        items["k"] = "before"
        now = store.repository.session.clock.now_ns
        store.repository.session.clock.now_ns = lambda: now() - 30 * HOUR_NS
        items["k"] = "after"
        assert items["k"] == "after"
        store.flush()
        assert items["k"] == "after"


def test_the_later_put_wins_after_the_clock_went_back_between_processes(place: Path) -> None:
    put_at(place, HOUR_NS // 2, "k", "before")
    put_at(place, 0, "k", "after")
    put_at(place, -HOUR_NS // 4, "k", "last")
    with keepstone.open(place) as store:
        assert store.collection("items")["k"] == "last"
        store.recover()
        assert store.collection("items")["k"] == "last"
    put_at(place, -30 * HOUR_NS, "k", "really")
    with keepstone.open(place) as store:
        assert store.collection("items")["k"] == "really"


def test_a_clock_in_2099_drags_no_other_clock_along(place: Path) -> None:
    years = 73 * 365 * 24 * HOUR_NS
    put_at(place, years, "far", "future")
    with keepstone.open(place) as store:
        items = store.collection("items")
        items["mine"] = "now"
        session = store.repository.session
        assert items["far"] == "future"
        assert session.clock.stamp() < session.clock.now_ns() + HOUR_NS
        store.recover()
        assert dict(items)["mine"] == "now"
        assert dict(items)["far"] == "future"
        assert session.clock.stamp() < session.clock.now_ns() + HOUR_NS


def open_at(place: Path, shift_ns: int) -> keepstone.Store:
    """Open a store with a clock that is wrong by `shift_ns` from the beginning; for a process of its own."""
    import time

    Clock.__init__.__defaults__ = (lambda: time.time_ns() + shift_ns,)
    return keepstone.open(place)


@pytest.mark.parametrize("published", [False, True], ids=["in a journal", "in a pack"])
def test_a_clock_that_is_hours_late_hides_nothing_that_it_sets(tmp_path: Path, published: bool) -> None:
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.collection("items").update(dict.fromkeys("abcd", "before"))
        store.save("model", 1)
        store.save("model", 2)
        if published:
            store.flush()

    def late() -> None:
        store = open_at(place, -5 * HOUR_NS)
        items = store.collection("items", durability="process")
        items["a"] = "after"
        assert items["a"] == "after"
        items.add_many({"b": "after", "new": "after"})
        del items["c"]
        assert "c" not in items
        items["d"] = LARGE
        assert items["d"] == LARGE
        store.remove("model@v1")

    dead(late)

    expected = {"a": "after", "b": "after", "d": LARGE, "new": "after"}
    with keepstone.open(place) as store:
        assert dict(store.collection("items")) == expected
        store.recover()
        assert dict(store.collection("items")) == expected
        assert [version.number for version in store.versions("model")] == [2]


def test_what_a_clock_in_2099_set_can_be_set_again(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with keepstone.open(place):
        pass
    put_at(place, 73 * 365 * 24 * HOUR_NS, "far", "future")
    with keepstone.open(place) as store:
        items = store.collection("items")
        items["far"] = "now"
        assert items["far"] == "now"
        items["mine"] = 1
        store.flush()
        assert items["far"] == "now"
        del items["far"]
    with keepstone.open(place) as store:
        session = store.repository.session
        assert dict(store.collection("items")) == {"mine": 1}
        assert session.clock.stamp() < session.clock.now_ns() + HOUR_NS
        mine = session.peek("items", "mine")
        assert mine is not None
        assert mine.stamp < session.clock.now_ns() + HOUR_NS
