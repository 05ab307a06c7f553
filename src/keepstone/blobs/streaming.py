"""Large blobs, piece by piece.

Layer: blobs. Format: docs/format.md §6. Each piece is verified when it is read, and the whole by its digest at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from blake3 import blake3

from keepstone.blobs.recipe import Piece, check_size, check_total
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import DigestMismatchError


def stream_pieces(
    digest: Digest,
    read: Callable[[Digest], bytes | list[Piece]],
    each: Callable[[list[Piece]], AbstractContextManager[Iterable[Piece]]] = nullcontext,
    *,
    bytes_max: int | None = None,
) -> Iterator[bytes]:
    """Yield the blob `digest` piece by piece; `read` gives verified content, or the pieces of a large blob.

    `each` is told the pieces before they are read, and gives them again.

    Raises:
        DigestMismatchError: the pieces are right and their sum is not; raised instead of the last piece.
        MalformedError: a piece is not of the size that the recipe says, or all are more than `bytes_max`.
    """
    found = read(digest)
    if isinstance(found, bytes):
        yield found
        return
    check_total(found, digest, bytes_max)

    hasher = blake3()
    last: bytes = b""
    with each(found) as pieces:
        for piece in pieces:
            raw = read_piece(piece, digest, read)
            hasher.update(raw)
            if last:
                yield last
            last = raw
    check_whole(hasher, digest)
    yield last


def read_piece(piece: Piece, digest: Digest, read: Callable[[Digest], bytes | list[Piece]]) -> bytes:
    """Return one verified piece of the blob `digest`.

    Raises:
        DigestMismatchError: it is no plain blob.
        MalformedError: it is not of the size that the recipe says.
    """
    raw = read(piece.digest)
    if not isinstance(raw, bytes):
        raise DigestMismatchError(
            f"piece {piece.digest} of {digest} is not a plain blob",
            expected=str(piece.digest),
            actual="",
        )
    check_size(piece, raw, digest)
    return raw


def check_whole(hasher: blake3, digest: Digest) -> None:
    """Refuse pieces that are right, and whose sum is not the blob `digest`.

    Raises:
        DigestMismatchError: it is not.
    """
    actual = Digest(hasher.digest())
    if actual != digest:
        raise DigestMismatchError(
            f"blob {digest} reads as {actual}",
            expected=str(digest),
            actual=str(actual),
            hint="run `keepstone fsck`",
        )
