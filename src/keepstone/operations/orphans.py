"""Orphans: packs that were written and are in no commit, because whoever wrote them was interrupted or is not done yet.

Layer: operations. Using one is always safe while its name may still be added (rules 2 and 5): the name says what the
bytes are, and adding what somebody else adds as well changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from keepstone.blobs.blobstore import PackPlace
from keepstone.blobs.footer import Entry, PackIndex
from keepstone.blobs.pack import read_index_at_end
from keepstone.blobs.read_ahead import read_in_order
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest, hash_threads
from keepstone.foundation.errors import BlobNotFoundError, CorruptionError, ObjectNotFoundError
from keepstone.foundation.format import PACK_PREFIX, Origin
from keepstone.history.commit import Draft, PackName, PackRecord, RefChange
from keepstone.history.state import State
from keepstone.history.validate import StaleDraftError
from keepstone.repository.pack_writing import packs_holding
from keepstone.repository.refs import read_name_ref
from keepstone.repository.session import Session
from keepstone.storage.base import ReadsRanges
from keepstone.storage.cached import without_cache

WHOLE_PACK_BYTES_MIN: Final = 8 * 1024 * 1024
"""A sync copies a pack byte for byte from this size on. Below it an orphan that was sealed from journals was sealed
for this very store, and publishing it is no part of a sync that was cut off."""
_READ_BYTES: Final = 4 * 1024 * 1024
_PACK_KEY: Final = re.compile(rf"{PACK_PREFIX}[0-9a-f]{{2}}/([0-9]{{20}})-([0-9a-f]{{64}})")


class Orphan(NamedTuple):
    """A pack in no commit, as its footer describes it."""

    record: PackRecord
    contents: PackIndex


def orphans(session: Session, origin: Origin) -> Iterator[Orphan]:
    """Yield the packs of one origin that are in no commit and could still be; their bytes are not looked at yet."""
    state = session.log.state
    for info in session.storage.list(PACK_PREFIX):
        match = _PACK_KEY.fullmatch(info.key)
        if match is None:
            continue
        name = PackName(int(match[1]), bytes.fromhex(match[2]))
        usable = state.floor <= name.base <= state.length
        if name in state.packs or name in state.dropped or not usable:
            continue
        try:
            index, footer_bytes = read_index_at_end(session.storage, info.key, info.size)
        except (CorruptionError, BlobNotFoundError, ObjectNotFoundError):
            continue
        if index.footer.origin == origin:
            yield Orphan(_record_of(name, info.size, footer_bytes, index), index)


def _record_of(name: PackName, size: int, footer_bytes: int, index: PackIndex) -> PackRecord:
    sections = index.footer.sections
    return PackRecord(
        name,
        size,
        footer_bytes,
        sum(section.count for section in sections),
        tuple(section.collection for section in sections),
        max((section.stamp_max for section in sections), default=0),
        index.footer.origin,
    )


def has_its_bytes(session: Session, record: PackRecord) -> bool:
    """Whether a pack's bytes are those of its name."""
    place = PackPlace(record.name.key, 0, record.size, record.footer_size)
    # Those in the bucket: what was kept of them says nothing of what is there.
    storage = without_cache(session.storage)
    return hash_of(storage, place, reads_at_once=storage.reads_at_once) == record.name.digest


def hash_of(storage: ReadsRanges, pack: PackPlace, *, reads_at_once: int = 1) -> bytes:
    """Return BLAKE3 of a pack's bytes, read piece by piece."""
    hasher = blake3(max_threads=hash_threads())
    end = pack.offset + pack.size
    pieces = (Span(pack.key, at, min(at + _READ_BYTES, end)) for at in range(pack.offset, end, _READ_BYTES))
    for data in read_in_order(storage, pieces, reads_at_once=reads_at_once):
        hasher.update(data)
    return hasher.digest()


# ---- publishing what was uploaded ----------------------------------------------------------------------------------


def publish_orphans(session: Session) -> int:
    """Commit the packs that were sealed from journals and uploaded, but never published; return their entries.

    The journals may be on a machine that is gone. If they are not, and are sealed again, the same entries stand in two
    packs, which is the same mapping (rule 9).
    """
    found = [
        orphan
        for orphan in orphans(session, Origin.JOURNAL)
        if orphan.record.size < WHOLE_PACK_BYTES_MIN and has_its_bytes(session, orphan.record)
    ]
    if not found:
        return 0
    committed = session.log.append(lambda state: _draft(session, state, found))
    session.refresh()
    return 0 if committed is None else sum(record.entries for record in committed.add)


def _draft(session: Session, state: State, found: list[Orphan]) -> Draft | None:
    session.entries.advance(state)
    usable = [o for o in found if o.record.name not in state.packs and o.record.name not in state.dropped]
    usable = [orphan for orphan in usable if orphan.record.name.base >= state.floor]
    added: list[Orphan] = []
    needs: set[PackName] = set()
    for orphan in usable:
        try:
            needs |= packs_holding(session, _relied_on(orphan))
        except StaleDraftError:
            # What it relied on was collected: its journal, if there is one, still has the values.
            continue
        added.append(orphan)
    if not added:
        return None
    return Draft(
        message="recover",
        add=tuple(orphan.record for orphan in added),
        needs=tuple(sorted(needs)),
        refs=_listed_again(session, state, added),
    )


def _entries_of(orphan: Orphan) -> Iterator[tuple[str, Entry, int]]:
    for collection in orphan.record.collections:
        for entry, position in orphan.contents.entries(collection):
            yield collection, entry, position


def _relied_on(orphan: Orphan) -> Iterable[Digest]:
    for _, entry, position in _entries_of(orphan):
        if entry.digest is not None and position < 0:
            yield entry.digest


def _listed_again(session: Session, state: State, added: list[Orphan]) -> tuple[RefChange, ...]:
    """Return what lists collections that were removed, and of which an orphan holds an item that was set since."""
    live: set[str] = set()
    for orphan in added:
        for collection, entry, _ in _entries_of(orphan):
            newest = session.entries.find(collection, entry.key)
            is_newer = newest is None or (entry.stamp, entry.writer) > newest.order
            if entry.digest is not None and is_newer:
                live.add(collection)
    changes: list[RefChange] = []
    for name in sorted(live):
        old = state.refs.get(name)
        ref = None if old is None else read_name_ref(old, name)
        if ref is not None and ref.kind == "collection" and not ref.number:
            changes.append(RefChange(name, old, ref.begun().encoded()))
    return tuple(changes)
