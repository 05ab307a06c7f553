"""Writing journals: born locked, one sync for many, and failures that cost nothing acknowledged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.blobs.conftest import item
from tests.blobs.test_journal import contents, opened
from tests.faults.processes import needs_fork
from tests.storage.faulty_calls import FaultyCalls

from keepstone.blobs.journal_writer import Journal, JournalFinished
from keepstone.blobs.spool import Spool, Ticket
from keepstone.foundation.clock import Clock
from keepstone.foundation.errors import StorageError, StorageFullError
from keepstone.storage.calls import Calls

MakeSpool = Callable[..., Spool]
SOURCE = Path(__file__).resolve().parents[2] / "src"


class Tracing(Calls):
    """Remembers the calls of a birth, and whether others could lock what has a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[str] = []
        self.named_early: list[str] = []

    def try_lock(self, fd: int) -> bool:
        self.seen.append("lock")
        self.named_early += [name for name in os.listdir(self.folder) if not name.startswith(".")]
        return super().try_lock(fd)

    def fsync(self, fd: int) -> None:
        self.seen.append("fsync")
        super().fsync(fd)

    def rename(self, source: str, target: str, *, folder: int) -> None:
        super().rename(source, target, folder=folder)
        self.seen.append("name")
        other = os.open(self.folder / target, os.O_RDWR)
        self.seen.append("taken" if not Calls().try_lock(other) else "free")
        os.close(other)


def test_a_journal_is_locked_and_synced_before_it_has_a_name(make_spool: MakeSpool, tmp_path: Path) -> None:
    calls = Tracing(tmp_path / "journals")

    make_spool(calls).append("answers", [item("a", b"1")])

    # The folder itself may be made, and brought to disk, before.
    assert calls.seen[-5:] == ["lock", "fsync", "name", "taken", "fsync"]
    assert calls.named_early == []


def test_locks_are_only_ever_given_back_by_closing() -> None:
    found = [
        path
        for path in SOURCE.rglob("*.py")
        if "fcntl.LOCK_UN" in path.read_text() or "lockf(" in path.read_text()
    ]

    assert found == []


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_whatever_call_of_a_birth_fails_nothing_is_left(
    make_spool: MakeSpool, tmp_path: Path, error: int
) -> None:
    for k in range(1, 100):
        folder = tmp_path / str(k)
        calls = FaultyCalls(fail_at=k, error=error)
        spool = make_spool(calls, folder)
        try:
            spool.append("answers", [item("a", b"1")])
        except StorageError:
            names = os.listdir(folder) if folder.exists() else []
            for name in names:
                assert opened(folder / name).empty
        if not calls.failed:
            break
        spool.append("answers", [item("b", b"2")])
        spool.let_go()
    assert k > 6


def test_many_waiting_threads_share_one_sync(make_spool: MakeSpool) -> None:
    calls = FaultyCalls()
    spool = make_spool(calls)
    spool.append("answers", [item("first", b"")])
    appended = threading.Semaphore(0)
    real = calls.fdatasync
    made: list[int] = []

    def held_back(fd: int) -> None:
        # The first that waits syncs only when all have appended and wait for a sync of their own.
        if not made:
            for _ in range(8):
                assert appended.acquire(timeout=30)
        made.append(fd)
        real(fd)

    calls.fdatasync = held_back  # pyright: ignore

    def work(number: int) -> None:
        end = spool.append("answers", [item(f"{number}", b"x")])
        appended.release()
        spool.sync(end)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # One for the first, which began before the others had appended, and one for all of them together.
    assert len(made) <= 2
    assert len(spool.rows("answers")) == 9


def test_a_sync_covers_what_was_appended_before_it_and_counts_when_it_has_ended(
    make_spool: MakeSpool,
) -> None:
    calls = FaultyCalls()
    spool = make_spool(calls)
    first = spool.append("answers", [item("first", b"")])
    journal = first.journal
    late: list[Ticket] = []
    covered_during: list[int] = []
    real = calls.fdatasync

    def interrupted_by_an_append(fd: int) -> None:
        covered_during.append(journal.synced)
        real(fd)
        if not late:
            late.append(spool.append("answers", [item("late", b"x")]))

    calls.fdatasync = interrupted_by_an_append  # pyright: ignore

    spool.sync(first)

    assert covered_during[0] < first.offset <= journal.synced < late[0].offset
    spool.sync(late[0])
    assert len(covered_during) == 2


def test_what_is_synced_is_not_synced_again(make_spool: MakeSpool) -> None:
    calls = FaultyCalls()
    spool = make_spool(calls)
    first = spool.append("answers", [item("a", b"1")])
    second = spool.append("answers", [item("b", b"2")])

    spool.sync(second)
    spool.sync(first)
    spool.sync(second)

    assert sum(name == "fdatasync" for name, _ in calls.made) == 1


@pytest.mark.parametrize("bytes_max", [1, 7, 100])
def test_short_writes_are_completed(make_spool: MakeSpool, bytes_max: int) -> None:
    spool = make_spool(FaultyCalls(write_bytes_max=bytes_max))
    for key in "abc":
        ticket = spool.append("answers", [item(key, key.encode() * 50)])
    spool.let_go()

    assert contents(opened(ticket.journal.path)) == [(key, key.encode() * 50) for key in "abc"]


@pytest.mark.parametrize("cut_also_fails", [False, True])
def test_a_full_disk_fails_one_append_and_not_the_next(make_spool: MakeSpool, cut_also_fails: bool) -> None:
    calls = FaultyCalls(write_bytes_max=50)
    spool = make_spool(calls)
    spool.append("answers", [item("before", b"1")])
    real_write, real_cut = calls.write, calls.ftruncate
    left = [2]

    def full(fd: int, data: bytes) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        return real_write(fd, data)

    def cut(fd: int, size: int) -> None:
        if cut_also_fails:
            raise OSError(errno.EIO, "Input/output error")
        real_cut(fd, size)

    calls.write, calls.ftruncate = full, cut  # pyright: ignore
    with pytest.raises(StorageFullError) as caught:
        spool.append("answers", [item("lost", b"2" * 500)])
    calls.write, calls.ftruncate = real_write, real_cut  # pyright: ignore
    ticket = spool.append("answers", [item("after", b"3")])
    spool.let_go()

    assert caught.value.needed > 500
    assert str(ticket.journal.path) in caught.value.path
    journal = opened(ticket.journal.path)
    assert contents(journal) == [("before", b"1"), ("after", b"3")]
    assert journal.damage == []
    assert "lost" not in ticket.journal.rows["answers"]


def test_an_interrupted_append_counts_whole_and_once(make_spool: MakeSpool) -> None:
    calls = Calls()
    spool = make_spool(calls)
    spool.append("answers", [item("before", b"1")])
    real = calls.write

    def interrupted(fd: int, data: bytes) -> int:
        real(fd, data)
        raise KeyboardInterrupt

    calls.write = interrupted  # pyright: ignore
    with pytest.raises(KeyboardInterrupt):
        spool.append("answers", [item("interrupted", b"2")])
    calls.write = real  # pyright: ignore
    ticket = spool.append("answers", [item("after", b"3")])
    spool.let_go()

    assert contents(opened(ticket.journal.path)) == [("before", b"1"), ("interrupted", b"2"), ("after", b"3")]
    assert set(ticket.journal.rows["answers"]) == {"before", "interrupted", "after"}


def test_nothing_is_appended_behind_the_end_mark(make_spool: MakeSpool) -> None:
    spool = make_spool()
    journal = spool.append("answers", [item("a", b"1")]).journal
    journal.finish()

    with pytest.raises(JournalFinished):
        journal.append(Clock(), "answers", [item("b", b"2")])
    later = spool.append("answers", [item("b", b"2")])

    assert later.journal is not journal
    assert opened(journal.path).final


def test_a_failing_sync_moves_everything_to_a_new_journal(make_spool: MakeSpool) -> None:
    calls = FaultyCalls(fail_at=1, error=errno.EIO, only=("fdatasync",))
    spool = make_spool(calls)
    spool.append("answers", [item("a", b"1"), item("b", b"2")])
    ticket = spool.append("answers", [item("a", None)])

    spool.sync(ticket)

    successor = next(journal for journal in spool.journals() if journal is not ticket.journal)
    assert isinstance(successor, Journal)
    assert successor.synced == successor.end
    assert {row.key: row.digest is None for _, row in successor.all_rows()} == {"a": True, "b": False}
    stamps = {row.key: row.stamp for _, row in ticket.journal.all_rows()}
    assert {row.key: row.stamp for _, row in successor.all_rows()} == stamps
    synced = [args[0] for name, args in calls.made if name == "fdatasync"]
    assert len(synced) == 2


def test_a_sync_that_fails_for_good_is_an_error_for_everybody(make_spool: MakeSpool) -> None:
    spool = make_spool(FaultyCalls(fail_at=1, error=errno.EIO, forever=True, only=("fdatasync",)))
    first = spool.append("answers", [item("a", b"1")])
    second = spool.append("answers", [item("b", b"2")])

    for ticket in (first, second):
        with pytest.raises(StorageError):
            spool.sync(ticket)


def test_nobody_is_told_of_a_sync_that_failed_for_another_thread(make_spool: MakeSpool) -> None:
    calls = FaultyCalls(fail_at=1, error=errno.EIO, only=("fdatasync",))
    spool = make_spool(calls)
    tickets = [spool.append("answers", [item(str(i), b"x")]) for i in range(6)]
    gate = threading.Barrier(6)
    durable: list[bool] = []

    def work(i: int) -> None:
        gate.wait()
        spool.sync(tickets[i])
        row = spool.find("answers", str(i))
        homes = [j for j in spool.journals() if isinstance(j, Journal) and j.synced == j.end]
        durable.append(row is not None and any(str(i) in j.rows.get("answers", {}) for j in homes))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert durable == [True] * 6


@needs_fork
def test_a_fork_leaves_the_lock_and_the_journal_to_the_parent(make_spool: MakeSpool, tmp_path: Path) -> None:
    script = """
import os, sys
from tests.blobs.conftest import STORE_ID, item
from pathlib import Path
from keepstone.blobs.spool import Spool
from keepstone.foundation.clock import Clock
from keepstone.storage.calls import Calls
def make():
    return Spool(Path(sys.argv[1]), store_id=STORE_ID, location="x", host="host", clock=Clock(), calls=Calls())
spool = make()
journal = spool.append("answers", [item("parent", b"1")]).journal
child = os.fork()
if child == 0:
    spool.after_fork()
    mine = spool.append("answers", [item("child", b"2")]).journal
    assert mine.name != journal.name and mine.header.writer != journal.header.writer
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert [adopted.journal.name for adopted in make().adopt()] != [journal.name], "the parent's lock was lost"
spool.append("answers", [item("parent again", b"3")])
assert set(journal.rows["answers"]) == {"parent", "parent again"}
os._exit(0)
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "j")], check=True, cwd=root, timeout=60)

    values = {pair for path in (tmp_path / "j").iterdir() for pair in contents(opened(path))}
    assert values == {("parent", b"1"), ("child", b"2"), ("parent again", b"3")}
