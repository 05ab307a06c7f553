"""The frame: one checked, self-describing stretch of bytes. Commits, checkpoints, journals and footers are made of it.

Layer: foundation. Format: docs/format.md §1. Little-endian; sizes are bytes.
The header is checked on its own, so a scan can step over a damaged payload and find the next frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

import zstandard

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import DigestMismatchError, MalformedError, UnsupportedFormatError
from keepstone.foundation.format import FORMAT_VERSION, FRAME_MAGIC, FRAME_RAW_BYTES_MAX, Codec, Kind

_FIELDS: Final = struct.Struct("<4sBBBBHHIQQ8s32s")
_CHECK: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FIELDS.size + _CHECK.size
NO_DICTIONARY: Final = bytes(8)


class FrameHeader(NamedTuple):
    """What stands before a payload."""

    kind: int
    codec: int
    payload_check: int
    """CRC-32 of the payload as stored."""
    stored_size: int
    raw_size: int
    dictionary: bytes
    """First 8 bytes of the dictionary's digest; zeros when there is none."""
    digest: Digest
    """BLAKE3 of the raw bytes; in an entry, of the value that it names."""

    @property
    def frame_size(self) -> int:
        """Bytes of header and payload together."""
        return HEADER_BYTES + self.stored_size


def encode_header(
    kind: int,
    raw: bytes,
    digest: bytes,
    *,
    # Bound once: this runs twice for every saved item.
    _pack: Callable[..., bytes] = _FIELDS.pack,
    _check: Callable[..., bytes] = _CHECK.pack,
    _crc32: Callable[[bytes], int] = zlib.crc32,
    _len: Callable[[bytes], int] = len,
) -> bytes:
    """Return the header of a frame that stores `raw` as it is; `digest` is BLAKE3(raw), or what an entry names."""
    size = _len(raw)
    fields = _pack(
        FRAME_MAGIC, FORMAT_VERSION, kind, 0, 0, 0, 0, _crc32(raw), size, size, NO_DICTIONARY, digest
    )
    return fields + _check(_crc32(fields))


def encode_frame(kind: Kind, raw: bytes, digest: bytes | None = None) -> bytes:
    """Return `raw` as one frame, stored as it is.

    `digest` spares hashing when the caller already knows BLAKE3(raw), or gives what an entry names.
    """
    return encode_header(kind, raw, Digest.of(raw) if digest is None else digest) + raw


def compress_frame(kind: Kind, raw: bytes, *, level: int = 3) -> bytes:
    """Return `raw` as one zstd frame, or stored as it is where that is shorter."""
    stored = zstandard.ZstdCompressor(level=level, write_content_size=False).compress(raw)
    if len(stored) >= len(raw):
        return encode_frame(kind, raw)
    fields = _FIELDS.pack(
        FRAME_MAGIC,
        FORMAT_VERSION,
        kind,
        Codec.ZSTD,
        0,
        0,
        0,
        zlib.crc32(stored),
        len(stored),
        len(raw),
        NO_DICTIONARY,
        Digest.of(raw),
    )
    return b"".join((fields, _CHECK.pack(zlib.crc32(fields)), stored))


def read_header(data: bytes | memoryview, offset: int = 0, *, where: str) -> FrameHeader:
    """Return the header at `offset` of `data`, checked.

    Raises:
        MalformedError: too short, not a frame, or damaged.
        UnsupportedFormatError: written by a newer release.
    """
    if len(data) - offset < HEADER_BYTES:
        raise MalformedError(
            f"{where} ends inside a frame header at byte {offset}", where=where, offset=offset
        )
    (
        magic,
        version,
        kind,
        codec,
        flags,
        key_slot,
        reserved,
        payload_check,
        stored_size,
        raw_size,
        dictionary,
        digest,
    ) = _FIELDS.unpack_from(data, offset)
    (check,) = _CHECK.unpack_from(data, offset + _FIELDS.size)
    if magic != FRAME_MAGIC or zlib.crc32(data[offset : offset + _FIELDS.size]) != check:
        raise MalformedError(
            f"{where} has no valid frame header at byte {offset}", where=where, offset=offset
        )
    if version != FORMAT_VERSION or flags or key_slot or reserved:
        raise UnsupportedFormatError(
            f"{where} has a frame of format {version} (flags {flags}, key slot {key_slot}) at byte {offset}",
            found=f"format {version}, flags {flags}, key slot {key_slot}",
            supported=f"format {FORMAT_VERSION}",
            hint="upgrade keepstone",
        )
    return FrameHeader(kind, codec, payload_check, stored_size, raw_size, dictionary, Digest(digest))


def peek_header(data: bytes | memoryview, offset: int) -> tuple[int, int, int, bytes] | None:
    """Return (kind, payload check, stored size, digest) of the uncompressed frame at `offset`, or None.

    The quick way through a journal: no error says why there is no valid header.
    """
    if len(data) - offset < HEADER_BYTES:
        return None
    magic, version, kind, codec, flags, key_slot, reserved, payload_check, stored_size, _, _, digest = (
        _FIELDS.unpack_from(data, offset)
    )
    if magic != FRAME_MAGIC or version != FORMAT_VERSION or codec or flags or key_slot or reserved:
        return None
    if zlib.crc32(data[offset : offset + _FIELDS.size]) != _CHECK.unpack_from(data, offset + _FIELDS.size)[0]:
        return None
    return kind, payload_check, stored_size, digest


def read_payload(header: FrameHeader, stored: bytes | memoryview, *, where: str, offset: int = 0) -> bytes:
    """Return the raw bytes of a frame whose stored payload is `stored`, verified against its digest.

    Raises:
        MalformedError: damaged, or of a size or codec that the format does not allow.
        DigestMismatchError: the bytes decompress, but to something else.
    """
    if len(stored) != header.stored_size or zlib.crc32(stored) != header.payload_check:
        raise MalformedError(f"{where} is damaged in the frame at byte {offset}", where=where, offset=offset)
    if header.codec == Codec.RAW:
        raw = bytes(stored)
    elif header.codec == Codec.ZSTD:
        raw = decompress(stored, header.raw_size, where=where, offset=offset)
    else:
        raise UnsupportedFormatError(
            f"{where} uses codec {header.codec} in the frame at byte {offset}",
            found=f"codec {header.codec}",
            supported="codecs 0 and 1 outside packs",
            hint="upgrade keepstone",
        )
    actual = Digest.of(raw)
    if len(raw) != header.raw_size or actual != header.digest:
        raise DigestMismatchError(
            f"the frame at byte {offset} of {where} reads as {actual} instead of {header.digest}",
            expected=str(header.digest),
            actual=str(actual),
            hint="run `keepstone fsck`",
        )
    return raw


def check_claims(stored: bytes | memoryview, raw_size: int, *, where: str, offset: int) -> None:
    """Refuse zstd bytes before anything is allocated for them, if they or their frame claim too much.

    zstd allocates what its own header claims, whatever limit it is given beside that.

    Raises:
        MalformedError: more than a frame may hold, or more than this one says.
        zstandard.ZstdError: no zstd.
    """
    claimed = zstandard.get_frame_parameters(stored).content_size
    if raw_size > FRAME_RAW_BYTES_MAX or (claimed > raw_size and claimed != zstandard.CONTENTSIZE_UNKNOWN):
        claimed = raw_size if raw_size > FRAME_RAW_BYTES_MAX else claimed
        raise MalformedError(
            f"{where} claims {claimed:,} bytes in the frame at byte {offset}", where=where, offset=offset
        )


def decompress(stored: bytes | memoryview, raw_size: int, *, where: str, offset: int = 0) -> bytes:
    """Return `stored` decompressed to at most `raw_size` bytes; never allocates more."""
    try:
        check_claims(stored, raw_size, where=where, offset=offset)
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw_size)
    except zstandard.ZstdError as error:
        raise MalformedError(
            f"{where} cannot be decompressed at byte {offset}: {error}", where=where, offset=offset
        ) from error


def decode_frame(data: bytes | memoryview, offset: int = 0, *, kind: Kind, where: str) -> tuple[bytes, int]:
    """Return the raw payload of the frame at `offset`, which must be of `kind`, and the offset behind it."""
    header = read_header(data, offset, where=where)
    if header.kind != kind:
        raise MalformedError(
            f"{where} has a frame of kind {header.kind} at byte {offset}, not {kind.name.lower()}",
            where=where,
            offset=offset,
        )
    start = offset + HEADER_BYTES
    end = start + header.stored_size
    return read_payload(header, data[start:end], where=where, offset=offset), end
