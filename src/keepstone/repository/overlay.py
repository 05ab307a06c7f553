"""The newest entry of each key in packs that the catalog does not cover, from their footers.

Layer: repository. Only where a key stands is kept, as one number; what stands there is decoded when it is asked for. So
a million entries are ready in half a second, where making a row of each would take ten.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.blobs.blobstore import BlobStore, PackPlace, Place
from keepstone.blobs.footer import PackIndex
from keepstone.repository.rows import EntryRow

_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1


class Overlay:
    """One collection in some packs. Not synchronized: `Entries` holds a lock while packs are added."""

    def __init__(self, blobs: BlobStore, collection: str) -> None:
        self._blobs = blobs
        self._collection = collection
        self._packs: list[tuple[PackPlace, PackIndex]] = []
        self._spots: dict[str, int] = {}
        """Key → number of the pack, and the row in it."""
        self._older: dict[str, list[int]] = {}
        """The same of the entries that are superseded; most keys have none."""

    def __len__(self) -> int:
        return len(self._spots)

    def add(self, place: PackPlace) -> None:
        """Take in the entries of one more pack.

        Raises:
            CorruptionError, BlobNotFoundError: its footer cannot be read; nothing was taken in.
        """
        index = self._blobs.index(place)
        keys = index.keys(self._collection)
        index.columns(self._collection)
        first = len(self._packs) << _ROW_BITS
        self._packs.append((place, index))
        spots = self._spots
        if spots.keys().isdisjoint(keys):
            before = len(spots)
            # Of equal keys in one pack the last has the highest stamp.
            spots.update(zip(keys, range(first, first + len(keys)), strict=True))
            if len(spots) - before < len(keys):
                for spot, key in enumerate(keys, first):
                    if spots[key] != spot:
                        self._older.setdefault(key, []).append(spot)
            return
        for spot, key in enumerate(keys, first):
            known = spots.get(key)
            if known is None:
                spots[key] = spot
                continue
            newer = self._order(spot) >= self._order(known)
            spots[key] = spot if newer else known
            self._older.setdefault(key, []).append(known if newer else spot)

    def _order(self, spot: int) -> tuple[int, bytes]:
        _, index = self._packs[spot >> _ROW_BITS]
        entry, _ = index.entry(self._collection, spot & _ROW_MASK, "")
        return entry.stamp, entry.writer

    def get(self, key: str) -> EntryRow | None:
        """Return the newest row of a key in these packs."""
        spot = self._spots.get(key)
        return None if spot is None else self._row(spot, key)

    def history(self, key: str) -> list[EntryRow]:
        """Return all rows of a key in these packs, newest first."""
        spot = self._spots.get(key)
        if spot is None:
            return []
        older = self._older.get(key)
        if older is None:
            return [self._row(spot, key)]
        return [self._row(s, key) for s in (spot, *sorted(older, key=self._order, reverse=True))]

    def _row(self, spot: int, key: str) -> EntryRow:
        place, index = self._packs[spot >> _ROW_BITS]
        entry, position = index.entry(self._collection, spot & _ROW_MASK, key)
        where = self._blobs.place(place, position) if position >= 0 else None
        return EntryRow(entry.stamp, entry.writer, entry.digest, entry.form, where)


def read_rows(blobs: BlobStore, place: PackPlace, collection: str) -> Iterator[tuple[str, EntryRow]]:
    """Yield (key, row) of every entry of a collection in one pack, superseded ones among them."""
    index = blobs.index(place)
    for entry, position in index.entries(collection):
        where: Place | None = blobs.place(place, position) if position >= 0 else None
        yield entry.key, EntryRow(entry.stamp, entry.writer, entry.digest, entry.form, where)
