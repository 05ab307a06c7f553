"""All journals of a store on one machine: seen by all at once, adopted by one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.blobs.conftest import item
from tests.blobs.test_journal import contents

from keepstone.blobs.adopting import release
from keepstone.blobs.spool import Spool
from keepstone.storage.calls import Calls

MakeSpool = Callable[..., Spool]


def adopted_names(spool: Spool) -> list[str]:
    found = list(spool.adopt())
    for adopted in found:
        release(adopted, Calls(), remove=False)
    return [adopted.path.name for adopted in found]


def test_what_one_process_appends_all_others_see(make_spool: MakeSpool) -> None:
    writer, reader = make_spool(), make_spool()
    writer.append("answers", [item("a", b"1")])
    reader.refresh()
    row = reader.find("answers", "a")
    assert row is not None
    assert row.journal.read_value(row) == b"1"

    writer.append("answers", [item("a", b"2"), item("b", b"3")])
    reader.refresh()

    assert {key: row.journal.read_value(row) for key, row in reader.rows("answers").items()} == {
        "a": b"2",
        "b": b"3",
    }
    assert reader.collections() == {"answers"}


def test_the_newest_of_several_journals_wins(make_spool: MakeSpool) -> None:
    spools = [make_spool() for _ in range(3)]
    for i, spool in enumerate(spools):
        spool.append("answers", [item("a", str(i).encode())])
    spools[1].append("answers", [item("a", b"newest")])
    for spool in spools:
        spool.refresh()
        row = spool.find("answers", "a")
        assert row is not None
        assert row.journal.read_value(row) == b"newest"


def test_a_removal_hides_older_values_in_other_journals(make_spool: MakeSpool) -> None:
    first, second = make_spool(), make_spool()
    first.append("answers", [item("a", b"1")])
    second.append("answers", [item("a", None)])
    first.refresh()

    row = first.find("answers", "a")
    assert row is not None
    assert row.digest is None


def test_a_journal_in_use_is_not_adopted_and_a_free_one_is(make_spool: MakeSpool) -> None:
    owner, other = make_spool(), make_spool()
    journal = owner.append("answers", [item("a", b"1")]).journal
    assert adopted_names(other) == []
    assert adopted_names(owner) == []

    owner.finish()

    assert adopted_names(other) == [journal.name]


def test_of_two_adopters_one_gets_each_journal(make_spool: MakeSpool) -> None:
    for _ in range(6):
        spool = make_spool()
        spool.append("answers", [item("a", b"1")])
        spool.finish()
    taken: list[str] = []
    held: list[object] = []
    gate = threading.Barrier(2)

    def adopt() -> None:
        spool = make_spool()
        gate.wait()
        for adopted in spool.adopt():
            taken.append(adopted.path.name)
            held.append(adopted)

    threads = [threading.Thread(target=adopt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == len(set(taken)) == 6


def test_adoption_never_takes_a_journal_that_is_being_born(make_spool: MakeSpool, tmp_path: Path) -> None:
    stop = threading.Event()
    removed: dict[str, set[str]] = {}

    def adopt() -> None:
        spool = make_spool()
        while not stop.is_set():
            spool.sweep()
            for adopted in spool.adopt():
                removed[adopted.path.name] = {row.key for _, row in adopted.journal.history}
                release(adopted, Calls(), remove=True)

    adopter = threading.Thread(target=adopt)
    adopter.start()
    acknowledged: dict[str, set[str]] = {}
    end = time.monotonic() + 1.0
    while time.monotonic() < end or len(acknowledged) <= 20:
        owner = make_spool()
        name = owner.append("answers", [item("first", b"1")]).journal.name
        owner.append("answers", [item("second", b"2")])
        acknowledged[name] = {"first", "second"}
        owner.finish()
    stop.set()
    adopter.join()
    last = make_spool()
    for adopted in last.adopt():
        removed[adopted.path.name] = {row.key for _, row in adopted.journal.history}

    assert removed == acknowledged


def test_who_locks_a_journal_that_was_adopted_meanwhile_lets_go(make_spool: MakeSpool) -> None:
    owner = make_spool()
    owner.append("answers", [item("a", b"1")])
    owner.finish()

    class Late(Calls):
        """Between opening and locking, somebody else adopts and removes the journal."""

        def try_lock(self, fd: int) -> bool:
            for name in os.listdir(owner.folder):
                os.unlink(owner.folder / name)
            return super().try_lock(fd)

    assert adopted_names(make_spool(Late())) == []


def test_an_adopted_journal_is_whole_with_its_superseded_items(make_spool: MakeSpool) -> None:
    owner = make_spool()
    pairs = [("a", b"1"), ("a", b"2"), ("b", None)]
    for key, value in pairs:
        owner.append("answers", [item(key, value)])
    owner.let_go()

    (adopted,) = make_spool().adopt()

    assert contents(adopted.journal) == pairs
    release(adopted, Calls(), remove=True)
    assert not adopted.path.exists()


def test_a_cut_journal_is_adopted_at_every_length(make_spool: MakeSpool, tmp_path: Path) -> None:
    owner = make_spool(folder=tmp_path / "whole")
    ends = [owner.append("answers", [item(str(i), b"v" * i)]).offset for i in range(4)]
    journal = owner.append("answers", [item("last", b"")]).journal
    owner.let_go()
    data = journal.path.read_bytes()
    first = journal.path.stat().st_size - len(data)
    for size in range(first, len(data), 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / journal.name).write_bytes(data[:size])
        found = [
            row.key for adopted in make_spool(folder=folder).adopt() for _, row in adopted.journal.history
        ]
        assert found == [str(i) for i, end in enumerate(ends) if end <= size]


def test_a_journal_of_another_store_is_left_alone_and_named(make_spool: MakeSpool) -> None:
    stranger = make_spool(store_id=b"another store id")
    stranger.append("answers", [item("a", b"1")])
    stranger.finish()
    spool = make_spool()

    spool.refresh()

    assert [s.reason for s in spool.strangers] == ["belongs to another store"]
    assert spool.find("answers", "a") is None
    assert adopted_names(spool) == []


def test_a_file_that_is_no_journal_is_named_once(make_spool: MakeSpool, tmp_path: Path) -> None:
    spool = make_spool()
    spool.append("answers", [item("a", b"1")])
    (tmp_path / "journals" / "notes.txt").write_text("mine")

    spool.refresh()
    spool.refresh()

    assert [s.name for s in spool.strangers] == ["notes.txt"]


def test_a_journal_that_is_gone_answers_until_it_is_forgotten(make_spool: MakeSpool) -> None:
    owner, reader = make_spool(), make_spool()
    journal = owner.append("answers", [item("a", b"1")]).journal
    owner.finish()
    reader.refresh()
    journal.path.unlink()

    gone = reader.refresh()

    assert gone == {journal.name}
    row = reader.find("answers", "a")
    assert row is not None
    assert row.journal.read_value(row) == b"1"
    reader.forget(gone)
    assert reader.find("answers", "a") is None


def test_unborn_journals_are_swept_only_when_nobody_holds_them(make_spool: MakeSpool, tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    folder.mkdir()
    (folder / ".tmp-dead").write_bytes(b"half")
    living = os.open(folder / ".tmp-alive", os.O_RDWR | os.O_CREAT)
    assert Calls().try_lock(living)

    assert make_spool().sweep() == 1

    os.close(living)
    assert [path.name for path in folder.iterdir()] == [".tmp-alive"]


def test_a_spool_without_a_folder_is_empty(make_spool: MakeSpool) -> None:
    spool = make_spool()

    assert spool.refresh() == frozenset()
    assert list(spool.adopt()) == []
    assert spool.sweep() == 0
    assert spool.collections() == set()
