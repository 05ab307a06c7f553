"""The footer of a pack: where each blob lies, and the entries that name blobs, column by column.

Layer: blobs. Format: docs/format.md §4. A column holds one property of all rows, compressed by itself, so that a
question about keys reads keys only. Entries stand in the order of their stamps, which is the order of their blobs.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence, Set
from itertools import accumulate, islice
from operator import add
from typing import Final, NamedTuple

import msgspec
import zstandard

from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import FOOTER_BYTES_MAX

TOMBSTONE: Final = 0xFFFF_FFFF
_COLUMN_LEVEL: Final = 6
_FIND_EACH_MAX: Final = 64
"""So many digests are looked for one by one in the bytes of a footer; more, by going through all of its digests."""


class Entry(NamedTuple):
    """What a collection says of one key: the digest of its value, or that it was removed."""

    key: str
    stamp: int
    """Nanoseconds; with the writer it orders all entries of a key."""
    writer: bytes
    """8 bytes."""
    digest: Digest | None
    form: int


class BlobRow(NamedTuple):
    """One frame of a pack; offsets count from the pack's first byte."""

    offset: int
    stored_size: int
    raw_size: int
    kind: int
    codec: int
    dictionary: int
    """1 + position in the footer's dictionaries; 0 when there is none."""


class Section(msgspec.Struct, frozen=True, array_like=True):
    """The entries of one collection."""

    collection: str
    count: int
    tombstones: int
    stamp_min: int
    stamp_max: int
    keys: bytes
    """zstd of a MessagePack list of text."""
    stamps: bytes
    """zstd of i64 differences, each from the row before; the first from `stamp_min`."""
    writers: bytes
    """zstd of u16 positions in the footer's writers; empty when all are 0."""
    blobs: bytes
    """zstd of i64 differences: a blob's position, `blob_count` + a position in `externals`, or TOMBSTONE."""
    forms: bytes
    """zstd of u8."""


class Footer(msgspec.Struct, frozen=True, array_like=True):
    """All that a reader needs to find what a pack holds."""

    origin: int
    blob_count: int
    digests: bytes
    """32 bytes a blob, in the order of the frames."""
    frames: bytes
    """zstd of stored sizes u32, raw sizes u32, kinds u8, codecs u8, dictionaries u8, column after column."""
    dictionaries: tuple[tuple[bytes, int], ...]
    """(first 8 bytes of the digest, position of its frame)."""
    writers: tuple[bytes, ...]
    externals: bytes
    """Digests of values that lie in other packs, 32 bytes each."""
    sections: tuple[Section, ...]


def pack_column(code: str, values: Iterable[int]) -> bytes:
    """Return integers as a compressed column of array type `code`, little-endian."""
    column = array(code, values)
    if sys.byteorder == "big":
        column.byteswap()
    return zstandard.ZstdCompressor(level=_COLUMN_LEVEL).compress(column.tobytes())


def unpack_column(code: str, stored: bytes, count: int, *, where: str) -> array[int]:
    """Return the `count` integers of a column.

    Raises:
        MalformedError: damaged, or of another length.
    """
    width = array(code).itemsize
    raw = _inflate(stored, min(count * width, FOOTER_BYTES_MAX), where=where)
    if len(raw) != count * width:
        raise MalformedError(f"{where} has a column of {len(raw)} bytes, not of {count} rows", where=where)
    column = array(code, raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _inflate(stored: bytes, raw_size_max: int, *, where: str) -> bytes:
    try:
        parameters = zstandard.get_frame_parameters(stored)
        if parameters.content_size > raw_size_max:
            raise MalformedError(f"{where} has a column of {parameters.content_size:,} bytes", where=where)
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=max(1, raw_size_max))
    except zstandard.ZstdError as error:
        raise MalformedError(f"{where} has a damaged column: {error}", where=where) from error


def _differences(values: Sequence[int], first: int) -> Iterable[int]:
    previous = first
    for value in values:
        yield value - previous
        previous = value


def pack_section(
    collection: str, entries: Sequence[Entry], blobs: Sequence[int], writers: dict[bytes, int]
) -> Section:
    """Return `entries`, sorted by stamp, as columns; `blobs` holds the position of each one's value."""
    stamps = [entry.stamp for entry in entries]
    positions = [writers.setdefault(entry.writer, len(writers)) for entry in entries]
    keys = encode([entry.key for entry in entries])
    return Section(
        collection=collection,
        count=len(entries),
        tombstones=sum(1 for entry in entries if entry.digest is None),
        stamp_min=stamps[0],
        stamp_max=max(stamps),
        keys=zstandard.ZstdCompressor(level=_COLUMN_LEVEL).compress(keys),
        stamps=pack_column("q", _differences(stamps, stamps[0])),
        writers=pack_column("H", positions) if any(positions) else b"",
        blobs=pack_column("q", _differences(blobs, 0)),
        forms=pack_column("B", [entry.form for entry in entries]),
    )


class Columns(NamedTuple):
    """The entries of one collection in one pack, without their keys."""

    stamps: array[int]
    writers: array[int] | None
    """Positions in the footer's writers; None when all are 0."""
    blobs: array[int]
    """As in `Section.blobs`, no longer as differences."""
    forms: array[int]


class FrameColumns(NamedTuple):
    """The frames of a pack, column by column; where each begins is `PackIndex.offsets`."""

    stored_sizes: array[int]
    raw_sizes: array[int]
    kinds: bytes
    codecs: bytes
    dictionaries: bytes
    """As in `BlobRow.dictionary`."""


class PackIndex:
    """A footer, read: positions of blobs, keys and entries of collections, each decoded when it is asked for."""

    def __init__(self, footer: Footer, *, where: str) -> None:
        self.footer = footer
        self.where = where
        self.blob_count = footer.blob_count
        self.sections = {section.collection: section for section in footer.sections}
        if len(footer.digests) != footer.blob_count * DIGEST_BYTES or len(footer.externals) % DIGEST_BYTES:
            raise MalformedError(f"{where} has a footer whose digests do not add up", where=where)
        if any(not 0 <= position < footer.blob_count for _, position in footer.dictionaries):
            raise MalformedError(f"{where} names a dictionary it does not have", where=where)
        self._frames: FrameColumns | None = None
        self._offsets: array[int] | None = None
        self._columns: dict[str, Columns] = {}
        self._positions: dict[bytes, int] | None = None

    @classmethod
    def decode(cls, data: bytes | memoryview, *, where: str) -> PackIndex:
        """Return the index that a footer's payload describes.

        Raises:
            MalformedError: it is not a footer.
        """
        return cls(decode(data, Footer, what=f"footer of {where}", bytes_max=FOOTER_BYTES_MAX), where=where)

    def digest(self, position: int) -> Digest:
        """Return the digest of the blob at `position`."""
        return Digest(self.footer.digests[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])

    def find(self, digest: bytes) -> int | None:
        """Return the position of a blob, or None where this pack does not hold it."""
        if self._positions is None:
            digests = self.footer.digests
            # Built backwards so that of equal digests the first counts.
            self._positions = {
                digests[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]: i
                for i in range(self.blob_count - 1, -1, -1)
            }
        return self._positions.get(bytes(digest))

    @property
    def rows(self) -> list[BlobRow]:
        """The frames, in order."""
        return list(map(BlobRow, self.offsets, *self.frames))

    def row(self, position: int) -> BlobRow:
        """Return one frame."""
        return BlobRow(self.offsets[position], *(column[position] for column in self.frames))

    @property
    def frames(self) -> FrameColumns:
        """All frames as columns; kept, so that single rows are cheap.

        Raises:
            MalformedError: damaged.
        """
        if self._frames is None:
            count = self.blob_count
            data = _inflate(self.footer.frames, count * 11, where=self.where)
            if len(data) != count * 11:
                raise MalformedError(
                    f"{self.where} has a footer whose frames do not add up", where=self.where
                )
            words = array("I", data[: count * 8])
            if sys.byteorder == "big":
                words.byteswap()
            stored, raw = words[:count], words[count:]
            flags = data[count * 8 :]
            self._frames = FrameColumns(
                stored,
                raw,
                flags[:count],
                flags[count : 2 * count],
                flags[2 * count :],
            )
        return self._frames

    @property
    def offsets(self) -> array[int]:
        """Where each frame begins, counted from the pack's first byte."""
        if self._offsets is None:
            from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES

            sizes, header = self.frames.stored_sizes, PACK_FRAME_HEADER_BYTES
            # Content before each frame and headers before it, added up without a step of Python for each.
            headers = range(0, header * (len(sizes) + 1), header)
            self._offsets = array("Q", map(add, accumulate(sizes, initial=0), headers))
            self._offsets.pop()
        return self._offsets

    def keys(self, collection: str) -> list[str]:
        """Return the keys of a collection's entries, tombstones among them, in the order of their stamps."""
        section = self.sections.get(collection)
        if section is None:
            return []
        raw = _inflate(section.keys, FOOTER_BYTES_MAX, where=self.where)
        keys = decode(raw, list[str], what=f"keys of {self.where}", bytes_max=FOOTER_BYTES_MAX)
        if len(keys) != section.count:
            raise MalformedError(
                f"{self.where} has {len(keys)} keys instead of {section.count}", where=self.where
            )
        return keys

    def columns(self, collection: str) -> Columns:
        """Return all but the keys of a collection's entries; kept, so that single entries are cheap.

        Raises:
            MalformedError: damaged.
        """
        columns = self._columns.get(collection)
        if columns is None:
            section = self.sections.get(collection)
            if section is None:
                raise MalformedError(f"{self.where} has no entries of {collection!r}", where=self.where)
            count, where = section.count, self.where
            stamps = accumulate(
                unpack_column("q", section.stamps, count, where=where), initial=section.stamp_min
            )
            blobs = accumulate(unpack_column("q", section.blobs, count, where=where))
            try:
                columns = self._columns[collection] = Columns(
                    array("q", islice(stamps, 1, None)),
                    unpack_column("H", section.writers, count, where=where) if section.writers else None,
                    array("q", blobs),
                    unpack_column("B", section.forms, count, where=where),
                )
            except OverflowError as error:
                raise MalformedError(
                    f"{where} has entries that do not add up: {error}", where=where
                ) from error
        return columns

    def entry(self, collection: str, row: int, key: str) -> tuple[Entry, int]:
        """Return one of a collection's entries, whose key is known, and the position of its blob (-1: not here)."""
        columns = self.columns(collection)
        digest, blob = self._value(columns.blobs[row])
        writer = self._writer(columns.writers[row] if columns.writers else 0)
        return Entry(key, columns.stamps[row], writer, digest, columns.forms[row]), blob

    def entries(self, collection: str) -> list[tuple[Entry, int]]:
        """Return a collection's entries, each with the position of its blob (-1: not in this pack)."""
        if collection not in self.sections:
            return []
        stamps, positions, blobs, forms = self.columns(collection)
        writers = map(self._writer, positions or [0] * len(stamps))
        return [
            (Entry(key, stamp, writer, digest, form), blob)
            for key, stamp, writer, (digest, blob), form in zip(
                self.keys(collection), stamps, writers, map(self._value, blobs), forms, strict=True
            )
        ]

    def _writer(self, position: int) -> bytes:
        try:
            return self.footer.writers[position]
        except IndexError as error:
            raise MalformedError(f"{self.where} names a writer it does not have", where=self.where) from error

    def _value(self, position: int) -> tuple[Digest | None, int]:
        if position == TOMBSTONE:
            return None, -1
        if 0 <= position < self.blob_count:
            return self.digest(position), position
        start = (position - self.blob_count) * DIGEST_BYTES
        digest = self.footer.externals[start : start + DIGEST_BYTES]
        if position < 0 or len(digest) != DIGEST_BYTES:
            raise MalformedError(
                f"{self.where} names blob {position}, which it does not have", where=self.where
            )
        return Digest(digest), -1


def positions_in(digests: bytes, wanted: Set[bytes]) -> list[tuple[bytes, int]]:
    """Return (digest, its position) of those of `wanted` that are among `digests`, a footer's column."""
    if len(wanted) > _FIND_EACH_MAX:
        pieces = (digests[i : i + DIGEST_BYTES] for i in range(0, len(digests), DIGEST_BYTES))
        return [(digest, i) for i, digest in enumerate(pieces) if digest in wanted]
    found: list[tuple[bytes, int]] = []
    for digest in wanted:
        start = digests.find(digest)
        while start >= 0 and start % DIGEST_BYTES:
            start = digests.find(digest, start + 1)
        if start >= 0:
            found.append((digest, start // DIGEST_BYTES))
    return found
