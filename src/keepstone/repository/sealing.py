"""Sealing: free journals become one pack and one commit, and disappear.

Layer: repository. Sealing is adopting: what a process finished and what a dead one left are treated alike, by whoever
holds the machine's sealing lock. A pack made here carries the blob of every entry that it carries (rule 7); it never
relies on another pack, except for values that were published before their entry was written.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from keepstone.blobs.adopting import Adopted, release
from keepstone.blobs.held import open_locked
from keepstone.blobs.journal import Row
from keepstone.blobs.pack import Pack, PackBuilder
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import INLINE_BYTES_MAX, JOURNAL_BYTES_TARGET, Origin
from keepstone.history.commit import Draft, PackRecord, RefChange
from keepstone.history.state import State
from keepstone.repository.pack_writing import packs_holding, record_of, write_pack
from keepstone.repository.refs import read_name_ref
from keepstone.repository.session import Session
from keepstone.storage import platform
from keepstone.storage.calls import close_quietly, translated

SEALER_FILE: Final = ".sealer"
DAMAGED_SUFFIX: Final = ".damaged"
_ADOPT_BYTES_MAX: Final = 2 * JOURNAL_BYTES_TARGET
"""Journals taken into one commit; bounds memory."""


class SealReport(NamedTuple):
    """What one round of sealing did."""

    journals: int = 0
    entries: int = 0
    commits: int = 0
    skipped: int = 0
    """Items that were torn by a loss of power before their level was reached."""
    damaged: tuple[str, ...] = ()
    """Journals with damage below what had been synced; kept aside, their sound items are in packs."""

    def plus(self, other: SealReport) -> SealReport:
        """Return the sum of two rounds."""
        return SealReport(*(a + b for a, b in zip(self, other, strict=True)))  # pyright: ignore


class _Unsound(NamedTuple):
    journal: Adopted
    skipped: int
    covered: bool


@contextmanager
def sealer_lock(session: Session) -> Generator[bool]:
    """Hold the machine's sealing lock, if nobody else does; yields whether it is held."""
    path = Path(session.spool.folder) / SEALER_FILE
    try:
        lock = open_locked(session.calls, str(path), os.O_RDWR | os.O_CREAT | platform.O_NOFOLLOW)
    except FileNotFoundError:
        # No journals yet, so nothing to wait for.
        yield True
        return
    except OSError as error:
        raise translated(error, "open", str(path)) from error
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.close()


def seal_free(session: Session, folder: Path | None = None) -> SealReport:
    """Seal every journal that nobody holds, of this machine or in another `folder`; return what was done."""
    report = SealReport()
    while True:
        taken: list[Adopted] = []
        batch: list[Adopted] = []
        size = 0
        journals = session.spool.adopt(folder)
        try:
            for adopted in journals:
                # Noted before anything can fail: whoever keeps the error must not keep the lock.
                taken.append(adopted)
                if not _fits(session, adopted):
                    session.spool.note_stranger(
                        adopted.path.name,
                        "goes on from another history than this store's: read, never published",
                    )
                    continue
                batch.append(adopted)
                size += adopted.journal.end
                if size >= _ADOPT_BYTES_MAX:
                    break
            if not batch:
                return report
            report = report.plus(_seal(session, batch))
        finally:
            journals.close()
            for adopted in taken:
                release(adopted, session.calls, remove=False)
        if size < _ADOPT_BYTES_MAX:
            return report


def _seal(session: Session, batch: list[Adopted]) -> SealReport:
    # The log is read after the locks were taken: what it does not name now, nobody else can seal.
    state = session.log.refresh()
    fresh = [a for a in batch if a.journal.header.journal_id not in state.sealed]
    sealed = [a for a in batch if a.journal.header.journal_id in state.sealed]
    unsound: list[_Unsound] = []
    entries = commits = 0
    if fresh:
        base = state.length
        written = _write_packs(session, fresh, base)
        unsound = written.unsound
        ids = tuple(a.journal.header.journal_id for a in fresh)
        commit = session.log.append(
            lambda now: _draft(session, now, written, base, fresh),
            txn=bytes(Digest.of(b"".join(sorted(ids)))[:16]),
        )
        entries = sum(pack.entries for pack in (*written.packs, *filter(None, (written.inline,))))
        commits = 1 if commit else 0
    damaged = {u.journal.path.name for u in unsound if u.covered}
    # Whoever made the commit may have died before it was durable, and power loss may keep what is removed now.
    session.settle()
    for adopted in [*fresh, *sealed]:
        if adopted.path.name in damaged:
            _set_aside(session, adopted)
        else:
            _unlink(session, adopted)
    session.catch_up(frozenset(adopted.path.name for adopted in batch))
    return SealReport(
        len(fresh) + len(sealed), entries, commits, sum(u.skipped for u in unsound), tuple(damaged)
    )


def _fits(session: Session, adopted: Adopted) -> bool:
    """Whether the journal continues this very history: a store put back from a backup may not know its beginning."""
    header = adopted.journal.header
    if header.tip > session.log.state.number and header.tip > session.log.refresh().number:
        return False
    if header.tip == session.log.state.number:
        return session.log.state.hash == header.tip_hash
    return header.tip < 0 or session.log.commit_at(header.tip).hash == header.tip_hash


def _unlink(session: Session, adopted: Adopted) -> None:
    try:
        session.calls.unlink(str(adopted.path))
    except FileNotFoundError:
        pass
    except OSError as error:
        # Its commit stands; whoever adopts it next only unlinks it.
        raise translated(error, "remove the sealed journal", str(adopted.path)) from error


def _set_aside(session: Session, adopted: Adopted) -> None:
    # Never destroyed: what cannot be read today may be read by a person tomorrow.
    folder, name = adopted.path.parent, adopted.path.name
    try:
        descriptor = session.calls.open(str(folder), platform.OPEN_FOLDER)
        try:
            session.calls.rename(name, f".{name}{DAMAGED_SUFFIX}", folder=descriptor)
        finally:
            close_quietly(session.calls, descriptor)
    except OSError as error:
        raise translated(error, "set aside the damaged journal", str(adopted.path)) from error


class _Written(NamedTuple):
    """What became of some journals."""

    packs: list[PackRecord]
    """Objects of their own, written."""
    inline: Pack | None
    """A small one that goes into the commit: one object fewer to create, where each takes a request."""
    externals: set[Digest]
    """Values that were published before."""
    unsound: list[_Unsound]

    @property
    def collections(self) -> set[str]:
        """The collections that have entries in it."""
        inline = () if self.inline is None else self.inline.collections
        return {*inline, *(name for pack in self.packs for name in pack.collections)}


def _write_packs(session: Session, batch: Sequence[Adopted], base: int) -> _Written:
    packs: list[PackRecord] = []
    externals: set[Digest] = set()
    unsound: list[_Unsound] = []
    blobs: list[tuple[Digest, bytes]] = []
    rows: list[tuple[str, Row]] = []
    raw_bytes = 0
    for adopted in batch:
        journal = adopted.journal
        skipped, covered = len(journal.damage), any(d.covered for d in journal.damage)
        for collection, row, raw in journal.values():
            if row.digest is not None and raw is None and session.entries.find_blob(row.digest) is None:
                # Its value is damaged, here or already when the journal was indexed.
                skipped, covered = skipped + 1, True
                continue
            if raw is not None and row.digest is not None:
                blobs.append((row.digest, raw))
                raw_bytes += len(raw)
            elif row.digest is not None:
                externals.add(row.digest)
            rows.append((collection, row))
            if raw_bytes >= JOURNAL_BYTES_TARGET:
                packs.append(write_pack(session, _pack_of(blobs, rows), base))
                blobs, rows, raw_bytes = [], [], 0
        if skipped:
            unsound.append(_Unsound(adopted, skipped, covered))
    inline: Pack | None = None
    if rows:
        last = _pack_of(blobs, rows)
        if session.local.is_published and not packs and len(last.data) <= INLINE_BYTES_MAX:
            inline = last
        else:
            packs.append(write_pack(session, last, base))
    return _Written(packs, inline, externals, unsound)


def _pack_of(blobs: list[tuple[Digest, bytes]], rows: list[tuple[str, Row]]) -> Pack:
    builder = PackBuilder(Origin.JOURNAL)
    builder.add_many(blobs)
    for collection, row in rows:
        builder.add_entry(collection, row.entry)
    return builder.finish()


def _draft(
    session: Session, state: State, written: _Written, base: int, batch: Sequence[Adopted]
) -> Draft | None:
    ids = tuple(adopted.journal.header.journal_id for adopted in batch)
    if all(journal in state.sealed for journal in ids):
        return None
    session.entries.advance(state)
    return Draft(
        add=tuple(written.packs),
        inline=None if written.inline is None else record_of(written.inline, base),
        inline_bytes=b"" if written.inline is None else written.inline.data,
        needs=tuple(sorted(packs_holding(session, written.externals))),
        refs=_begun_again(session, state, written.collections, batch),
        seals=ids,
    )


def _begun_again(
    session: Session, state: State, collections: set[str], batch: Sequence[Adopted]
) -> tuple[RefChange, ...]:
    """Return what lists collections again that were removed while somebody who did not know yet set items in them."""
    changes: list[RefChange] = []
    for name in sorted(collections):
        old = state.refs.get(name)
        ref = None if old is None else read_name_ref(old, name)
        if ref is None or ref.kind != "collection" or ref.number:
            continue
        if any(_is_live(session, name, row) for a in batch for row in a.journal.rows.get(name, {}).values()):
            changes.append(RefChange(name, old, ref.begun().encoded()))
    return tuple(changes)


def _is_live(session: Session, collection: str, row: Row) -> bool:
    packed = session.entries.find(collection, row.key)
    newer = packed is not None and (packed.stamp, packed.writer) > (row.stamp, row.writer)
    return row.digest is not None and not newer and row.stamp >= session.entries.horizon(collection)
