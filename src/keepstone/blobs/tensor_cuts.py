"""Files of tensors, cut where the tensors begin and end: equal tensors of two files are equal pieces.

Layer: blobs. Format: docs/format.md §6. safetensors, npy, and the zip files of numpy and PyTorch. Only headers are
looked at, and nothing that they say is relied on: the pieces are the content, in order, whatever a header claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from keepstone.blobs.fastcdc import Chopper
from keepstone.blobs.incoming import Incoming
from keepstone.foundation.format import CHUNK_BYTES

TENSOR_BYTES_MIN: Final = 64 * 1024
"""Smaller tensors are cut together with what lies around them."""
TENSOR_PIECE_BYTES: Final = CHUNK_BYTES
"""Counted from the tensor's first byte."""
HEADER_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a header that is believed: some 40,000 tensors."""

_NPY_MAGIC: Final = b"\x93NUMPY"
_NPY_HEAD_BYTES: Final = 12
_ZIP_MEMBER: Final = struct.Struct("<4sHHHHHIIIHH")
_ZIP_MAGIC: Final = b"PK"
_ZIP_MEMBER_MAGIC: Final = b"PK\x03\x04"
_ZIP_SIZE_FOLLOWS: Final = 8
_ZIP_SIZE_IS_LONG: Final = 0xFFFFFFFF
_ZIP_LONG_SIZES: Final = struct.Struct("<HHQQ")
_ZIP_LONG_SIZES_ID: Final = 1
_ZIP_END_MAGIC: Final = b"PK\x07\x08"
_ZIP_ENDS: Final = (struct.Struct("<4xIII"), struct.Struct("<4xIQQ"))
"""What follows the data of a member whose header does not know its size: check, stored size, size."""


class _Extent(msgspec.Struct):
    data_offsets: tuple[int, int] | None = None


class TensorCutter:
    """Cuts what it knows of `incoming`, and leaves the rest there and in `chopper`."""

    def __init__(self, incoming: Incoming, chopper: Chopper) -> None:
        self._incoming = incoming
        self._chopper = chopper

    def pieces(self) -> Iterator[bytes]:
        """Yield pieces as far as tensors are found; none, and nothing is taken, where there are none."""
        head = self._incoming.peek(_ZIP_MEMBER.size)
        if head.startswith(_NPY_MAGIC):
            yield from self._npy()
        elif head.startswith(_ZIP_MEMBER_MAGIC):
            yield from self._zip()
        else:
            yield from self._safetensors()

    # ---- safetensors and npy -----------------------------------------------------------------------------------------

    def _safetensors(self) -> Iterator[bytes]:
        size = 8 + int.from_bytes(self._incoming.peek(8), "little")
        if size > HEADER_BYTES_MAX or self._incoming.peek(9)[8:] != b"{":
            return
        extents = _extents(self._incoming.peek(size)[8:])
        if not extents:
            return
        yield from self._loose(size)
        at = 0
        for start, end in extents:
            yield from self._loose(start - at)
            yield from self._tensor(end - start)
            at = end

    def _npy(self) -> Iterator[bytes]:
        begin = self._npy_header()
        if begin:
            yield from self._loose(begin)
            yield from self._tensor(None)

    def _npy_header(self) -> int:
        """Return the size of the npy header that comes next; 0 where none does, or objects follow."""
        head = self._incoming.peek(_NPY_HEAD_BYTES)
        if len(head) < _NPY_HEAD_BYTES or not head.startswith(_NPY_MAGIC):
            return 0
        long = head[6] > 1
        size = (
            int.from_bytes(head[8:12], "little") + 12 if long else int.from_bytes(head[8:10], "little") + 10
        )
        if size > HEADER_BYTES_MAX or b"|O" in self._incoming.peek(size):
            return 0
        return size

    # ---- zip ---------------------------------------------------------------------------------------------------------

    def _zip(self) -> Iterator[bytes]:
        is_first = True
        while True:
            head = self._incoming.peek(_ZIP_MEMBER.size)
            if len(head) < _ZIP_MEMBER.size or not head.startswith(_ZIP_MEMBER_MAGIC):
                return
            _, _, flags, _, _, _, _, size, _, name_bytes, extra_bytes = _ZIP_MEMBER.unpack(head)
            header = self._incoming.peek(len(head) + name_bytes + extra_bytes)
            name = header[len(head) : len(head) + name_bytes]
            if is_first and not _holds_tensors(name):
                return
            is_first = False
            yield from self._loose(len(header))
            begin = self._npy_header()
            yield from self._loose(begin)
            if flags & _ZIP_SIZE_FOLLOWS:
                yield from self._tensor_until_end(begin)
                continue
            if size == _ZIP_SIZE_IS_LONG:
                size = _long_size(header[len(head) + name_bytes :])
            # Smaller than its own header: a size that lies. What follows then looks like no member.
            yield from self._tensor(max(0, size - begin))

    def _tensor_until_end(self, done: int) -> Iterator[bytes]:
        """Cut a member whose size follows it; `done` bytes of it were taken."""
        begin = done
        while True:
            found = self._to_end(done)
            if found:
                size, end = found
                # Only a whole tensor is too small for a piece of its own, not what is left of a large one.
                yield from self._tensor(size) if done == begin else self._pieces(size)
                yield from self._loose(end)
                return
            if self._incoming.fill(1) == 0:
                return
            if done == begin:
                yield from self._chopper.finish()
            piece = self._incoming.take(TENSOR_PIECE_BYTES)
            done += len(piece)
            yield piece

    def _to_end(self, done: int) -> tuple[int, int] | None:
        """Return how many bytes are left of a member that ends within the next piece, and how many its size takes."""
        at = -1
        room = _ZIP_ENDS[1].size + len(_ZIP_MAGIC)
        have = self._incoming.fill(TENSOR_PIECE_BYTES + room)
        while (at := self._incoming.find(_ZIP_END_MAGIC, at + 1, min(have, TENSOR_PIECE_BYTES + 4))) >= 0:
            end = self._incoming.look(at, room)
            for form in _ZIP_ENDS:
                # The next member or the directory must follow. Bytes of a tensor would have to name their own place.
                follows = end[form.size : form.size + len(_ZIP_MAGIC)]
                if follows == _ZIP_MAGIC and form.unpack_from(end)[1] == done + at:
                    return at, form.size
        return None

    # ---- pieces ------------------------------------------------------------------------------------------------------

    def _loose(self, size: int) -> Iterator[bytes]:
        while size and (data := self._incoming.take(min(size, TENSOR_PIECE_BYTES))):
            size -= len(data)
            yield from self._chopper.feed(data)

    def _tensor(self, size: int | None) -> Iterator[bytes]:
        """Cut a tensor of `size` bytes; None: all that comes."""
        if size is not None and size < TENSOR_BYTES_MIN:
            yield from self._loose(size)
            return
        yield from self._chopper.finish()
        yield from self._pieces(size)

    def _pieces(self, size: int | None) -> Iterator[bytes]:
        while size is None or size:
            piece = self._incoming.take(TENSOR_PIECE_BYTES if size is None else min(size, TENSOR_PIECE_BYTES))
            if not piece:
                return
            if size is not None:
                size -= len(piece)
            yield piece


def _holds_tensors(name: bytes) -> bool:
    """Whether a zip file whose first member has that name is one of numpy or PyTorch."""
    return name.endswith((b".npy", b".pkl")) or b"/data/" in name


def _long_size(extra: bytes) -> int:
    """Return the stored size that a zip header's extra fields hold; 0 where they do not."""
    at = 0
    while at + 4 <= len(extra):
        identity, size = struct.unpack_from("<HH", extra, at)
        if identity == _ZIP_LONG_SIZES_ID and at + _ZIP_LONG_SIZES.size <= len(extra):
            return int(_ZIP_LONG_SIZES.unpack_from(extra, at)[3])
        at += 4 + size
    return 0


def _extents(header: bytes) -> list[tuple[int, int]]:
    """Return where the tensors of a safetensors file lie, in order; nothing where the header is no such thing."""
    try:
        entries = msgspec.json.decode(header, type=dict[str, _Extent])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
    extents = sorted(entry.data_offsets for entry in entries.values() if entry.data_offsets)
    at = 0
    for start, end in extents:
        if start < at or end < start:
            return []
        at = end
    return extents
