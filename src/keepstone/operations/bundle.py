"""Bundles: a lock and all that it names, as one file.

Layer: operations. Format: docs/format.md §13. Packs back to back, then a table with the lock and the packs' names; so
it can be written in one pass and read from its end. The same lock over the same content gives the same bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from keepstone.blobs.blobstore import PackPlace
from keepstone.blobs.pack import PackBuilder
from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import DigestMismatchError, InvalidInputError, MalformedError
from keepstone.foundation.format import (
    BUNDLE_TRAILER_MAGIC,
    FOOTER_BYTES_MAX,
    FRAME_RAW_BYTES_MAX,
    PACK_FRAME_MAGIC,
    Kind,
    Origin,
)
from keepstone.foundation.frame import HEADER_BYTES, decode_frame, encode_frame
from keepstone.operations.closure import PackBlobs, blobs_of
from keepstone.operations.copying import copy_closures
from keepstone.operations.lock import Lock, format_lock, parse_lock, read_lock
from keepstone.operations.orphans import hash_of
from keepstone.repository.repository import Repository
from keepstone.storage.calls import Calls
from keepstone.storage.files import RangeFile, Write, path_text, write_file

_TRAILER: Final = struct.Struct("<QI8s")
_PACK_BYTES_TARGET: Final = 32 * 1024 * 1024
"""A pack is held in memory twice while it is finished."""

_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Hash = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class BundledPack(msgspec.Struct, frozen=True, array_like=True):
    """One pack of a bundle; they stand back to back from the first byte on."""

    digest: _Hash
    """BLAKE3 of its bytes."""
    size: _Size
    footer_size: Annotated[int, Meta(ge=0, le=FOOTER_BYTES_MAX)]


class BundleTable(msgspec.Struct, frozen=True, array_like=True):
    """What stands at the end of a bundle."""

    lock: bytes
    """The text of the lock."""
    packs: tuple[BundledPack, ...]


# ---- writing -------------------------------------------------------------------------------------------------------


def bundle(
    repository: Repository, lock: str | os.PathLike[str], path: str | os.PathLike[str], *, replace: bool
) -> None:
    """Write the bundle of the lock file `lock`, from this store. See `Store.bundle`."""
    session = repository.session
    found = read_lock(lock, session.calls)
    target = path_text(path)
    if os.path.realpath(target) == os.path.realpath(path_text(lock)):
        raise InvalidInputError(f"{target!r} is the lock itself", hint="choose another path for the bundle")
    session.refresh()
    write_bundle(blobs_of(session), found, target, replace=replace, calls=session.calls)


def write_bundle(blobs: PackBlobs, lock: Lock, path: str, *, replace: bool, calls: Calls) -> None:
    """Write the bundle of `lock`, whose content is among `blobs`."""

    def fill(write: Write) -> None:
        packs = _Packs(write)
        copy_closures(blobs, lock.names, packs)
        packs.finish()
        table = encode_frame(
            Kind.BUNDLE, encode(BundleTable(format_lock(lock).encode(), tuple(packs.written)))
        )
        check = zlib.crc32(struct.pack("<Q", len(table)))
        write(table + _TRAILER.pack(len(table), check, BUNDLE_TRAILER_MAGIC))

    write_file(path, fill, replace=replace, calls=calls)


class _Packs:
    """Receives blobs, and writes packs one behind the other."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._known: set[bytes] = set()
        self._builder = PackBuilder(Origin.COPY)
        self.written: list[BundledPack] = []

    def has_whole(self, digest: Digest) -> bool:
        return False

    def holds(self, digest: Digest) -> bool:
        return False

    def held(self, digest: Digest) -> bytes | None:
        return None

    def add(self, raw: bytes, digest: Digest | None = None, kind: Kind = Kind.BLOB) -> Digest:
        digest = digest or Digest.of(raw)
        if digest not in self._known:
            self._known.add(bytes(digest))
            self._builder.add(digest, raw, kind)
            self._finish_if_full()
        return digest

    def add_many(self, blobs: Iterable[tuple[Digest, bytes]]) -> None:
        fresh = [(digest, raw) for digest, raw in blobs if digest not in self._known]
        self._known.update(bytes(digest) for digest, _ in fresh)
        self._builder.add_many(fresh)
        self._finish_if_full()

    def _finish_if_full(self) -> None:
        if self._builder.size >= _PACK_BYTES_TARGET:
            self.finish()

    def finish(self) -> None:
        """Write what was collected as a pack."""
        if self._builder.empty:
            return
        pack = self._builder.finish()
        self._builder = PackBuilder(Origin.COPY)
        for chunk in pack.chunks():
            self._write(chunk)
        self.written.append(BundledPack(bytes(pack.digest), pack.size, pack.footer_size))


# ---- reading -------------------------------------------------------------------------------------------------------


class Bundle:
    """A bundle, open for reading; `close` it."""

    def __init__(self, path: str | os.PathLike[str], calls: Calls | None = None) -> None:
        """Open the bundle at `path` and read its table.

        Raises:
            NotFoundError: there is no such file.
            MalformedError, DigestMismatchError: it is no bundle, cut short, or its table is damaged.
            UnsupportedFormatError: a newer release wrote it.
        """
        self.path = path_text(path)
        self._file = RangeFile(self.path, calls or Calls())
        try:
            table, start = self._read_table()
            self.lock = parse_lock(table.lock, where=f"the lock in {self.path}")
        except BaseException:
            self._file.close()
            raise
        self.packs: list[PackPlace] = []
        self._digests: list[bytes] = []
        offset = 0
        for pack in table.packs:
            self.packs.append(PackPlace(self.path, offset, pack.size, pack.footer_size))
            self._digests.append(pack.digest)
            offset += pack.size
        if offset != start or any(pack.footer_size > pack.size for pack in table.packs):
            self._file.close()
            raise _damaged(self.path, "its packs do not add up")
        self.blobs = PackBlobs(self._file, self.packs, self.path)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_table(self) -> tuple[BundleTable, int]:
        end = self._file.size
        tail = self._file.read_range(self.path, max(0, end - _TRAILER.size), end)
        if len(tail) < _TRAILER.size:
            raise _damaged(self.path, "it is too short for a bundle")
        size, check, magic = _TRAILER.unpack(tail)
        if magic != BUNDLE_TRAILER_MAGIC or zlib.crc32(struct.pack("<Q", size)) != check:
            raise _damaged(self.path, "it does not end as a bundle does: it was cut short, or is none")
        start = end - _TRAILER.size - size
        if start < 0 or size > HEADER_BYTES + FRAME_RAW_BYTES_MAX:
            raise _damaged(self.path, f"its table would take {size:,} bytes")
        data = self._file.read_range(self.path, start, start + size)
        try:
            payload, behind = decode_frame(data, 0, kind=Kind.BUNDLE, where="its table")
            if behind != len(data):
                raise _damaged(self.path, "something stands behind its table")
            return decode(payload, BundleTable, what=self.path, bytes_max=FRAME_RAW_BYTES_MAX), start
        except (MalformedError, DigestMismatchError) as error:
            raise _damaged(self.path, str(error)) from error

    def check(self) -> None:
        """Return if the bytes of every pack are those of its name: nothing in the file is other than it was written.

        Raises:
            DigestMismatchError: a pack's are not; reading the names of the lock tells whether one is touched.
        """
        for pack, digest in zip(self.packs, self._digests, strict=True):
            actual = Digest(hash_of(self._file, pack))
            if actual != digest:
                raise DigestMismatchError(
                    f"the pack at byte {pack.offset:,} of {self.path} is damaged",
                    expected=str(Digest(digest)),
                    actual=str(actual),
                    hint=_HINT,
                )


_HINT: Final = "take another copy of the bundle, or restore from a copy of the store"


def _damaged(path: str, problem: str) -> MalformedError:
    return MalformedError(f"the index of the bundle {path} is damaged: {problem}", where=path, hint=_HINT)


def is_bundle(path: str | os.PathLike[str], calls: Calls | None = None) -> bool:
    """Whether a file is rather a bundle than a lock, going by its first bytes: a lock is text.

    Raises:
        NotFoundError: there is no such file.
    """
    with RangeFile(path_text(path), calls or Calls()) as file:
        head = file.read_range(file.path, 0, 64)
    return b"\0" in head or head.startswith(PACK_FRAME_MAGIC)
