"""Which entries of a collection go over: of each key the newest, where the target does not have it or a newer one.

Layer: operations. Decided by columns, in parts of the keys, so that memory does not grow with their number. Superseded
entries stay: what somebody replaced or removed is published nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from keepstone.blobs.footer import Columns, Entry, PackIndex
from keepstone.foundation.clock import FOLLOW_AHEAD_NS_MAX
from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.names import format_time, shown
from keepstone.history.state import LivePack
from keepstone.operations.sync_reading import open_footers
from keepstone.repository.entries import pack_place
from keepstone.repository.session import Session

KEYS_AT_ONCE: Final = 200_000
_ROW_BITS: Final = 32
_ROW_MASK: Final = (1 << _ROW_BITS) - 1


class PackRows(NamedTuple):
    """The entries of one collection in one pack, and which of them are wanted."""

    pack: LivePack
    collection: str
    wanted: bytearray
    """One byte a row: 1 where it goes over."""

    @property
    def number(self) -> int:
        """How many go over."""
        return self.wanted.count(1)

    def entries(self, index: PackIndex, rows: Iterable[int] | None = None) -> Iterator[tuple[Entry, int]]:
        """Yield the wanted entries (of `rows`), each with the position of its value as in `PackIndex.entry`."""
        keys = index.keys(self.collection)
        for row in range(len(keys)) if rows is None else rows:
            if self.wanted[row]:
                yield index.entry(self.collection, row, keys[row])

    @property
    def is_whole(self) -> bool:
        """Whether all of them do."""
        return self.number == len(self.wanted)


class _Rows(NamedTuple):
    footer: PackIndex
    columns: Columns

    def order(self, row: int) -> tuple[int, bytes]:
        writers = self.columns.writers
        return self.columns.stamps[row], self.footer.footer.writers[writers[row] if writers else 0]


def wanted_rows(
    source: Session, packs: Sequence[LivePack], target: Session | None, collection: str, since: int
) -> list[PackRows]:
    """Return which entries of `collection` in `packs` of the source go over; entries below `since` are dead.

    `target` is None where it is known to have none of them, and all others of the source.

    Raises:
        CorruptionError, BlobNotFoundError: the footer of a pack cannot be read.
        InvalidInputError: an entry is stamped more than an hour ahead of this clock (rule 9).
    """
    open_footers(source, packs)
    fresh = [_open(source, pack, collection) for pack in packs]
    if target is None:
        other, there = source, _newer_than(fresh, source, packs, collection)
    else:
        other, there = target, target.entries.packs_of(collection)
    open_footers(other, there)
    known = [_open(other, pack, collection) for pack in there]
    winners = _winners([*known, *fresh], collection)[len(known) :]
    ahead = source.clock.now_ns() + FOLLOW_AHEAD_NS_MAX
    chosen: list[PackRows] = []
    for pack, of_pack, wanted in zip(packs, fresh, winners, strict=True):
        stamps = of_pack.columns.stamps
        if stamps and stamps[0] < since:
            for row, stamp in enumerate(stamps):
                if stamp < since:
                    wanted[row] = 0
        if stamps and stamps[-1] > ahead:
            _refuse_future(of_pack, collection, wanted, ahead)
        if any(wanted):
            chosen.append(PackRows(pack, collection, wanted))
    return chosen


def _newer_than(
    fresh: Sequence[_Rows], source: Session, packs: Sequence[LivePack], collection: str
) -> list[LivePack]:
    """Return the other packs of the source in which something may supersede what is in `packs`.

    Mostly there is none: only of journals that were sealed in another order than they were written in.
    """
    oldest = min((rows.columns.stamps[0] for rows in fresh if rows.columns.stamps), default=0)
    looked_at = {pack.name for pack in packs}
    others = (pack for pack in source.entries.packs_of(collection) if pack.name not in looked_at)
    return [pack for pack in others if pack.record.stamp_max >= oldest]


def _refuse_future(rows: _Rows, collection: str, wanted: bytearray, ahead: int) -> None:
    for row, stamp in enumerate(rows.columns.stamps):
        if wanted[row] and stamp > ahead:
            key = rows.footer.keys(collection)[row]
            raise too_far_ahead(f"item {shown(key)} of {collection!r}", stamp)


def too_far_ahead(what: str, stamp: int) -> InvalidInputError:
    """Return the error of what would hide all that is written in the next hours."""
    return InvalidInputError(
        f"{what} is stamped {format_time(stamp)}, more than an hour ahead of this machine's clock",
        hint="set the clocks right; an item whose stamp is wrong can be removed, and set again under another key",
    )


def _open(session: Session, pack: LivePack, collection: str) -> _Rows:
    index = session.blobs.index(pack_place(pack))
    return _Rows(index, index.columns(collection))


def _winners(sources: Sequence[_Rows], collection: str) -> list[bytearray]:
    """Return for each source which of its rows are the newest of their keys; of equal ones the first source's."""
    wanted = [bytearray(len(rows.columns.stamps)) for rows in sources]
    parts = -(-sum(map(len, wanted)) // KEYS_AT_ONCE)
    for part in range(parts):
        newest: dict[str, int] = {}
        for number, rows in enumerate(sources):
            for row, key in enumerate(rows.footer.keys(collection)):
                if parts > 1 and hash(key) % parts != part:
                    continue
                known = newest.get(key)
                if known is not None:
                    before = sources[known >> _ROW_BITS].order(known & _ROW_MASK)
                    if rows.order(row) <= before:
                        continue
                newest[key] = number << _ROW_BITS | row
        for spot in newest.values():
            wanted[spot >> _ROW_BITS][spot & _ROW_MASK] = 1
    return wanted
