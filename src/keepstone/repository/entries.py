"""What all packs of a state say about keys and digests: the catalog where it reaches, memory where it does not.

Layer: repository. The highest (stamp, writer) of a key wins, whatever pack it stands in, so packs may be read in any
order. Footers of packs that the catalog does not cover are read when a collection in them is first asked for.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from keepstone.blobs.blobstore import BlobStore, PackPlace, Place
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    CorruptionError,
    KeepstoneError,
    UnsupportedFormatError,
)
from keepstone.history.commit import PackName
from keepstone.history.state import LivePack, State
from keepstone.history.validate import read_horizon
from keepstone.repository.catalog import Catalog, CatalogAhead, CatalogUnusable
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.overlay import Overlay, read_rows
from keepstone.repository.rows import EntryRow

_UNREADABLE = (CorruptionError, BlobNotFoundError, UnsupportedFormatError)
CATALOG_ENTRIES_MIN = 20_000
"""A smaller store is read into memory in milliseconds; SQLite would only cost."""


def pack_place(pack: LivePack) -> PackPlace:
    """Return where a live pack lies, in the words of the blobs layer."""
    return PackPlace(pack.key, pack.offset, pack.record.size, pack.record.footer_size, pack.record.stamp_max)


def opening(blobs: BlobStore, packs: Iterable[LivePack]) -> AbstractContextManager[Iterator[LivePack]]:
    """Give `packs` in order, to ask for the index of each; footers are read ahead, where that saves waiting."""
    return blobs.each(packs, lambda pack: blobs.footer_spans(pack_place(pack)))


class Entries:
    """Keys and digests of one store's packs; safe to use from many threads."""

    def __init__(
        self, blobs: BlobStore, catalog: Catalog | None, hash_at: Callable[[int], bytes | None]
    ) -> None:
        self.blobs = blobs
        self.catalog = catalog
        self._hash_at = hash_at
        self._lock = threading.RLock()
        self._is_forked = False
        """Whether this is a forked child that has not looked for a catalog yet."""
        self._state = State()
        self._places: dict[PackName, PackPlace] = {}
        self._covered: frozenset[PackName] = frozenset()
        self._rows: dict[str, Overlay] = {}
        self._loaded: dict[str, set[PackName]] = {}
        self._complete: set[str] = set()
        """Collections whose packs are all loaded or covered, in the present state."""
        self._blob_places: dict[bytes, Place] = {}
        self._blob_packs: set[PackName] = set()
        self._blobs_complete = False
        self._unreadable: dict[PackName, KeepstoneError] = {}
        """Packs whose footers are damaged or gone, and how: they cost what is in them, and nothing else.

        Copies are kept, and copies of these raised: an error that is raised again grows, and keeps who met it before.
        """
        self._generation = 0
        """Counts changes of what is covered or loaded."""

    def after_fork(self) -> None:
        """In a forked child: a new lock, and no inherited database connection."""
        self._lock = threading.RLock()
        if self.catalog:
            self.catalog.after_fork()
            # What it covered is in nobody's hands until it is opened again, by the next refresh.
            self._changed()
            self._covered = frozenset()
            self._is_forked = True

    def advance(self, state: State) -> bool:
        """Answer for `state` from now on; return False where the catalog is ahead of it: refresh once more."""
        with self._lock:
            if state.number <= self._state.number:
                # An older one comes from a thread whose commit is in the making; going back to it would lose sight
                # of entries whose journals are forgotten already.
                if not self._is_forked:
                    return True
                state = self._state
            self._is_forked = False
            dropped = {name for name in self._state.packs if name not in state.packs}
            # What is forgotten goes first, so that an interrupt or a fork in between leaves nothing wrong behind.
            self._changed()
            for collection in [c for c, names in self._loaded.items() if names & dropped]:
                # Rows point into packs; what pointed into a dropped one is read again from those that live.
                self._forget(collection)
            if self._blob_packs & dropped:
                self._blob_places.clear()
                self._blob_packs.clear()
            self._covered = frozenset()
            self._places = {}
            self._state = state
            return self._cover()

    @property
    def number(self) -> int:
        """Number of the commit up to which these answer."""
        return self._state.number

    def _cover(self) -> bool:
        entries = sum(pack.record.entries for pack in self._state.packs.values())
        self._covered = frozenset()
        fits = True
        if self.catalog and entries >= CATALOG_ENTRIES_MIN:
            try:
                self._covered = self.catalog.covered(self._state, self._hash_at)
            except CatalogAhead:
                fits = False
        for collection in [c for c, names in self._loaded.items() if names & self._covered]:
            self._forget(collection)
        return fits

    def _forget(self, collection: str) -> None:
        # What says that rows are there goes first.
        self._loaded.pop(collection, None)
        self._rows.pop(collection, None)

    @property
    def uncovered_entries(self) -> int:
        """How many entries of live packs the catalog does not have; 0 where the store is too small for one."""
        with self._lock:
            packs = self._state.packs
            if not self.catalog or sum(p.record.entries for p in packs.values()) < CATALOG_ENTRIES_MIN:
                return 0
            return sum(p.record.entries for name, p in packs.items() if name not in self._covered)

    def fold(self, stop: Callable[[], bool]) -> bool:
        """Bring the catalog up to the present state, where the store is large enough to have one.

        Returns whether it is; another process, a full disk or `stop` may have prevented it.
        """
        if not self.catalog or not self.uncovered_entries:
            return True
        is_whole = self.catalog.fold(self._state, self.blobs, stop)
        with self._lock:
            self._changed()
            self._cover()
        return is_whole

    def packs_of(self, collection: str) -> list[LivePack]:
        """Return the live packs that hold entries of a collection."""
        return [pack for pack in self._state.packs.values() if collection in pack.record.collections]

    def _overlay(self, collection: str) -> Overlay:
        with self._lock:
            if collection in self._complete:
                return self._rows[collection]
            rows = self._rows.get(collection)
            if rows is None:
                rows = self._rows[collection] = Overlay(self.blobs, collection)
            loaded = self._loaded.setdefault(collection, set())
            try:
                fresh = [p for p in self.packs_of(collection) if p.name not in loaded | self._covered]
                with opening(self.blobs, fresh) as packs:
                    for pack in packs:
                        loaded.add(pack.name)
                        try:
                            rows.add(pack_place(pack))
                        except _UNREADABLE as error:
                            self._unreadable[pack.name] = copy.copy(error)
            except BaseException:
                # A medium that failed may answer the next time; taken for loaded, the pack's keys would be missing.
                self._forget(collection)
                raise
            self._complete.add(collection)
            return rows

    def find(self, collection: str, key: str, *, is_settled: bool = False) -> EntryRow | None:
        """Return the newest row of a key, which may say that it was removed; None if no pack knows the key.

        `is_settled`: the log says that what was first said of the key still holds, so no damaged pack can know better.
        """
        while True:
            generation = self._generation
            row = self._find(collection, key)
            # What is covered and what is loaded must be of one moment, or a row could fall between the two.
            if generation == self._generation:
                break
        if row is not None and row.stamp < self.horizon(collection):
            row = None
        if not is_settled or row is None:
            self.refuse_to_guess(collection, row)
        return row

    def horizon(self, collection: str) -> int:
        """Return the stamp below which entries of a collection are dead, wherever they come from; 0 for none."""
        return read_horizon(self._state.refs, collection)

    def history(self, collection: str, key: str) -> list[EntryRow]:
        """Return every row of a key that a readable pack holds, newest first; `refuse_to_guess` tells of the others.

        Superseded and removed ones are among them.
        """
        while True:
            generation = self._generation
            rows = self._history(collection, key)
            if rows is not None and generation == self._generation:
                return rows

    def _history(self, collection: str, key: str) -> list[EntryRow] | None:
        rows = {row.order: row for row in self._overlay(collection).history(key)}
        if self._covered and self.catalog is not None:
            try:
                found = self.catalog.history(collection, key)
            except CatalogUnusable:
                self._uncover()
                return None
            for stamp, writer, digest, form, pack, place in found:
                where = self._places.get(pack) or self._pack_place(pack)
                if where is not None:
                    row = EntryRow(stamp, writer, digest, form, Place(where, *place) if place else None)
                    rows.setdefault(row.order, row)
        return [rows[order] for order in sorted(rows, reverse=True)]

    def refuse_to_guess(self, collection: str, row: EntryRow | None) -> None:
        """Raise what made a pack unreadable if that pack could know better than `row`."""
        for name, error in self._unreadable.items():
            pack = self._state.packs.get(name)
            if pack is None or collection not in pack.record.collections:
                continue
            if row is None or pack.record.stamp_max > row.stamp:
                raise copy.copy(error)

    def raise_unreadable(self) -> None:
        """Raise what made a pack of artifacts unreadable, if there is one: a blob not found may be in it."""
        for name, error in self._unreadable.items():
            pack = self._state.packs.get(name)
            if pack is not None and holds_saves(pack):
                raise copy.copy(error)

    def _find(self, collection: str, key: str) -> EntryRow | None:
        rows = self._rows.get(collection) if collection in self._complete else None
        best = (self._overlay(collection) if rows is None else rows).get(key)
        if not self._covered or self.catalog is None:
            return best
        try:
            found = self.catalog.find(collection, key)
        except CatalogUnusable:
            self._uncover()
            return None
        if found is None:
            return best
        stamp, writer, digest, form, pack, place = found
        if best is not None and best.order >= (stamp, writer):
            return best
        where = self._places.get(pack) or self._pack_place(pack)
        if where is None:
            # Dropped since the catalog was made; what was kept of it stands in a newer pack.
            return best
        return EntryRow(stamp, writer, digest, form, Place(where, *place) if place else None)

    def _uncover(self) -> None:
        with self._lock:
            self._changed()
            self._covered = frozenset()

    def _changed(self) -> None:
        self._generation += 1
        self._complete.clear()
        self._blobs_complete = False

    def _pack_place(self, name: PackName) -> PackPlace | None:
        pack = self._state.packs.get(name)
        if pack is None:
            return None
        where = self._places[name] = pack_place(pack)
        return where

    def rows(self, collection: str) -> dict[str, EntryRow]:
        """Return the newest row of every key, removed ones among them, from the footers alone."""
        merged: dict[str, EntryRow] = {}
        with opening(
            self.blobs, sorted(self.packs_of(collection), key=lambda p: p.record.stamp_max)
        ) as packs:
            for pack in packs:
                for key, row in read_rows(self.blobs, pack_place(pack), collection):
                    known = merged.get(key)
                    if known is None or row.order > known.order:
                        merged[key] = row
        return merged

    def has_tombstones(self, collection: str) -> bool:
        """Whether any pack says that a key of the collection was removed."""
        with opening(self.blobs, self.packs_of(collection)) as packs:
            return any(self.blobs.index(pack_place(pack)).sections[collection].tombstones for pack in packs)

    def keys(self, collection: str) -> dict[str, None]:
        """Return the keys that are there, oldest packs first; from the key columns alone where nothing was removed.

        0.7 s for a million keys; no catalog is asked, so none can be wrong.
        """
        horizon = self.horizon(collection)
        if horizon or self.has_tombstones(collection):
            rows = self.rows(collection)
            return {key: None for key, row in rows.items() if row.digest is not None and row.stamp >= horizon}
        present: dict[str, None] = {}
        by_stamp = sorted(self.packs_of(collection), key=lambda p: p.record.stamp_max)
        with opening(self.blobs, by_stamp) as packs:
            for pack in packs:
                present.update(dict.fromkeys(self.blobs.index(pack_place(pack)).keys(collection)))
        return present

    def find_blob(self, digest: Digest) -> Place | None:
        """Return where the blob lies among artifacts' packs, or None."""
        if not self._blobs_complete:
            self._load_blobs()
        found = self._blob_places.get(digest)
        if found is not None or not self._covered or self.catalog is None:
            return found
        try:
            known = self.catalog.find_blob(digest)
        except CatalogUnusable:
            self._uncover()
            return self.find_blob(digest)
        if known is None:
            return None
        where = self._pack_place(known[0])
        if where is not None:
            return Place(where, *known[1])
        # The catalog names one pack a digest, and that one was dropped: another may hold it as well.
        for name in self._covered:
            pack = self._state.packs.get(name)
            if pack is not None and holds_saves(pack):
                found = self.blobs.find(pack_place(pack), digest)
                if found is not None:
                    return found
        return None

    def _load_blobs(self) -> None:
        with self._lock:
            try:
                known = self._blob_packs | self._covered
                fresh = [p for p in self._state.packs.values() if p.name not in known and holds_saves(p)]
                with opening(self.blobs, fresh) as packs:
                    for pack in packs:
                        self._blob_packs.add(pack.name)
                        self._load_blobs_of(pack)
            except BaseException:
                # As in `_overlay`: what was not loaded must not be taken for loaded.
                self._blob_packs.clear()
                self._blob_places.clear()
                raise
            self._blobs_complete = True

    def _load_blobs_of(self, pack: LivePack) -> None:
        place = pack_place(pack)
        try:
            index = self.blobs.index(place)
            places = [self.blobs.place(place, position) for position in range(index.blob_count)]
        except _UNREADABLE as error:
            self._unreadable[pack.name] = copy.copy(error)
            return
        for position, where in enumerate(places):
            self._blob_places.setdefault(index.digest(position), where)

    def pack_name(self, place: Place) -> PackName | None:
        """Return the live pack in which a place lies."""
        for pack in self._state.packs.values():
            if pack.key == place.pack.key and pack.offset == place.pack.offset:
                return pack.name
        return None
