"""The slim frame of a pack: 16 bytes of header, then the stored bytes of one blob.

Layer: blobs. Format: docs/format.md §3. The digest stands once, in the footer; sizes and a check stand here too, so a
pack whose footer is lost can be scanned from its first byte and loses nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from keepstone.blobs.compression import Decompressor
from keepstone.foundation.errors import MalformedError, UnsupportedFormatError
from keepstone.foundation.format import FRAME_RAW_BYTES_MAX, PACK_FRAME_MAGIC, Codec
from keepstone.foundation.frame import NO_DICTIONARY

_HEADER: Final = struct.Struct("<2sBBIII")
PACK_FRAME_HEADER_BYTES: Final = _HEADER.size
_ZSTD_DESCRIPTOR: Final = PACK_FRAME_HEADER_BYTES + 4
"""Of the first zstd frame, behind its magic: says whether a content size follows (RFC 8878, 3.1.1.1.1)."""
_ZSTD_CLAIMS_SIZE: Final = 0xE0
_RAW: Final = int(Codec.RAW)
_ZSTD_DICTIONARY: Final = int(Codec.ZSTD_DICTIONARY)


class PackFrameHeader(NamedTuple):
    """What stands before a stored blob; sizes are bytes."""

    kind: int
    codec: int
    stored_size: int
    raw_size: int
    check: int
    """CRC-32 of the stored bytes."""


def encode_header(kind: int, codec: int, stored: bytes, raw_size: int) -> bytes:
    """Return the 16 bytes that stand before `stored`."""
    return _HEADER.pack(PACK_FRAME_MAGIC, kind, codec, len(stored), raw_size, zlib.crc32(stored))


def read_header(data: bytes | memoryview, offset: int, *, where: str) -> PackFrameHeader:
    """Return the header at `offset` of `data`.

    Raises:
        MalformedError: there is none.
    """
    if len(data) - offset < PACK_FRAME_HEADER_BYTES:
        raise MalformedError(f"{where} ends inside a frame at byte {offset}", where=where, offset=offset)
    magic, kind, codec, stored_size, raw_size, check = _HEADER.unpack_from(data, offset)
    if magic != PACK_FRAME_MAGIC:
        raise MalformedError(f"{where} has no frame at byte {offset}", where=where, offset=offset)
    return PackFrameHeader(kind, codec, stored_size, raw_size, check)


def quick_raw(data: bytes, decompressor: Decompressor, dictionary: bytes) -> bytes | None:
    """Return what the frame in `data` holds, unchecked, or None where `read_raw` has to say what is the matter.

    For readers who know the digest. Works where the dictionary is at hand already.
    """
    if len(data) < PACK_FRAME_HEADER_BYTES:
        return None
    magic, _, codec, stored_size, raw_size, _ = _HEADER.unpack_from(data)
    if magic != PACK_FRAME_MAGIC or len(data) != PACK_FRAME_HEADER_BYTES + stored_size:
        return None
    if codec == _RAW:
        return data[PACK_FRAME_HEADER_BYTES:]
    context = decompressor.at_hand(dictionary if codec == _ZSTD_DICTIONARY else NO_DICTIONARY)
    if context is None or codec > _ZSTD_DICTIONARY or raw_size > FRAME_RAW_BYTES_MAX:
        return None
    if len(data) <= _ZSTD_DESCRIPTOR or data[_ZSTD_DESCRIPTOR] & _ZSTD_CLAIMS_SIZE:
        # zstd would allocate what it claims, and nobody has checked it; what we write claims nothing.
        return None
    try:
        return context.decompress(data[PACK_FRAME_HEADER_BYTES:], raw_size)
    except Exception:
        # zstandard's own error; `read_raw` raises ours.
        return None


def read_raw(
    data: bytes | memoryview,
    decompressor: Decompressor,
    dictionary: bytes,
    load_dictionary: Callable[[bytes], bytes],
    *,
    where: str,
    offset: int,
) -> bytes:
    """Return the raw bytes of the frame that `data` holds from its header on.

    The caller compares their digest; `offset` only serves messages.

    Raises:
        MalformedError: not one whole, undamaged frame.
        UnsupportedFormatError: stored by a codec of a newer release.
    """
    header = read_header(data, 0, where=where)
    stored = data[PACK_FRAME_HEADER_BYTES:]
    if len(stored) != header.stored_size or zlib.crc32(stored) != header.check:
        raise MalformedError(f"{where} is damaged in the frame at byte {offset}", where=where, offset=offset)
    if header.codec == Codec.RAW:
        return bytes(stored)
    if header.codec == Codec.ZSTD:
        dictionary = NO_DICTIONARY
    elif header.codec != Codec.ZSTD_DICTIONARY:
        raise UnsupportedFormatError(
            f"{where} uses codec {header.codec} in the frame at byte {offset}",
            found=f"codec {header.codec}",
            supported="codecs 0, 1 and 2",
            hint="upgrade keepstone",
        )
    raw = decompressor.decompress(
        stored, header.raw_size, dictionary, load_dictionary, where=where, offset=offset
    )
    if len(raw) != header.raw_size:
        raise MalformedError(
            f"{where} has {len(raw):,} bytes instead of {header.raw_size:,} in the frame at byte {offset}",
            where=where,
            offset=offset,
        )
    return raw
