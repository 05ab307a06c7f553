"""Scanning a pack: its blobs are found frame by frame, without the footer and past what is damaged.

Layer: blobs. Format: docs/format.md §3. Sizes and offsets are bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from keepstone.blobs.compression import Decompressor
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, read_header, read_raw
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError, UnsupportedFormatError
from keepstone.foundation.format import PACK_FRAME_MAGIC, Kind
from keepstone.foundation.frame import NO_DICTIONARY


class ScannedBlob(NamedTuple):
    """One frame that a scan found, whatever the footer says."""

    offset: int
    size: int
    """Bytes of header and stored content together."""
    kind: int
    digest: Digest | None
    """None where the content cannot be read."""


def scan_blobs(data: bytes | memoryview, *, where: str) -> Iterator[ScannedBlob]:
    """Yield the frames of a pack from its first byte on, stepping over damaged ones.

    Dictionaries found on the way are used for the frames behind them, so nothing of the footer is needed.
    """
    data = bytes(data)
    decompressor = Decompressor()
    dictionaries: list[bytes] = []
    offset = 0
    while True:
        try:
            header = read_header(data, offset, where=where)
        except MalformedError:
            following = data.find(PACK_FRAME_MAGIC, offset + 1)
            if following < 0:
                return
            offset = following
            continue
        end = offset + PACK_FRAME_HEADER_BYTES + header.stored_size
        frame = data[offset:end]
        if zlib.crc32(frame[PACK_FRAME_HEADER_BYTES:]) != header.check:
            offset += 1
            continue
        raw = _read_scanned(frame, decompressor, dictionaries, where=where, offset=offset)
        if raw is not None and header.kind == Kind.DICTIONARY:
            dictionaries.append(raw)
        yield ScannedBlob(offset, end - offset, header.kind, None if raw is None else Digest.of(raw))
        offset = end


def _read_scanned(
    frame: bytes | memoryview,
    decompressor: Decompressor,
    dictionaries: list[bytes],
    *,
    where: str,
    offset: int,
) -> bytes | None:
    # zstd refuses a frame with another dictionary than its own, so trying all of them cannot give wrong bytes.
    for dictionary in [b"", *reversed(dictionaries)]:
        identity = Digest.of(dictionary)[:8] if dictionary else NO_DICTIONARY
        content = dictionary
        try:
            return read_raw(
                frame, decompressor, bytes(identity), lambda _, c=content: c, where=where, offset=offset
            )
        except (MalformedError, UnsupportedFormatError):
            continue
    return None
