"""The journals of one store on one machine: this process's own, and those of its neighbours, living and dead.

Layer: blobs. Format: docs/format.md §5. What any process of this machine appended can be read by all others at once.
A journal that nobody holds locked may be adopted: turned into a pack by whoever takes its lock.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Container, Generator, Iterable
from pathlib import Path
from typing import NamedTuple

from keepstone.blobs.adopting import NEVER_READABLE, Adopted, adopt_free, sweep_unborn
from keepstone.blobs.journal import JournalFile, Row
from keepstone.blobs.journal_header import JournalHeader, read_journal_header
from keepstone.blobs.journal_writer import Journal, JournalFinished
from keepstone.blobs.rescue import OneStamp, removed_by_somebody, write_again
from keepstone.foundation.clock import Clock
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    CorruptionError,
    StorageBusyError,
    StorageError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import JOURNAL_BYTES_TARGET
from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly, translated

UNSEALED_BYTES_MAX = 4 * JOURNAL_BYTES_TARGET
"""All journals of a machine together should stay below it."""
_BIRTHS_MAX = 8

Item = tuple[str, int, bytes | None, Digest | None]
"""(key, form, value, digest); see `Journal.append`."""


class Ticket(NamedTuple):
    """Up to where a journal must be synced for an append to be durable."""

    journal: Journal
    offset: int


class Stranger(NamedTuple):
    """A file among the journals that cannot be used."""

    name: str
    reason: str


class Spool:
    """All journals of a store on this machine; safe to use from many threads."""

    def __init__(
        self,
        folder: Path,
        *,
        store_id: bytes,
        location: str,
        host: str,
        clock: Clock,
        calls: Calls,
        journal_bytes: int = JOURNAL_BYTES_TARGET,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.strangers: tuple[Stranger, ...] = ()
        self._store_id = store_id
        self._location = location
        self._host = host
        self._calls = calls
        self._tip: tuple[int, bytes] = (-1, bytes(32))
        self.on_birth: Callable[[], None] = lambda: None
        """Called whenever a journal of this process begins: what is in it is to be published some time."""
        self.journal_bytes = journal_bytes
        """From this size on a journal is finished and sealed; tests make it small."""
        self._reset()

    def _reset(self) -> None:
        self.writer = os.urandom(8)
        self._lock = threading.RLock()
        self._current: Journal | None = None
        self._own: tuple[Journal, ...] = ()
        self._foreign: dict[str, JournalFile] = {}
        self._rescued: set[str] = set()
        """Journals whose sync failed and whose content is durable in another."""
        self._full_bytes = self.journal_bytes

    def after_fork(self) -> None:
        """In a forked child: leave the parent's journals to it, and begin afresh."""
        self._reset()

    def note_tip(self, number: int, tip_hash: bytes) -> None:
        """Remember the newest commit that survives power loss, for the header of the next journal."""
        self._tip = (number, tip_hash)

    # ---- appending ---------------------------------------------------------------------------------------------------

    def append(self, collection: str, items: list[Item]) -> Ticket:
        """Append `items` to this process's journal; they survive `kill -9` when this returns."""
        while True:
            journal = self._current or self._begin()
            try:
                return Ticket(journal, journal.append(self.clock, collection, items))
            except JournalFinished:
                self._succeed(journal)

    def append_value(self, collection: str, key: str, form: int, value: bytes, digest: Digest) -> Ticket:
        """Append one value, as `append` does."""
        while True:
            journal = self._current or self._begin()
            try:
                return Ticket(journal, journal.append_value(self.clock, collection, key, form, value, digest))
            except JournalFinished:
                self._succeed(journal)

    def _succeed(self, journal: Journal) -> None:
        with self._lock:
            if self._current is journal:
                self._current = None

    def _begin(self) -> Journal:
        with self._lock:
            if self._current is not None:
                return self._current
            for attempt in range(_BIRTHS_MAX):
                header = JournalHeader(
                    store_id=self._store_id,
                    location=self._location,
                    host=self._host,
                    journal_id=os.urandom(16),
                    writer=self.writer,
                    tip=self._tip[0],
                    tip_hash=self._tip[1],
                    created=time.time_ns(),
                )
                try:
                    journal = Journal.create(self.folder, header, self._calls)
                except (StorageBusyError, FileNotFoundError) as error:
                    # A neighbour swept the unborn file away, which is harmless: nothing was in it.
                    if attempt < _BIRTHS_MAX - 1:
                        continue
                    if isinstance(error, StorageError):
                        raise
                    raise translated(
                        error, "begin a journal in", str(self.folder), advice=self._calls.advice
                    ) from error
                self._own = (*self._own, journal)
                self._current = journal
                self.on_birth()
                return journal
            raise AssertionError("unreachable")

    def sync(self, ticket: Ticket) -> None:
        """Return when what `ticket` stands for survives power loss.

        A journal whose sync fails is never synced again: what it holds is read back, checked and written to a new one.

        Raises:
            StorageError: it could not be made durable anywhere.
        """
        try:
            ticket.journal.sync(ticket.offset)
        except OSError as error:
            self._rescue(ticket.journal, error)

    def _rescue(self, journal: Journal, error: OSError) -> None:
        with self._lock:
            # All who wait for this journal come here one after the other; the first does the work for all.
            if journal.name not in self._rescued:
                self._rewrite(journal, error)
                self._rescued.add(journal.name)

    def _rewrite(self, journal: Journal, error: OSError) -> None:
        if self._current is journal:
            self._current = None
        journal.abandon()
        try:
            write_again(self, journal)
        except (OSError, CorruptionError) as second:
            raise translated(error, "sync", str(journal.path), advice=self._calls.advice) from second

    def append_as(self, collection: str, item: Item, stamp: int) -> Ticket:
        """Append an item with a stamp that is given."""
        while True:
            journal = self._current or self._begin()
            try:
                return Ticket(journal, journal.append(OneStamp(stamp), collection, [item]))
            except JournalFinished:
                self._succeed(journal)

    @property
    def unsealed_bytes(self) -> int:
        """Bytes in this process's current journal."""
        return self._current.end if self._current else 0

    @property
    def is_full(self) -> bool:
        """Whether the current journal should be sealed: at 64 MiB, or earlier where many processes write."""
        journal = self._current
        return journal is not None and journal.end >= self._full_bytes

    def finish(self) -> set[str]:
        """Finish the current journal, so that anybody may adopt it; return the names of all that wait to be sealed.

        What other threads append from now on goes to a new journal, whose name is not among them.
        """
        with self._lock:
            self._current = None
            waiting = {journal.name for journal in self._own if not journal.empty}
            # All that are open: an interrupt may have left one behind that is not the current one any more.
            unfinished = [journal for journal in self._own if journal.is_open]
        for journal in unfinished:
            try:
                journal.finish()
            except StorageError:
                raise
            except OSError as error:
                raise translated(error, "finish", str(journal.path), advice=self._calls.advice) from error
        return waiting

    def let_go(self) -> None:
        """Free the current journal for adoption without marking its end: a small one, at close."""
        with self._lock:
            self._current = None
            for journal in self._own:
                journal.abandon()

    def own_names(self) -> set[str]:
        """Return the names of this process's journals that are not sealed yet."""
        return {journal.name for journal in self._own if not journal.empty}

    def close_files(self) -> None:
        """Let go of all journals and of what was opened to read them; the next refresh opens what it needs again."""
        self.let_go()
        with self._lock:
            self._own, self._foreign = (), {}

    def own_bytes(self) -> int:
        """Return the bytes in this process's journals that are not sealed yet."""
        return sum(journal.end for journal in self._own)

    def sync_all(self) -> None:
        """Bring everything that this process appended to disk."""
        journal = self._current
        if journal is not None:
            self.sync(Ticket(journal, journal.end))

    # ---- reading -----------------------------------------------------------------------------------------------------

    @property
    def has_journals(self) -> bool:
        """Whether any journal is known."""
        return bool(self._own or self._foreign)

    def find(self, collection: str, key: str) -> Row | None:
        """Return the newest known row of a key in any journal; reads nothing from disk."""
        best: Row | None = None
        for journal in self._own:
            rows = journal.rows.get(collection)
            row = rows.get(key) if rows else None
            if row is not None and (best is None or _order(row) > _order(best)):
                best = row
        if self._foreign:
            for journal in tuple(self._foreign.values()):
                rows = journal.rows.get(collection)
                row = rows.get(key) if rows else None
                if row is not None and (best is None or _order(row) > _order(best)):
                    best = row
        return best

    def rows(self, collection: str) -> dict[str, Row]:
        """Return the newest known row of each key of a collection, tombstones among them."""
        merged: dict[str, Row] = {}
        for journal in self.journals():
            for key, row in list(journal.rows.get(collection, {}).items()):
                known = merged.get(key)
                if known is None or _order(row) > _order(known):
                    merged[key] = row
        return merged

    def collections(self) -> set[str]:
        """Return the collections that have rows in a journal."""
        return {name for journal in self.journals() for name in list(journal.rows)}

    def journals(self) -> list[JournalFile]:
        """Return all journals that are known now."""
        return [*self._own, *self._foreign.values()]

    def refresh(self) -> frozenset[str]:
        """Read what neighbours appended; return the names of journals that are gone: their commits are in the log.

        The gone ones still answer until `forget`: first the log must have been read.
        """
        with self._lock:
            listed = self._list()
            own = {journal.name for journal in self._own}
            for name in listed:
                if name not in own and name not in self._foreign:
                    self._open_foreign(name)
            for journal in self._foreign.values():
                journal.poll()
                # Above all that was seen, so that what is set later wins, also after a clock was set back.
                self.clock.follow(journal.stamp_max)
            known = own | set(self._foreign)
            self._full_bytes = min(self.journal_bytes, UNSEALED_BYTES_MAX // max(1, len(known)))
            return frozenset(known - listed)

    def _list(self, folder: Path | None = None) -> set[str]:
        path = str(folder or self.folder)
        try:
            return {e.name for e in self._calls.scandir(path) if not e.name.startswith(".")}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise translated(error, "list", path, advice=self._calls.advice) from error

    def _open_foreign(self, name: str) -> None:
        path = str(self.folder / name)
        if any(stranger.name == name for stranger in self.strangers):
            return
        try:
            descriptor = self._calls.open(path, platform.OPEN_READ)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in NEVER_READABLE:
                # Passing over it would report its keys as missing.
                raise translated(error, "open", path, advice=self._calls.advice) from error
            self.strangers = (*self.strangers, Stranger(name, f"cannot be opened: {error.strerror}"))
            return
        try:
            header, end = read_journal_header(name, descriptor, self._calls)
            if header.store_id != self._store_id:
                raise CorruptionError("belongs to another store")
        except (CorruptionError, UnsupportedFormatError) as error:
            close_quietly(self._calls, descriptor)
            self.strangers = (*self.strangers, Stranger(name, str(error)))
            return
        except OSError as error:
            close_quietly(self._calls, descriptor)
            raise translated(error, "read", path, advice=self._calls.advice) from error
        self._foreign[name] = JournalFile(name, descriptor, header, end, self._calls)

    def note_stranger(self, name: str, reason: str) -> None:
        """Remember a journal that is not used, for `recover` to tell."""
        with self._lock:
            if all(stranger.name != name for stranger in self.strangers):
                self.strangers = (*self.strangers, Stranger(name, reason))

    def forget(self, gone: Iterable[str]) -> None:
        """Drop journals whose entries are found in packs now."""
        with self._lock:
            names = set(gone)
            for name in names:
                self._foreign.pop(name, None)
            for journal in self._own:
                if journal.name in names:
                    journal.abandon()
                    if journal is self._current:
                        self._current = None
            self._own = tuple(journal for journal in self._own if journal.name not in names)

    def rescue_removed(self, gone: Iterable[str], sealed: Container[bytes]) -> bool:
        """Write again what was in own journals that are gone and in no commit; return whether there were any.

        Raises:
            StorageError: it could not be made durable anywhere; nothing is forgotten.
        """
        with self._lock:
            removed = removed_by_somebody(self._own, frozenset(gone), sealed)
            for journal in removed:
                self._rewrite(journal, FileNotFoundError(errno.ENOENT, "somebody removed the journal"))
            return bool(removed)

    # ---- adopting ----------------------------------------------------------------------------------------------------

    def adopt(self, folder: Path | None = None) -> Generator[Adopted]:
        """Yield every journal that nobody holds, locked by this process from then on; `release` each.

        `folder` is that of another machine, where its locks may be unknown here; None is one's own.
        """
        finished = {journal.name: journal for journal in self._own if journal.final}
        names = sorted(self._list(folder))
        return adopt_free(folder or self.folder, names, self._store_id, finished, self._calls)

    def sweep(self) -> int:
        """Remove unborn journals that a crash left; return how many."""
        return sweep_unborn(self.folder, self._calls)


def _order(row: Row) -> tuple[int, bytes]:
    return row.stamp, row.writer
