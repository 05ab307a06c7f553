"""Recipes: the ordered pieces of one large blob.

Layer: blobs. Format: docs/format.md §6. The blob keeps the digest of its whole content as its name, however it was cut;
the recipe is found under that digest and names the pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.errors import MalformedError

_HEAD: Final = struct.Struct("<Q")
_PIECE: Final = struct.Struct(f"<{DIGEST_BYTES}sI")


class Piece(NamedTuple):
    """One part of a large blob, itself a blob."""

    digest: Digest
    size: int
    """Bytes."""


def encode_recipe(pieces: Iterable[Piece]) -> bytes:
    """Return the payload of a recipe frame."""
    rows = list(pieces)
    return _HEAD.pack(sum(piece.size for piece in rows)) + b"".join(_PIECE.pack(*piece) for piece in rows)


def decode_recipe(payload: bytes, *, where: str) -> list[Piece]:
    """Return the pieces in order.

    Raises:
        MalformedError: the sizes do not add up.
    """
    if len(payload) < _HEAD.size or (len(payload) - _HEAD.size) % _PIECE.size:
        raise MalformedError(f"{where} has a recipe of {len(payload)} bytes", where=where)
    pieces = [Piece(Digest(digest), size) for digest, size in _PIECE.iter_unpack(payload[_HEAD.size :])]
    (total,) = _HEAD.unpack_from(payload)
    if total != sum(piece.size for piece in pieces):
        raise MalformedError(f"{where} has a recipe whose sizes do not add up", where=where)
    return pieces


def check_total(pieces: Iterable[Piece], digest: Digest, bytes_max: int | None) -> None:
    """Refuse a large blob that says that it is larger than what may be put together of it; None: anything.

    Raises:
        MalformedError: it does. What it says is so, where `check_size` is asked about every piece.
    """
    size = sum(piece.size for piece in pieces)
    if bytes_max is not None and size > bytes_max:
        raise MalformedError(f"blob {digest} takes {size:,} bytes; at most {bytes_max:,} make sense here")


def check_size(piece: Piece, raw: bytes, digest: Digest) -> None:
    """Refuse a piece that is not as large as the recipe says: hostile ones would be of any size together.

    Raises:
        MalformedError: it is not.
    """
    if len(raw) != piece.size:
        raise MalformedError(
            f"piece {piece.digest} of {digest} has {len(raw):,} bytes, not {piece.size:,} as its recipe says"
        )
