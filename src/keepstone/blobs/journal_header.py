"""The header of a journal: whose it is, and of which store.

Layer: blobs. Format: docs/format.md §5.
"""

from __future__ import annotations

from typing import Final

import msgspec

from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import Kind
from keepstone.foundation.frame import HEADER_BYTES, decode_frame, encode_frame
from keepstone.storage.calls import Calls, read_all

_HEADER_BYTES_MAX: Final = 64 * 1024


class JournalHeader(msgspec.Struct, frozen=True, array_like=True):
    """Whose journal this is; an adopter that finds a stranger's leaves it alone."""

    store_id: bytes
    location: str
    host: str
    journal_id: bytes
    """16 random bytes; a sealing commit names it, so that a second adoption only unlinks."""
    writer: bytes
    """8 random bytes, new for each process and fork."""
    tip: int
    """Number of the newest commit known when the journal was born, -1 for none."""
    tip_hash: bytes
    created: int
    """Nanoseconds since 1970."""


def read_journal_header(name: str, descriptor: int, calls: Calls) -> tuple[JournalHeader, int]:
    """Return a journal's header and where its first item begins.

    Raises:
        MalformedError: it does not begin as a journal does.
    """
    where = f"journal {name}"
    data = read_all(calls, descriptor, 0, HEADER_BYTES + _HEADER_BYTES_MAX)
    payload, end = decode_frame(data, 0, kind=Kind.JOURNAL, where=where)
    header = decode(payload, JournalHeader, what=f"header of {where}", bytes_max=_HEADER_BYTES_MAX)
    if len(header.journal_id) != 16 or len(header.writer) != 8:
        raise MalformedError(f"the header of {where} does not add up", where=where)
    return header, end


def encode_journal_header(header: JournalHeader) -> bytes:
    """Return the frame that a journal begins with."""
    return encode_frame(Kind.JOURNAL, encode(header))
