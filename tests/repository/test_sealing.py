"""Journals and what is made of them: when items are on disk, what packs carry, and when journals may go."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path

import pytest
from tests.faults.processes import dead

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import StorageError
from keepstone.foundation.format import Origin, log_key
from keepstone.repository.entries import pack_place
from keepstone.repository.merging import merge


def test_a_sealed_pack_carries_the_value_of_every_entry_in_it(store: Store) -> None:
    store.save("artifact", b"the same bytes")
    store.collection("c")["k"] = b"the same bytes"
    store.flush()

    session = store.repository.session
    packs = [pack for pack in session.log.state.packs.values() if pack.record.origin == Origin.JOURNAL]
    found = [row for pack in packs for row in session.blobs.index(pack_place(pack)).entries("c")]
    assert [entry.key for entry, _ in found] == ["k"]
    assert all(position >= 0 for _, position in found)


def test_a_journal_whose_commit_fails_stays(folder: Path) -> None:
    with keepstone.open(folder) as store:
        store.collection("c")["k"] = 1
        calls = store.repository.session.calls
        real = calls.link_open, calls.link

        def no_commit(source: int | str, target: str, *, folder: int) -> None:
            if target.isdigit():
                raise OSError(errno.EIO, "as a failing disk says")
            real[isinstance(source, str)](source, target, folder=folder)  # pyright: ignore[reportArgumentType]

        calls.link_open = calls.link = no_commit
        with pytest.raises(StorageError):
            store.flush()
        left = [path.name for path in (folder / "journals").iterdir() if not path.name.startswith(".")]
        calls.link_open, calls.link = real

        assert left
        store.flush()
    with keepstone.open(folder) as store:
        assert store.collection("c")["k"] == 1


def test_an_item_is_on_disk_when_the_call_returns(store: Store) -> None:
    calls = store.repository.session.calls
    real, synced = calls.fdatasync, list[int]()
    calls.fdatasync = lambda fd: synced.append(fd) or real(fd)  # pyright: ignore

    store.collection("c", durability="process")["k"] = 1
    assert synced == []
    store.collection("c", durability="disk")["k"] = 2
    assert len(synced) == 1


def test_what_was_removed_stays_removed_when_packs_are_merged(store: Store) -> None:
    items = store.collection("c")
    items["k"] = "old"
    items["other"] = 1
    store.flush()
    del items["k"]
    items.update({"more": 2, "still more": 3})
    store.flush()

    assert merge(store.repository.session, packs_min=2) == 2

    assert dict(store.collection("c")) == {"other": 1, "more": 2, "still more": 3}


def test_a_journal_of_another_history_is_left_alone(folder: Path) -> None:
    with keepstone.open(folder) as store:
        store.save("before", 1)
        kept = store.repository.session.log.state.number
        store.save("lost", 2)
    dead(lambda: keepstone.open(folder).collection("c", durability="process").update({"k": 1}))
    journals = [path for path in (folder / "journals").iterdir() if not path.name.startswith(".")]
    # A store put back from an older copy, with its journals left where they were.
    for number in range(kept + 1, kept + 10):
        (folder / log_key(number)).unlink(missing_ok=True)

    with keepstone.open(folder) as store:
        for number in range(10):
            store.save("after", number)
        report = store.recover()

        assert report.journals == 0
        assert [stranger.name for stranger in report.strangers] == [path.name for path in journals]
    assert all(path.exists() for path in journals)


def test_a_journal_that_somebody_removed_is_written_again(folder: Path) -> None:
    with keepstone.open(folder, create=True) as store:
        answers = store.collection("answers")
        answers["a"], answers["b"] = 1, 2
        shutil.rmtree(folder / "journals")
        answers["c"] = 3
        answers.flush()
        assert sum(commit.seals != () for commit in store.repository.history(None)) == 1
    with keepstone.open(folder, mode="r") as store:
        assert dict(store.collection("answers")) == {"a": 1, "b": 2, "c": 3}
        assert store.fsck(read_data=True).ok


def test_a_removed_store_is_not_made_again_by_its_journals(folder: Path) -> None:
    store = keepstone.open(folder, create=True)
    store.collection("answers")["a"] = 1
    shutil.rmtree(folder)
    with contextlib.suppress(keepstone.KeepstoneError):
        store.close()
    assert not folder.exists()
