"""Checking the catalog: does it say of keys what the footers say?

Layer: operations. A sample is compared: each row proves itself when it is used, and a catalog that is wrong can be
deleted. SQLite may write beside a database that it only reads, so one that is in use is copied first.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keepstone.blobs.blobstore import BlobStore
from keepstone.blobs.footer import PackIndex
from keepstone.history.commit import PackName
from keepstone.history.state import LivePack, State
from keepstone.operations.findings import UNREADABLE, Findings, told
from keepstone.operations.fsck_packs import CheckedPack
from keepstone.repository.catalog_rows import (
    SELECT_ENTRY,
    blob_proof,
    entry_proof,
    holds_saves,
    owner_mark,
)
from keepstone.repository.entries import pack_place
from keepstone.storage.base import Storage
from keepstone.storage.local import LocalStorage

if TYPE_CHECKING:
    import sqlite3

FOLDER: Final = "cache"
_DATABASE: Final = "catalog.sqlite"
_ROWS_MAX: Final = 1_000
"""Rows that are compared; all of a smaller store's."""
_PACK_ROWS_MAX: Final = 500
"""... and of one pack, so that several are looked at."""


def check_catalog(
    storage: Storage,
    state: State,
    packs: Sequence[CheckedPack],
    findings: Findings,
    hash_at: Callable[[int], bytes | None],
) -> None:
    """Compare the catalog, if there is one, with the footers."""
    if not isinstance(storage, LocalStorage):
        return
    folder = Path(storage.location, FOLDER)
    try:
        generations = sorted(path for path in folder.iterdir() if (path / _DATABASE).exists())
        owner = os.stat(Path(storage.location, "store.json"))
    except OSError:
        return
    for generation in generations:
        check = _CatalogCheck(state, packs, BlobStore(storage, index_bytes_max=1), hash_at)
        where = f"{FOLDER}/{generation.name}"
        before = _look(generation)
        problem = check.run(generation, owner_mark(owner.st_dev, owner.st_ino))
        # One that was written to, or given up, while it was read says nothing.
        if problem and before == _look(generation):
            findings.warn("I4" if check.wrong else "I11", where, problem)


def _look(generation: Path) -> list[tuple[str, int, int]]:
    """Return what changes when a database is written to."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(generation)]
    except OSError:
        return []
    # Readers write to the file of locks, "-shm", too.
    return sorted((name, s.st_size, s.st_mtime_ns) for name, s in found if not name.endswith("-shm"))


@contextlib.contextmanager
def _opened(generation: Path) -> Generator[sqlite3.Connection]:
    """Yield a connection to a database that is not written to by it."""
    import sqlite3

    log = generation / f"{_DATABASE}-wal"
    with contextlib.ExitStack() as stack:
        if log.exists() and log.stat().st_size:
            copy = stack.enter_context(tempfile.TemporaryDirectory(prefix="keepstone-fsck-"))
            shutil.copytree(generation, Path(copy, generation.name))
            address = Path(copy, generation.name, _DATABASE).as_uri()
        else:
            # Nothing waits to be taken over from a log: so all of it stands in this one file.
            address = f"{(generation / _DATABASE).as_uri()}?immutable=1"
        yield stack.enter_context(
            contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=0))
        )


class _CatalogCheck:
    """One generation of the catalog, compared with the footers."""

    def __init__(
        self,
        state: State,
        packs: Sequence[CheckedPack],
        blobs: BlobStore,
        hash_at: Callable[[int], bytes | None],
    ) -> None:
        self.wrong = 0
        self._state = state
        self._packs = packs
        self._blobs = blobs
        self._hash_at = hash_at
        self._names: dict[int, PackName] = {}
        self._collections: dict[str, int] = {}

    def run(self, generation: Path, owner: bytes) -> str:
        """Return what is wrong with it; nothing where all is well, or where nobody would use it."""
        import sqlite3

        try:
            with _opened(generation) as connection:
                if self._is_in_use(connection, owner):
                    self._compare(connection)
        except (OSError, shutil.Error) as error:
            return f"cannot be compared: {told(error)}"
        except (sqlite3.Error, *UNREADABLE) as error:
            return f"is damaged ({told(error)}); it can be deleted, and is made anew"
        if self.wrong:
            return f"says something else than the footers about {self.wrong:,} keys; it can be deleted"
        return ""

    def _is_in_use(self, connection: sqlite3.Connection, owner: bytes) -> bool:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if meta["owner"] != owner:
            return False
        number, tip_hash = struct.unpack("<q32s", meta["tip"])
        if number > self._state.number:
            # Folded since the log was read here, or of another history; whoever opens it finds out.
            return False
        if tip_hash != (self._state.hash if number == self._state.number else self._hash_at(number)):
            return False
        rows = connection.execute("SELECT id, base, digest FROM packs")
        self._names = {i: PackName(base, digest) for i, base, digest in rows}
        self._collections = dict(connection.execute("SELECT name, id FROM collections"))
        return True

    def _compare(self, connection: sqlite3.Connection) -> None:
        covered = set(self._names.values())
        inside = [pack.pack for pack in self._packs if pack.pack.name in covered]
        # Others at each state of the store, the same ones when it is checked twice.
        random.Random(self._state.hash).shuffle(inside)
        left = _ROWS_MAX
        for pack in inside:
            if left <= 0:
                break
            index = self._blobs.index(pack_place(pack))
            left -= self._compare_entries(connection, pack, index, left)
            if holds_saves(pack):
                left -= self._compare_blobs(connection, index)

    def _compare_entries(
        self, connection: sqlite3.Connection, pack: LivePack, index: PackIndex, left: int
    ) -> int:
        compared = 0
        for collection, section in index.sections.items():
            number = self._collections.get(collection)
            keys = index.keys(collection)
            for row in _spread(section.count, min(_PACK_ROWS_MAX, left - compared)):
                compared += 1
                entry, _ = index.entry(collection, row, keys[row])
                found = connection.execute(SELECT_ENTRY, (number, entry.key)).fetchone()
                known = None if found is None else self._proven(collection, entry.key, found)
                order = entry.stamp, entry.writer
                # A newer row of the key is another pack's, and is compared there.
                if known is None or known[:2] < order:
                    self.wrong += 1
                elif known[:2] == order:
                    digest = b"" if entry.digest is None else bytes(entry.digest)
                    self.wrong += known[2:] != (digest, entry.form)
        return compared

    def _proven(self, collection: str, key: str, row: tuple[Any, ...]) -> tuple[Any, ...] | None:
        stamp, writer, digest, form, number, place, proof = row
        pack = self._names.get(number)
        if pack is None:
            return None
        expected = entry_proof(collection, key, stamp, writer, digest, form, pack, place)
        return (stamp, writer, digest, form) if proof == expected else None

    def _compare_blobs(self, connection: sqlite3.Connection, index: PackIndex) -> int:
        positions = _spread(index.blob_count, _PACK_ROWS_MAX)
        for position in positions:
            digest = bytes(index.digest(position))
            select = "SELECT pack, place, proof FROM blobs WHERE digest = ?"
            found = connection.execute(select, (digest,)).fetchone()
            pack = self._names.get(found[0]) if found else None
            self.wrong += pack is None or found[2] != blob_proof(digest, pack, found[1])
        return len(positions)


def _spread(count: int, wanted: int) -> Sequence[int]:
    """Return about `wanted` numbers below `count`, evenly spread."""
    return range(0, count, max(1, -(-count // max(1, wanted))))
