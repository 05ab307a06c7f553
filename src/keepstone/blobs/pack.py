"""Packs: frames written back to back, a footer that indexes them, a trailer that finds the footer.

Layer: blobs. Format: docs/format.md §3 and §4. Sizes and offsets are bytes; ranges are [start, end).
A pack is written once and never changed; losing its footer loses no blob (blobs/pack_scan.py).
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

import zstandard

from keepstone.blobs.compression import (
    DICTIONARY_BLOB_BYTES_MAX,
    SEAL_LEVEL,
    TRIAL_LEVEL,
    Decompressor,
    Dictionary,
    compress_many,
    is_compressible,
    new_compressor,
    train,
)
from keepstone.blobs.footer import TOMBSTONE, Entry, Footer, PackIndex, Section, pack_section
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, encode_header, read_raw
from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import encode
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import (
    FOOTER_BYTES_MAX,
    PACK_TRAILER_MAGIC,
    Codec,
    Kind,
    Origin,
)
from keepstone.foundation.frame import NO_DICTIONARY, decode_frame, encode_frame
from keepstone.storage.base import ReadsRanges

_TRAILER: Final = struct.Struct("<QI8s")
TRAILER_BYTES: Final = _TRAILER.size
_SMALL: Final = DICTIONARY_BLOB_BYTES_MAX
_CHUNK_BYTES_MIN: Final = 4 * 1024 * 1024
"""What is hashed and written at once; a pack need not be whole in memory a second time."""
_JOINED_BYTES_MAX: Final = 64 * 1024
"""Larger parts are hashed and written as they are: to join them takes longer than a call for each."""


class Pack(NamedTuple):
    """A finished pack, ready to be written."""

    parts: Sequence[bytes]
    size: int
    """Bytes of all parts."""
    digest: Digest
    """BLAKE3 of `data`; half of its name."""
    footer_size: int
    """Bytes from the footer's first to the pack's last: one read opens the pack."""
    origin: Origin
    entries: int
    collections: tuple[str, ...]
    stamp_max: int
    """0 when there are no entries."""

    @property
    def data(self) -> bytes:
        """The whole pack; for small ones."""
        return b"".join(self.parts)

    def chunks(self) -> Generator[bytes]:
        """Yield the pack's bytes in chunks of some MiB."""
        yield from _chunks(self.parts)


class PackBuilder:
    """Collects blobs and entries; each digest is stored once. For one thread at a time."""

    def __init__(self, origin: Origin, *, level: int = SEAL_LEVEL) -> None:
        self.origin = origin
        self.level = level
        self.size = 0
        self._compressor = new_compressor(level)
        self._trial = new_compressor(TRIAL_LEVEL)
        self._parts: list[bytes] = []
        self._positions: dict[bytes, int] = {}
        self._digests: list[bytes] = []
        self._columns: tuple[list[int], list[int], list[int], list[int], list[int]] = ([], [], [], [], [])
        self._dictionaries: dict[bytes, int] = {}
        self._entries: dict[str, list[Entry]] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._positions

    @property
    def empty(self) -> bool:
        """Whether nothing was added."""
        return not self._digests and not self._entries

    def copy(self) -> PackBuilder:
        """Return a builder that holds the same and can go its own way."""
        twin = PackBuilder(self.origin, level=self.level)
        twin.size = self.size
        twin._parts = list(self._parts)
        twin._positions = dict(self._positions)
        twin._digests = list(self._digests)
        a, b, c, d, e = self._columns
        twin._columns = (list(a), list(b), list(c), list(d), list(e))
        twin._dictionaries = dict(self._dictionaries)
        twin._entries = {name: list(entries) for name, entries in self._entries.items()}
        return twin

    def add(self, digest: Digest, raw: bytes, kind: Kind = Kind.BLOB) -> None:
        """Add one blob; a recipe or dictionary where `kind` says so. Compressed only where that is shorter."""
        if digest in self._positions:
            return
        self._add_shorter(
            digest, raw, self._compressor.compress(raw) if is_compressible(raw, self._trial) else raw, kind
        )

    def shrink(self, raws: Sequence[bytes]) -> list[bytes]:
        """Return how each of many large blobs would be stored: compressed, or as it is; by several threads."""
        tried = [raw for raw in raws if is_compressible(raw, self._trial)]
        if not tried:
            return list(raws)
        shrunk = dict(
            zip(map(id, tried), compress_many(tried, self.level, None, in_parallel=True), strict=True)
        )
        return [shrunk.get(id(raw), raw) for raw in raws]

    def add_shrunk(self, digest: Digest, raw: bytes, stored: bytes) -> None:
        """Add a blob that `shrink` was asked about."""
        if digest not in self._positions:
            self._add_shorter(digest, raw, stored, Kind.BLOB)

    def _add_shorter(self, digest: Digest, raw: bytes, stored: bytes, kind: Kind) -> None:
        if len(stored) < len(raw):
            self.add_stored(digest, kind, Codec.ZSTD, stored, len(raw))
        else:
            self.add_stored(digest, kind, Codec.RAW, raw, len(raw))

    def add_many(self, blobs: Sequence[tuple[Digest, bytes]]) -> None:
        """Add many blobs at once; small ones share a dictionary where that makes them smaller."""
        fresh: dict[bytes, bytes] = {}
        known = self._positions
        for digest, raw in blobs:
            if digest not in known:
                fresh[digest] = raw
        small = [raw for raw in fresh.values() if len(raw) <= _SMALL]
        dictionary = train(small, sum(map(len, small)))
        shared = compress_many(small, self.level, dictionary)
        if dictionary:
            self.add_dictionary(dictionary)
        codec = Codec.ZSTD_DICTIONARY if dictionary else Codec.ZSTD
        position = 1 + list(self._dictionaries).index(dictionary.id) if dictionary else 0
        self._append_small(
            [d for d, raw in fresh.items() if len(raw) <= _SMALL], small, shared, codec, position
        )
        for digest, raw in fresh.items():
            if len(raw) > _SMALL:
                self.add(Digest(digest), raw)

    def _append_small(
        self,
        digests: list[bytes],
        raws: list[bytes],
        shrunk: list[bytes],
        codec: int,
        dictionary: int,
    ) -> None:
        """Append many frames at once, column by column: this is most of the work of sealing."""
        smaller = [len(stored) < len(raw) for stored, raw in zip(shrunk, raws, strict=True)]
        frames = [stored if less else raw for stored, raw, less in zip(shrunk, raws, smaller, strict=True)]
        sizes, raw_sizes = list(map(len, frames)), list(map(len, raws))
        codecs = [int(codec) if less else 0 for less in smaller]
        blob = int(Kind.BLOB)
        headers = [
            encode_header(blob, how, frame, size)
            for how, frame, size in zip(codecs, frames, raw_sizes, strict=True)
        ]
        first = len(self._digests)
        self._positions.update(zip(digests, range(first, first + len(digests)), strict=True))
        self._digests.extend(digests)
        for column, values in zip(
            self._columns,
            (sizes, raw_sizes, [blob] * len(frames), codecs, [dictionary if less else 0 for less in smaller]),
            strict=True,
        ):
            column.extend(values)
        self._parts.extend(chain.from_iterable(zip(headers, frames, strict=True)))
        self.size += PACK_FRAME_HEADER_BYTES * len(frames) + sum(sizes)

    @property
    def dictionaries(self) -> int:
        """How many dictionaries were added; there is room for 255."""
        return len(self._dictionaries)

    def add_dictionary(self, dictionary: Dictionary) -> None:
        """Add what frames that follow are compressed with."""
        if dictionary.id not in self._dictionaries:
            self._dictionaries[dictionary.id] = len(self._digests)
            self.add(dictionary.digest, dictionary.content, Kind.DICTIONARY)

    def add_stored(
        self,
        digest: bytes,
        kind: int,
        codec: int,
        stored: bytes,
        raw_size: int,
        dictionary: bytes = NO_DICTIONARY,
    ) -> None:
        """Add a frame as it is stored; its dictionary, if it has one, must have been added before."""
        if digest in self._positions:
            return
        position = 0
        if dictionary != NO_DICTIONARY:
            position = 1 + list(self._dictionaries).index(dictionary)
        self._append(bytes(digest), int(kind), int(codec), stored, raw_size, position)

    def _append(
        self, digest: bytes, kind: int, codec: int, stored: bytes, raw_size: int, position: int
    ) -> None:
        self._positions[digest] = len(self._digests)
        self._digests.append(digest)
        size = len(stored)
        stored_sizes, raw_sizes, kinds, codecs, dictionaries = self._columns
        stored_sizes.append(size)
        raw_sizes.append(raw_size)
        kinds.append(kind)
        codecs.append(codec)
        dictionaries.append(position)
        self._parts.append(encode_header(kind, codec, stored, raw_size))
        self._parts.append(stored)
        self.size += PACK_FRAME_HEADER_BYTES + size

    def read(self, digest: bytes) -> tuple[int, bytes] | None:
        """Return kind and content of a blob that was added with `add`; None where there is none."""
        position = self._positions.get(bytes(digest))
        if position is None:
            return None
        header, stored = self._parts[2 * position : 2 * position + 2]
        raw = read_raw(
            header + stored, Decompressor(), NO_DICTIONARY, _no_dictionary, where="a new pack", offset=0
        )
        return self._columns[2][position], raw

    def add_entry(self, collection: str, entry: Entry) -> None:
        """Name a value; its blob is in this pack, or in one that the commit states as needed."""
        self._entries.setdefault(collection, []).append(entry)

    def finish(self) -> Pack:
        """Return the whole pack."""
        writers: dict[bytes, int] = {}
        externals: dict[bytes, int] = {}
        sections: list[Section] = []
        for collection in sorted(self._entries):
            entries = sorted(self._entries[collection], key=lambda e: (e.stamp, e.writer))
            blobs = [self._value_position(entry.digest, externals) for entry in entries]
            sections.append(pack_section(collection, entries, blobs, writers))
        footer = Footer(
            origin=self.origin,
            blob_count=len(self._digests),
            digests=b"".join(self._digests),
            frames=self._frames_column(),
            dictionaries=tuple(self._dictionaries.items()),
            writers=tuple(writers),
            externals=b"".join(externals),
            sections=tuple(sections),
        )
        frame = encode_frame(Kind.FOOTER, encode(footer))
        size_field = struct.pack("<Q", len(frame))
        trailer = _TRAILER.pack(len(frame), zlib.crc32(size_field), PACK_TRAILER_MAGIC)
        parts = [*self._parts, frame, trailer]
        return Pack(
            parts=parts,
            size=self.size + len(frame) + len(trailer),
            # By one thread: several take longer for pieces of this size, and large packs have a thread of their own.
            digest=Digest.of_chunks(_chunks(parts)),
            footer_size=len(frame) + TRAILER_BYTES,
            origin=self.origin,
            entries=sum(map(len, self._entries.values())),
            collections=tuple(sorted(self._entries)),
            stamp_max=max((e.stamp for rows in self._entries.values() for e in rows), default=0),
        )

    def _value_position(self, digest: Digest | None, externals: dict[bytes, int]) -> int:
        if digest is None:
            return TOMBSTONE
        position = self._positions.get(digest)
        if position is None:
            position = len(self._digests) + externals.setdefault(bytes(digest), len(externals))
        return position

    def _frames_column(self) -> bytes:
        words = array("I", self._columns[0])
        words.extend(self._columns[1])
        if sys.byteorder == "big":
            words.byteswap()
        raw = words.tobytes() + b"".join(bytes(column) for column in self._columns[2:])
        return zstandard.ZstdCompressor(level=6).compress(raw)


def _chunks(parts: Sequence[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        is_large = len(part) >= _JOINED_BYTES_MAX
        if waiting and (is_large or size >= _CHUNK_BYTES_MIN):
            yield b"".join(waiting)
            waiting, size = [], 0
        if is_large:
            yield part
        else:
            waiting.append(part)
            size += len(part)
    if waiting:
        yield b"".join(waiting)


def _no_dictionary(identity: bytes) -> bytes:
    raise MalformedError(f"a new pack needs the dictionary {identity.hex()}", where="a new pack")


def read_index(tail: bytes | memoryview, *, where: str) -> PackIndex:
    """Return the index of a pack whose last `footer_size` bytes are `tail`.

    Raises:
        MalformedError: `tail` is not the whole footer and trailer of a pack, or damaged.
    """
    start = len(tail) - footer_size(tail, where=where)
    payload, _ = decode_frame(tail, start, kind=Kind.FOOTER, where=where)
    return PackIndex.decode(payload, where=where)


def read_index_at_end(storage: ReadsRanges, key: str, size: int) -> tuple[PackIndex, int]:
    """Return the index of the pack that ends an object of `size` bytes, and how many bytes footer and trailer take.

    Two reads, and no more than that of a pack of any size.

    Raises:
        MalformedError, DigestMismatchError: no pack ends there, or its footer is damaged.
        ObjectNotFoundError: it is gone.
    """
    trailer = storage.read_range(key, max(0, size - TRAILER_BYTES), size)
    footer_bytes = footer_size(trailer, where=key, end=size)
    return read_index(storage.read_range(key, size - footer_bytes, size), where=key), footer_bytes


def footer_size(tail: bytes | memoryview, *, where: str, end: int | None = None) -> int:
    """Return how many of a pack's last bytes are footer and trailer; `tail` is any stretch up to its end.

    `end` is how many there can be; None where `tail` should hold them all.

    Raises:
        MalformedError: it does not end as a pack does, or there are not so many bytes.
    """
    if len(tail) < TRAILER_BYTES:
        raise MalformedError(f"{where} is too short for a pack", where=where)
    size, check, magic = _TRAILER.unpack_from(tail, len(tail) - TRAILER_BYTES)
    if magic != PACK_TRAILER_MAGIC or zlib.crc32(struct.pack("<Q", size)) != check:
        raise MalformedError(f"{where} does not end as a pack does", where=where, offset=len(tail))
    if size + TRAILER_BYTES > (len(tail) if end is None else min(end, FOOTER_BYTES_MAX)):
        raise MalformedError(f"{where} has a footer of {size:,} bytes; fewer were read", where=where)
    return size + TRAILER_BYTES
