"""The catalog: where each key's and digest's newest value lies, in SQLite. It can be deleted at any time.

Layer: repository. Holds rows of packs only, never of journals, with the number and hash of a commit that those packs
come from; a log without that commit means that the catalog is somebody else's, and it is made anew. Each row carries
a check, since one flipped bit would otherwise turn a key into the place of another's value. No SQLite error ever
fails a call: a catalog that cannot be used is no catalog.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepstone.blobs.blobstore import BlobStore
from keepstone.foundation.digest import Digest
from keepstone.history.commit import PackName
from keepstone.history.state import State
from keepstone.repository.catalog_rows import (
    PLACE,
    SCHEMA,
    SELECT_ENTRY,
    SELECT_NEIGHBOURS,
    SELECT_OLDER,
    SELECT_OLDER_NEIGHBOURS,
    CatalogRow,
    batches,
    blob_proof,
    entry_proof,
    fold_batch,
    owner_mark,
)

if TYPE_CHECKING:
    import sqlite3


class CatalogAhead(Exception):
    """The catalog knows commits that the state does not: refresh, and ask again."""


class CatalogUnusable(Exception):
    """The catalog cannot answer; the footers can."""


class Catalog:
    """One store's catalog on a local disk; safe to use from many threads."""

    def __init__(self, folder: Path, owner: tuple[int, int]) -> None:
        """`owner` is device and inode of `store.json`: a copied store begins a catalog of its own."""
        self._folder = folder
        self._owner = owner_mark(*owner)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._errors: tuple[type[Exception], ...] = (UnicodeError,)
        """What asking a damaged database raises; sqlite3's own once that is imported."""
        self._in_snapshot = False
        self._generation: Path | None = None
        self._packs: dict[int, PackName] = {}
        self._covered: frozenset[PackName] = frozenset()
        self._checked: frozenset[PackName] | None = None
        """What `_covered` was when its collections were last found to be known."""
        self._collections: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._tip: tuple[int, bytes] = (-1, b"")
        self._newest: int | None = None
        """Number of the row of the pack that was taken in last."""

    def after_fork(self) -> None:
        """In a forked child: drop the inherited connection without closing it; closing could harm the parent's."""
        _abandoned.append(self._connection)
        self._reset()

    # ---- opening -----------------------------------------------------------------------------------------------------

    def covered(self, state: State, hash_at: Callable[[int], bytes | None]) -> frozenset[PackName]:
        """Take a fresh snapshot and return the packs whose rows are in it, dropped ones among them.

        Empty where the catalog does not fit the log, or cannot be read. `hash_at` gives the hash of a commit of the
        log, None where there is none. Until the next call every answer is about this snapshot.

        Raises:
            CatalogAhead: another process has folded commits in that `state` does not have yet.
        """
        try:
            with self._lock:
                self._open()
                self._begin_snapshot()
                number, tip_hash = self._tip
                if number > state.number and hash_at(number) == tip_hash:
                    raise CatalogAhead
                known = state.hash if number == state.number else hash_at(number)
                if known != tip_hash or not self._knows_collections_of(state):
                    self._discard()
                    return frozenset()
                return self._covered
        except CatalogUnusable:
            return frozenset()

    def _knows_collections_of(self, state: State) -> bool:
        # One whose name was damaged would seem to be empty. Once is enough: of what is covered, packs only go.
        if self._checked is self._covered:
            return True
        live = [pack for name, pack in state.packs.items() if name in self._covered]
        if not all(c in self._collections for pack in live for c in pack.record.collections):
            return False
        self._checked = self._covered
        return True

    def _begin_snapshot(self) -> None:
        # A read outside of a transaction takes and frees file locks each time, three times the cost of the read.
        self.end_snapshot()
        self._query("BEGIN")
        self._read_meta()
        self._in_snapshot = True

    def end_snapshot(self) -> None:
        """Let go of the snapshot, so that SQLite can tidy its write-ahead log."""
        with self._lock:
            if self._in_snapshot:
                self._in_snapshot = False
                with contextlib.suppress(CatalogUnusable):
                    self._query("COMMIT")

    def _open(self) -> None:
        if self._connection is not None:
            return
        try:
            generations = sorted(self._folder.iterdir())
        except OSError as error:
            raise CatalogUnusable from error
        for generation in generations:
            if (generation / "catalog.sqlite").exists():
                self._connect(generation)
                if self._connection is not None:
                    return
        raise CatalogUnusable

    def _connect(self, generation: Path) -> None:
        import sqlite3

        connection = None
        try:
            connection = sqlite3.connect(
                generation / "catalog.sqlite", isolation_level=None, check_same_thread=False, timeout=0
            )
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cell_size_check = ON")
            row = connection.execute("SELECT value FROM meta WHERE name = 'owner'").fetchone()
            if row is None or row[0] != self._owner:
                connection.close()
                return
        except sqlite3.Error:
            if connection is not None:
                connection.close()
            return
        self._connection, self._generation = connection, generation
        self._errors = (sqlite3.Error, UnicodeError)

    def _create(self) -> None:
        import sqlite3

        generation = self._folder / os.urandom(8).hex()
        try:
            generation.mkdir(parents=True)
            connection = sqlite3.connect(
                generation / "catalog.sqlite", isolation_level=None, check_same_thread=False, timeout=0
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript("BEGIN;" + SCHEMA)
            connection.execute("INSERT INTO meta VALUES ('owner', ?)", (self._owner,))
            connection.execute("INSERT INTO meta VALUES ('tip', ?)", (struct.pack("<q32s", -1, bytes(32)),))
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            _remove(generation)
            raise CatalogUnusable from error
        self._connection, self._generation = connection, generation
        self._errors = (sqlite3.Error, UnicodeError)

    def _discard(self) -> None:
        """Give this generation up; the next fold begins another."""
        import sqlite3

        connection, generation = self._connection, self._generation
        lock = self._lock
        self._reset()
        self._lock = lock
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if generation is not None:
            _remove(generation)

    def _query(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        import sqlite3

        if self._connection is None:
            raise CatalogUnusable
        try:
            return self._connection.execute(statement, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            self._discard()
            raise CatalogUnusable from error

    def _read_meta(self) -> None:
        rows = self._query("SELECT value, (SELECT max(id) FROM packs) FROM meta WHERE name = 'tip'")
        try:
            tip, newest = rows[0]
            number, tip_hash = struct.unpack("<q32s", tip)
            # A fold takes several transactions to one tip, and may be cut off between them.
            if (number, tip_hash, newest) == (*self._tip, self._newest):
                return
            packs = {i: PackName(base, digest) for i, base, digest in self._query("SELECT * FROM packs")}
            self._collections = dict(self._query("SELECT name, id FROM collections"))
            self._names = {number: name for name, number in self._collections.items()}
        except (IndexError, struct.error, TypeError, ValueError) as error:
            self._discard()
            raise CatalogUnusable from error
        self._packs, self._tip, self._newest = packs, (number, tip_hash), newest
        self._covered = frozenset(packs.values())

    # ---- asking ------------------------------------------------------------------------------------------------------

    def find(self, collection: str, key: str) -> CatalogRow | None:
        """Return the newest row of a key, None if the covered packs do not know it.

        Raises:
            CatalogUnusable: damaged; it is made anew later.
        """
        with self._lock:
            if self._connection is None:
                raise CatalogUnusable
            number = self._collections.get(collection)
            if number is None:
                return None
            row = self._first(SELECT_ENTRY, (number, key))
            if row is not None:
                return self._proven(collection, key, *row)
            self._prove_gap(SELECT_NEIGHBOURS, number, key)
            return None

    def history(self, collection: str, key: str) -> list[CatalogRow]:
        """Return every row of a key that the covered packs have, in no order.

        Raises:
            CatalogUnusable: damaged; it is made anew later.
        """
        newest = self.find(collection, key)
        if newest is None:
            return []
        with self._lock:
            number = self._collections.get(collection)
            if number is None:
                raise CatalogUnusable
            rows = self._query(SELECT_OLDER, (number, key))
            self._prove_gap(SELECT_OLDER_NEIGHBOURS, number, key)
            return [newest, *(self._proven(collection, key, *row) for row in rows)]

    def _prove_gap(self, statements: tuple[str, ...], number: int, key: str) -> None:
        # A key that was damaged stands where the one that is looked for should be: beside the gap.
        for statement in statements:
            neighbour = self._first(statement, (number, key))
            if neighbour is not None:
                self._proven(self._names.get(neighbour[0], ""), *neighbour[1:])

    def _first(self, statement: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # Not by `_query`: this is the hot path.
        if self._connection is None:
            raise CatalogUnusable
        try:
            return self._connection.execute(statement, values).fetchone()
        except self._errors as error:
            self._discard()
            raise CatalogUnusable from error

    def _proven(
        self,
        collection: str,
        key: str,
        stamp: int,
        writer: bytes,
        digest: bytes,
        form: int,
        pack_id: int,
        place: bytes | None,
        proof: bytes,
    ) -> CatalogRow:
        pack = self._packs.get(pack_id)
        try:
            if pack is None or proof != entry_proof(
                collection, key, stamp, writer, digest, form, pack, place
            ):
                raise TypeError
        except TypeError as error:
            # Damage may also have changed what type a value has.
            self._discard()
            raise CatalogUnusable from error
        return CatalogRow(
            stamp,
            writer,
            Digest(digest) if digest else None,
            form,
            pack,
            PLACE.unpack(place) if place else None,
        )

    def find_blob(self, digest: Digest) -> tuple[PackName, tuple[int, int, int, int, bytes]] | None:
        """Return pack and place of a blob of an artifact, None if the covered packs do not hold it.

        Raises:
            CatalogUnusable: damaged; it is made anew later.
        """
        with self._lock:
            row = self._first("SELECT pack, place, proof FROM blobs WHERE digest = ?", (bytes(digest),))
            if row is None:
                return None
            pack_id, place, proof = row
            pack = self._packs.get(pack_id)
            try:
                if pack is None or proof != blob_proof(digest, pack, place):
                    raise TypeError
            except TypeError as error:
                self._discard()
                raise CatalogUnusable from error
        return pack, PLACE.unpack(place)

    # ---- folding -----------------------------------------------------------------------------------------------------

    def fold(self, state: State, blobs: BlobStore, stop: Callable[[], bool]) -> bool:
        """Take in the packs of `state` that are not here yet; nobody waits for it, and another process may win.

        `stop` is asked between transactions, so that a closing process does not wait long. Returns whether all of
        them are here now.
        """
        import sqlite3

        try:
            with self._lock:
                try:
                    self._open()
                except CatalogUnusable:
                    self._create()
                self.end_snapshot()
                self._read_meta()
                if self._tip[0] > state.number or self._generation is None:
                    return False
                known, path = set(self._packs.values()), self._generation / "catalog.sqlite"
            # A connection of its own, so that readers keep theirs while rows are written.
            with contextlib.closing(
                sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
            ) as writer:
                writer.execute("PRAGMA synchronous = NORMAL")
                missing = [state.packs[name] for name in sorted(set(state.packs) - known)]
                for batch in batches(missing):
                    if stop():
                        return False
                    fold_batch(writer, state, batch, blobs)
        except (CatalogUnusable, sqlite3.Error):
            # Another process folds, and its work serves us as well; or the disk is full: then without.
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self.end_snapshot()
            connection, self._connection = self._connection, None
            if connection is not None:
                import sqlite3

                with contextlib.suppress(sqlite3.Error):
                    connection.close()


def _remove(generation: Path) -> None:
    import shutil

    shutil.rmtree(generation, ignore_errors=True)


_abandoned: list[object] = []
"""Connections that a fork left; kept so that they are never closed by the collector."""
