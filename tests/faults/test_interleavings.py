"""Two threads in the one order that once went wrong, held there by the system calls that they make."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.blobs.conftest import STORE_ID, item
from tests.blobs.test_journal import contents, opened

import keepstone
from keepstone.blobs.spool import Spool
from keepstone.foundation.clock import Clock
from keepstone.storage.calls import Calls
from keepstone.storage.local import LocalStorage

SECONDS_MAX = 30.0


class Staged(Calls):
    """Runs `before[name]` once, in front of the next call of that name."""

    def __init__(self) -> None:
        self.before: dict[str, Callable[[], None]] = {}

    def _stage(self, name: str) -> None:
        act = self.before.pop(name, None)
        if act is not None:
            act()

    def fdatasync(self, fd: int) -> None:
        self._stage("fdatasync")
        super().fdatasync(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._stage("pread")
        return super().pread(fd, size, offset)

    def unlink(self, name: str, *, dir_fd: int | None = None) -> None:
        self._stage("unlink")
        super().unlink(name, dir_fd=dir_fd)


def spool_of(folder: Path, calls: Calls) -> Spool:
    return Spool(folder, store_id=STORE_ID, location=str(folder), host="host", clock=Clock(), calls=calls)


class Thread(threading.Thread):
    """A thread whose end, and error, are asked for."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    def wait_until_in(self, function: str) -> None:
        """Return when the thread waits in the function of that name, or has ended."""
        deadline = time.monotonic() + SECONDS_MAX
        while self.is_alive():
            frame = sys._current_frames().get(self.ident or 0)
            if frame is not None and frame.f_code.co_name == function:
                return
            assert time.monotonic() < deadline, f"never came to {function}"

    def require_done(self) -> None:
        self.join(SECONDS_MAX)
        assert not self.is_alive(), "hangs"
        if self.error is not None:
            raise self.error


def test_who_waits_behind_a_sync_that_fails_is_not_told_that_it_succeeded(tmp_path: Path) -> None:
    calls = Staged()
    spool = spool_of(tmp_path / "journals", calls)
    first = spool.append("answers", [item("first", b"1")])
    second = spool.append("answers", [item("second", b"2")])

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    calls.before["fdatasync"] = fail
    # Nobody can move what they hold to another journal yet: the second one meets the one whose sync has failed.
    with spool._lock:  # pyright: ignore[reportPrivateUsage]
        threads = [Thread(lambda: spool.sync(first))]
        threads[0].wait_until_in("_rescue")
        threads.append(Thread(lambda: spool.sync(second)))
        threads[1].wait_until_in("_rescue")
        assert threads[1].is_alive(), (
            "a second sync of the same file says nothing about what the first one lost"
        )
    for thread in threads:
        thread.require_done()

    successor = next(journal for journal in spool.journals() if journal is not first.journal)
    assert {row.key for _, row in successor.all_rows()} == {"first", "second"}


def test_a_journal_is_not_closed_while_a_thread_syncs_it(tmp_path: Path) -> None:
    calls = Staged()
    spool = spool_of(tmp_path / "journals", calls)
    ticket = spool.append("answers", [item("a", b"1")])
    finisher: list[Thread] = []
    open_while_syncing: list[bool] = []

    def rotate() -> None:
        finisher.append(Thread(lambda: ticket.journal.finish()))
        finisher[0].wait_until_in("finish")
        # Were it closed under the sync, its number would be another file's by now.
        open_while_syncing.append(ticket.journal.is_open)

    calls.before["fdatasync"] = rotate
    spool.sync(ticket)
    finisher[0].require_done()

    assert open_while_syncing == [True]
    assert opened(ticket.journal.path).final


def test_who_comes_to_sync_a_journal_that_was_finished_meanwhile_touches_no_file(tmp_path: Path) -> None:
    calls = Staged()
    spool = spool_of(tmp_path / "journals", calls)
    ticket = spool.append("answers", [item("a", b"1")])
    spool.finish()
    # The descriptor's number is taken again at once.
    other = os.open(tmp_path, os.O_RDONLY)
    touched: list[str] = []
    calls.before["fdatasync"] = lambda: touched.append("synced")

    spool.sync(ticket)
    os.close(other)

    assert touched == []
    assert contents(opened(ticket.journal.path)) == [("a", b"1")]


def test_flush_does_not_wait_for_what_others_append_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Staged()
    monkeypatch.setattr("keepstone.storage.local.Calls", lambda: calls)
    with keepstone.open(tmp_path / "store") as store:
        items = store.collection("items", durability="process")
        items["before"] = 1
        appended: list[int] = []

        def append_again() -> None:
            # As often as flush removes what it has sealed, another journal stands there.
            Thread(lambda: items.__setitem__(f"meanwhile {len(appended)}", 2)).require_done()
            appended.append(len(appended))
            calls.before["unlink"] = append_again

        calls.before["unlink"] = append_again
        flushing = Thread(store.flush)
        flushing.require_done()
        calls.before.clear()

        assert len(appended) == 1
        assert len(store.repository.session.spool.own_names()) == 1
        assert items["before"] == 1
        assert items["meanwhile 0"] == 2


def test_a_reader_never_reads_the_file_that_took_its_descriptor_s_number(tmp_path: Path) -> None:
    calls = Staged()
    storage = LocalStorage(tmp_path, calls=calls)
    storage.write_new("packs/aa/mine", b"mine" * 100)
    storage.write_new("packs/bb/other", b"other" * 100)
    assert storage.read_range("packs/aa/mine", 0, 4) == b"mine"
    others: list[int] = []

    def drop_and_reopen() -> None:
        # The reader has its descriptor and is about to read; now the file is let go of, and others are opened.
        Thread(lambda: storage.delete("packs/aa/mine")).require_done()
        others.extend(os.open(tmp_path / "packs/bb/other", os.O_RDONLY) for _ in range(20))

    calls.before["pread"] = drop_and_reopen
    read = storage.read_range("packs/aa/mine", 4, 8)
    for descriptor in others:
        os.close(descriptor)

    assert read == b"mine"
    assert len(others) == 20
