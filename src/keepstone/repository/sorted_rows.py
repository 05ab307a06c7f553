"""All keys of a collection in order, each with its newest entry up to one moment, streamed from packs and journals.

Layer: repository. Each pack's keys are sorted by themselves and merged on the way, so that of a million keys only the
keys are in memory, never a row for each.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from keepstone.blobs.blobstore import BlobStore
from keepstone.blobs.footer import PackIndex
from keepstone.blobs.journal import Row
from keepstone.foundation.digest import Digest
from keepstone.history.commit import PackName
from keepstone.history.state import LivePack
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.entries import opening, pack_place

_Spot = tuple[str, int, bytes, int, int]
"""Key, stamp, writer, number of the source, row in it: compares as entries do, and never further."""


class SortedRow(NamedTuple):
    """The entry that counts for one key."""

    key: str
    digest: Digest
    form: int
    pack: PackName | None
    """The pack that holds the value, whole; None where the value is to be found by its digest."""
    row: Row | None
    """The journal's row; None where a pack has the entry."""


def sorted_rows(
    blobs: BlobStore,
    packs: Iterable[LivePack],
    journal_rows: Mapping[str, Row],
    collection: str,
    *,
    since: int = 0,
    until: int = 2**63 - 1,
) -> Iterator[SortedRow]:
    """Yield the keys that were there at `until` in the order of their characters; entries below `since` do not count.

    `journal_rows` has of each key the row that counts among the journals.

    Raises:
        CorruptionError, BlobNotFoundError: the footer of a pack cannot be read, so nobody knows what is in it.
    """
    indexes: list[tuple[PackName | None, PackIndex]] = []
    sources: list[Iterator[_Spot]] = []
    with opening(blobs, [pack for pack in packs if collection in pack.record.collections]) as wanted:
        for pack in wanted:
            index = blobs.index(pack_place(pack))
            sources.append(_pack_spots(index, collection, len(indexes), since, until))
            # What commits wrote may be a recipe or a manifest, and lie in several packs.
            indexes.append((None if holds_saves(pack) else pack.name, index))
    sources.append(_journal_spots(journal_rows, len(indexes), since, until))
    for key, spots in groupby(heapq.merge(*sources), key=itemgetter(0)):
        *_, (_, _, _, source, number) = spots
        if source == len(indexes):
            row = journal_rows[key]
            if row.digest is not None:
                yield SortedRow(key, row.digest, row.form, None, row)
            continue
        name, index = indexes[source]
        entry, position = index.entry(collection, number, key)
        if entry.digest is not None:
            yield SortedRow(key, entry.digest, entry.form, name if position >= 0 else None, None)


def _pack_spots(index: PackIndex, collection: str, source: int, since: int, until: int) -> Iterator[_Spot]:
    keys = index.keys(collection)
    columns = index.columns(collection)
    stamps, writers, names = columns.stamps, columns.writers, index.footer.writers
    # Rows stand in the order of their stamps, and sorting keeps that among equal keys.
    for row in array("I", sorted(range(len(keys)), key=keys.__getitem__)):
        stamp = stamps[row]
        if since <= stamp <= until:
            yield keys[row], stamp, names[writers[row]] if writers else names[0], source, row


def _journal_spots(rows: Mapping[str, Row], source: int, since: int, until: int) -> Iterator[_Spot]:
    for key in sorted(rows):
        row = rows[key]
        if since <= row.stamp <= until:
            yield key, row.stamp, row.writer, source, 0
