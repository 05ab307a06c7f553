"""The rows of a catalog: its tables, what proves a row right, and how packs become rows.

Layer: repository. Each row carries a check over all that it says, since one flipped bit would otherwise turn a key into
the place of another's value.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blake3 import blake3

from keepstone.blobs.blobstore import BlobStore, PackPlace
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    CorruptionError,
    MalformedError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import Origin
from keepstone.history.commit import PackName
from keepstone.history.state import LivePack, State

if TYPE_CHECKING:
    import sqlite3


class CatalogRow(NamedTuple):
    """A key's newest entry among the packs that the catalog covers."""

    stamp: int
    writer: bytes
    digest: Digest | None
    form: int
    pack: PackName
    place: tuple[int, int, int, int, bytes] | None
    """Offset in the pack, stored size, raw size, kind, dictionary; None where the value is not in this pack."""


SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE packs (id INTEGER PRIMARY KEY, base INTEGER, digest BLOB);
CREATE TABLE collections (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE entries (
    collection INTEGER, key TEXT, stamp INTEGER, writer BLOB, digest BLOB, form INTEGER,
    pack INTEGER, place BLOB, proof BLOB, PRIMARY KEY (collection, key)
) WITHOUT ROWID;
CREATE TABLE older (
    collection INTEGER, key TEXT, stamp INTEGER, writer BLOB, digest BLOB, form INTEGER,
    pack INTEGER, place BLOB, proof BLOB, PRIMARY KEY (collection, key, stamp, writer)
) WITHOUT ROWID;
CREATE TRIGGER supersede BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE collection = NEW.collection AND key = NEW.key)
BEGIN
    INSERT OR REPLACE INTO older SELECT * FROM entries
    WHERE collection = NEW.collection AND key = NEW.key AND (stamp, writer) < (NEW.stamp, NEW.writer);
    INSERT OR REPLACE INTO older SELECT
        NEW.collection, NEW.key, NEW.stamp, NEW.writer, NEW.digest, NEW.form, NEW.pack, NEW.place, NEW.proof
    FROM entries
    WHERE collection = NEW.collection AND key = NEW.key AND (stamp, writer) > (NEW.stamp, NEW.writer);
END;
CREATE TABLE blobs (digest BLOB PRIMARY KEY, pack INTEGER, place BLOB, proof BLOB) WITHOUT ROWID;
"""
SCHEMA_VERSION: Final = 2
"""A catalog of another one is not used."""
PLACE: Final = struct.Struct("<QIIB8s")
_PROOF_BYTES: Final = 8
_FOLD_ENTRIES_MAX: Final = 100_000
"""Rows in one transaction."""

SELECT_ENTRY: Final = (
    "SELECT stamp, writer, digest, form, pack, place, proof FROM entries WHERE collection = ? AND key = ?"
)
SELECT_OLDER: Final = (
    "SELECT stamp, writer, digest, form, pack, place, proof FROM older WHERE collection = ? AND key = ?"
)
"""The entries of a key that are superseded."""


def _neighbours(table: str) -> tuple[str, ...]:
    return tuple(
        f"SELECT collection, key, stamp, writer, digest, form, pack, place, proof FROM {table} "
        f"WHERE (collection, key) {relation} (?, ?) ORDER BY collection {order}, key {order} LIMIT 1"
        for relation, order in (("<", "DESC"), (">", "ASC"))
    )


SELECT_NEIGHBOURS: Final = _neighbours("entries")
SELECT_OLDER_NEIGHBOURS: Final = _neighbours("older")
_UPSERT_ENTRY: Final = """
INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET
    stamp = excluded.stamp, writer = excluded.writer, digest = excluded.digest, form = excluded.form,
    pack = excluded.pack, place = excluded.place, proof = excluded.proof
WHERE (excluded.stamp, excluded.writer) >= (entries.stamp, entries.writer)
"""


def owner_mark(device: int, inode: int) -> bytes:
    """Return what a catalog says of whose it is: the file `store.json` that it was made beside, and its own schema."""
    return struct.pack("<QQI", device, inode, SCHEMA_VERSION)


def holds_saves(pack: LivePack) -> bool:
    """Whether a pack's blobs are looked for by digest: those of artifacts, and large values of collections."""
    return pack.record.origin not in (Origin.JOURNAL, Origin.REPACK)


def batches(packs: list[LivePack]) -> Iterator[list[LivePack]]:
    """Yield packs in groups, each for one transaction."""
    batch: list[LivePack] = []
    rows = 0
    for pack in packs:
        batch.append(pack)
        rows += pack.record.entries
        if rows >= _FOLD_ENTRIES_MAX:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def fold_batch(writer: sqlite3.Connection, state: State, packs: list[LivePack], blobs: BlobStore) -> None:
    """Write the rows of `packs`, which come from the log that `state` is of, in one transaction.

    Raises:
        sqlite3.Error: nothing was written; another process may be writing.
    """
    import sqlite3

    prepared: list[tuple[LivePack, list[tuple[Any, ...]], list[tuple[Any, ...]]]] = []
    with blobs.each(packs, lambda pack: blobs.footer_spans(_place_of(pack))) as opened:
        for pack in opened:
            # A pack that cannot be read costs what is in it; the rest of the store has its catalog all the same.
            with contextlib.suppress(CorruptionError, BlobNotFoundError, UnsupportedFormatError):
                prepared.append((pack, *_rows_of(pack, blobs)))
    writer.execute("BEGIN IMMEDIATE")
    try:
        known = {PackName(base, digest) for _, base, digest in writer.execute("SELECT * FROM packs")}
        for pack, entries, places in prepared:
            if pack.name not in known:
                _insert(writer, pack, entries, places)
        tip = struct.pack("<q32s", state.number, state.hash)
        writer.execute("UPDATE meta SET value = ? WHERE name = 'tip'", (tip,))
        writer.execute("COMMIT")
    except sqlite3.Error:
        with contextlib.suppress(sqlite3.Error):
            writer.execute("ROLLBACK")
        raise


def _insert(
    writer: sqlite3.Connection,
    pack: LivePack,
    entries: Iterable[tuple[Any, ...]],
    places: Iterable[tuple[Any, ...]],
) -> None:
    cursor = writer.execute(
        "INSERT INTO packs (base, digest) VALUES (?, ?)", (pack.name.base, pack.name.digest)
    )
    pack_id = cursor.lastrowid
    writer.executemany(
        "INSERT OR IGNORE INTO collections (name) VALUES (?)", ((name,) for name in pack.record.collections)
    )
    numbers = dict(writer.execute("SELECT name, id FROM collections"))
    writer.executemany(
        _UPSERT_ENTRY,
        ((numbers[c], k, s, w, d, f, pack_id, place, proof) for c, k, s, w, d, f, place, proof in entries),
    )
    writer.executemany(
        "INSERT OR REPLACE INTO blobs VALUES (?, ?, ?, ?)",
        ((digest, pack_id, place, proof) for digest, place, proof in places),
    )


def _place_of(pack: LivePack) -> PackPlace:
    return PackPlace(pack.key, pack.offset, pack.record.size, pack.record.footer_size, pack.record.stamp_max)


def _rows_of(pack: LivePack, blobs: BlobStore) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    index = blobs.index(_place_of(pack))
    ids = [bytes(8), *(identity for identity, _ in index.footer.dictionaries)]
    try:
        places = [PLACE.pack(row[0], row[1], row[2], row[3], ids[row[5]]) for row in index.rows]
    except IndexError as error:
        raise MalformedError(f"{pack.key} names a dictionary it does not have", where=pack.key) from error
    name = pack.name
    entries: list[tuple[Any, ...]] = []
    for collection in pack.record.collections:
        for entry, position in index.entries(collection):
            place = places[position] if position >= 0 else None
            key, stamp, writer, digest, form = entry
            digest = b"" if digest is None else bytes(digest)
            proof = entry_proof(collection, key, stamp, writer, digest, form, name, place)
            entries.append((collection, key, stamp, writer, digest, form, place, proof))
    if not holds_saves(pack):
        return entries, []
    digests = [index.digest(i) for i in range(index.blob_count)]
    return entries, [
        (bytes(digest), place, blob_proof(digest, pack.name, place))
        for digest, place in zip(digests, places, strict=True)
    ]


def entry_proof(
    collection: str,
    key: str,
    stamp: int,
    writer: bytes,
    digest: bytes,
    form: int,
    pack: PackName,
    place: bytes | None,
) -> bytes:
    text = f"{collection}\0{key}\0{stamp}\0{form}\0".encode()
    return blake3(text + writer + digest + pack.digest + (place or b"")).digest(_PROOF_BYTES)


def blob_proof(digest: bytes, pack: PackName, place: bytes) -> bytes:
    return blake3(b"".join((digest, pack.digest, place))).digest(_PROOF_BYTES)
