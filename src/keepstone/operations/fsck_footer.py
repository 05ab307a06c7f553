"""Checking footers: does each say what its commit recorded of it, and do its columns add up?

Layer: operations. Format: docs/format.md §4. Whole columns are looked at, never a row alone: a million entries take a
fraction of a second.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import Final

from keepstone.blobs.footer import TOMBSTONE, PackIndex, Section, unpack_column
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES
from keepstone.foundation.digest import DIGEST_BYTES
from keepstone.foundation.errors import MalformedError, UnsupportedFormatError
from keepstone.foundation.format import Codec, Form, Kind
from keepstone.history.commit import PackRecord

_KINDS: Final = bytes((Kind.BLOB, Kind.DICTIONARY, Kind.RECIPE))
_CODECS: Final = bytes((Codec.RAW, Codec.ZSTD, Codec.ZSTD_DICTIONARY))
_FORMS: Final = bytes(Form)


def check_footer(index: PackIndex, record: PackRecord) -> None:
    """Compare a footer with what the commit that adds its pack says, and its columns with each other.

    Raises:
        MalformedError: they contradict each other.
        UnsupportedFormatError: it has a kind of frame or value that this release does not know.
    """
    _check_record(index, record)
    _check_frames(index, record.size - record.footer_size)
    for section in index.footer.sections:
        _check_section(index, section)


def _check_record(index: PackIndex, record: PackRecord) -> None:
    sections = index.footer.sections
    stated = (
        sum(section.count for section in sections),
        tuple(sorted(section.collection for section in sections)),
        max((section.stamp_max for section in sections), default=0),
        index.footer.origin,
    )
    recorded = (record.entries, tuple(sorted(record.collections)), record.stamp_max, record.origin)
    if stated != recorded:
        raise MalformedError(
            f"its footer says {stated}, the commit that adds it {recorded}", where=index.where
        )


def _check_frames(index: PackIndex, frames_size: int) -> None:
    footer, frames, where = index.footer, index.frames, index.where
    end = sum(frames.stored_sizes) + PACK_FRAME_HEADER_BYTES * index.blob_count
    if end != frames_size:
        raise MalformedError(
            f"its frames end at byte {end:,} by its footer, not {frames_size:,}", where=where
        )
    _require_known(frames.kinds, _KINDS, "kind of frame")
    _require_known(frames.codecs, _CODECS, "codec")
    if frames.dictionaries.translate(None, bytes(range(min(255, len(footer.dictionaries)) + 1))):
        raise MalformedError("its footer names a dictionary that is not there", where=where)
    for identity, position in footer.dictionaries:
        is_there = 0 <= position < index.blob_count and frames.kinds[position] == Kind.DICTIONARY
        if not is_there or index.digest(position)[:8] != identity or frames.dictionaries[position]:
            raise MalformedError(f"its dictionary {identity.hex()} is not where it says", where=where)


def _require_known(column: bytes, known: bytes, what: str) -> None:
    unknown = column.translate(None, known)
    if unknown:
        raise UnsupportedFormatError(
            f"its footer has a {what} {unknown[0]}",
            found=f"{what} {unknown[0]}",
            supported=", ".join(map(str, known)),
            hint="upgrade keepstone",
        )


def _check_section(index: PackIndex, section: Section) -> None:
    count, where, name = section.count, index.where, section.collection
    stamps = unpack_column("q", section.stamps, count, where=where)
    # Rows stand in the order of their stamps, so no difference is below zero and the last is the highest.
    if not _none_negative(stamps.tobytes()) or section.stamp_min + sum(stamps) != section.stamp_max:
        raise MalformedError(f"the stamps of {name!r} do not add up", where=where)
    _check_blobs(index, section)
    forms = unpack_column("B", section.forms, count, where=where).tobytes()
    _require_known(forms, _FORMS, "form of a value")
    if section.writers:
        writers = unpack_column("H", section.writers, count, where=where)
        if max(writers, default=0) >= len(index.footer.writers):
            raise MalformedError(f"{name!r} names a writer that is not there", where=where)
    elif count and not index.footer.writers:
        raise MalformedError(f"{name!r} has no writer", where=where)


def _check_blobs(index: PackIndex, section: Section) -> None:
    differences = unpack_column("q", section.blobs, section.count, where=index.where)
    limit = index.blob_count + len(index.footer.externals) // DIGEST_BYTES
    if not section.tombstones and _is_a_run(differences) and 0 <= differences[0] <= limit - section.count:
        return
    positions = [p for p in accumulate(differences) if p != TOMBSTONE]
    if section.count - len(positions) != section.tombstones:
        raise MalformedError(
            f"{section.collection!r} has not as many tombstones as it says", where=index.where
        )
    if positions and not 0 <= min(positions) <= max(positions) < limit:
        raise MalformedError(f"{section.collection!r} names blobs that are not there", where=index.where)


def _is_a_run(differences: array[int]) -> bool:
    """Whether each row names the blob behind that of the row before, as is usual."""
    return bool(differences) and differences[1:] == array("q", [1]) * (len(differences) - 1)


def _none_negative(column: bytes) -> bool:
    # The highest bit of each little-endian number's last byte is its sign.
    return column[7::8].isascii()
