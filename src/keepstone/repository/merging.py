"""Merging: many small packs become one, so that opening a store and looking something up stay cheap.

Layer: repository. Packs of one size class (powers of 8) are merged when there are 16 of them, by the same commit that
drops them; if one of them is gone by then, the whole merge is withdrawn (rule 4). Entries keep their stamps, removed
keys their tombstones, so merging can never bring an old value back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from typing import Final, NamedTuple

from keepstone.blobs.compression import MERGE_LEVEL
from keepstone.blobs.footer import Entry
from keepstone.blobs.pack import PackBuilder
from keepstone.blobs.recipe import decode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError, CorruptionError, UnsupportedFormatError
from keepstone.foundation.format import PACK_BYTES_TARGET, Kind, Origin
from keepstone.history.commit import Draft, PackName, PackRecord, Replacement
from keepstone.history.state import LivePack, State
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.entries import pack_place
from keepstone.repository.pack_writing import packs_holding, write_pack
from keepstone.repository.session import Session

CLASS_PACKS_MIN: Final = 16
_CLASS_SHIFT: Final = 3
_FULL_BYTES: Final = PACK_BYTES_TARGET // 4
"""A pack of this size is left as it is."""
_MERGED_BYTES_MAX: Final = PACK_BYTES_TARGET // 2
"""What is merged at once, compressed; four times that is in memory."""


def plan_merge(
    state: State, *, packs_min: int = CLASS_PACKS_MIN, without: Container[PackName] = ()
) -> list[LivePack]:
    """Return packs that should become one, none of `without`; nothing where nothing needs merging.

    What commits wrote and what journals held is never mixed: the blobs of the one are looked for by digest.
    """
    classes: dict[tuple[bool, int], list[LivePack]] = defaultdict(list)
    for pack in state.packs.values():
        if pack.record.size < _FULL_BYTES and pack.name not in without:
            # bit_length // 3 is the power of 8.
            classes[holds_saves(pack), pack.record.size.bit_length() // _CLASS_SHIFT].append(pack)
    for _, packs in sorted(classes.items()):
        if len(packs) < packs_min:
            continue
        chosen: list[LivePack] = []
        total = 0
        for pack in sorted(packs, key=lambda p: (p.record.stamp_max, p.name)):
            total += pack.record.size
            if total > _MERGED_BYTES_MAX:
                break
            chosen.append(pack)
        return chosen
    return []


def merge(session: Session, *, packs_min: int = CLASS_PACKS_MIN) -> int:
    """Merge packs until no class is crowded; return how many packs were replaced."""
    replaced = 0
    while chosen := plan_merge(session.log.state, packs_min=packs_min, without=session.damaged_packs):
        if len(chosen) < 2 or not _merge(session, chosen):
            return replaced
        replaced += len(chosen)
    return replaced


class _Contents(NamedTuple):
    """All that one pack holds, read and verified."""

    blobs: list[tuple[Digest, bytes]]
    recipes: list[tuple[Digest, bytes]]
    entries: list[tuple[str, Entry]]
    relied: set[Digest]
    """Blobs that these need, perhaps in other packs."""


def _merge(session: Session, chosen: list[LivePack]) -> bool:
    base = session.log.state.length
    origin = Origin.REPACK_SAVES if holds_saves(chosen[0]) else Origin.REPACK
    builder = PackBuilder(origin, level=MERGE_LEVEL)
    relied: set[Digest] = set()
    plain: list[tuple[Digest, bytes]] = []
    for pack in chosen:
        try:
            contents = _read(session, pack)
        except (CorruptionError, BlobNotFoundError, UnsupportedFormatError):
            # Damage stays where it is, for fsck to name; the others are merged without it.
            session.damaged_packs.add(pack.name)
            return True
        plain.extend(contents.blobs)
        relied |= contents.relied
        for digest, payload in contents.recipes:
            builder.add(digest, payload, Kind.RECIPE)
        for collection, entry in contents.entries:
            builder.add_entry(collection, entry)
    builder.add_many(plain)
    relied = {digest for digest in relied if digest not in builder}
    record = write_pack(session, builder.finish(), base)
    olds = tuple(pack.name for pack in chosen)
    commit = session.log.append(lambda state: _draft(session, state, olds, record, relied))
    session.refresh()
    return commit is not None


def _read(session: Session, pack: LivePack) -> _Contents:
    where = pack_place(pack)
    index = session.blobs.index(where)
    contents = _Contents([], [], [], set())
    places = ((index.digest(i), session.blobs.place(where, i)) for i in range(index.blob_count))
    with session.blobs.each(places, lambda found: session.blobs.spans(found[1])) as read:
        for digest, place in read:
            if place.kind == Kind.BLOB:
                contents.blobs.append((digest, session.blobs.read(place, digest)))
            elif place.kind == Kind.RECIPE:
                payload = session.blobs.read_frame(place, digest)
                contents.recipes.append((digest, payload))
                contents.relied.update(piece.digest for piece in decode_recipe(payload, where=pack.key))
    for collection in pack.record.collections:
        for entry, position in index.entries(collection):
            contents.entries.append((collection, entry))
            if entry.digest is not None and position < 0:
                contents.relied.add(entry.digest)
    return contents


def _draft(
    session: Session, state: State, olds: tuple[PackName, ...], record: PackRecord, relied: set[Digest]
) -> Draft | None:
    # Somebody else replaced or dropped one of them: this merge is withdrawn, its pack is an orphan for gc.
    if any(name not in state.packs for name in olds):
        return None
    session.entries.advance(state)
    needs = packs_holding(session, relied) - set(olds)
    return Draft(add=(record,), replace=(Replacement(olds, (record.name,)),), needs=tuple(sorted(needs)))
