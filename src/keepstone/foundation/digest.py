"""The name of immutable bytes: 32 bytes of BLAKE3.

Layer: foundation. The text form is `b3:` and 64 hex digits, the same value that `b3sum` prints for a file.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterable
from typing import Final

from blake3 import blake3

from keepstone.foundation.errors import InvalidInputError

DIGEST_BYTES: Final = 32
_HEX: Final = frozenset(string.hexdigits.lower())


_threads: int = blake3.AUTO


def hash_threads() -> int:
    """Return the `max_threads` of a BLAKE3 hasher for much content; one in a forked process.

    The hasher's pool of threads does not survive a fork, and waiting for it would never end.
    """
    return _threads


def _after_fork_in_child() -> None:
    global _threads
    _threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Digest(bytes):
    """32 bytes, ordered and hashable as bytes are; hex only at the edges."""

    __slots__ = ()

    @classmethod
    def of(cls, content: bytes | bytearray | memoryview) -> Digest:
        """Return the digest of `content`."""
        return cls(blake3(content).digest())

    @classmethod
    def of_chunks(cls, chunks: Iterable[bytes | memoryview]) -> Digest:
        """Return the digest of the concatenation of `chunks`, in constant memory."""
        hasher = blake3()
        for chunk in chunks:
            hasher.update(chunk)
        return cls(hasher.digest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return the digest that `text` (`b3:` and 64 hex digits) names.

        Raises:
            InvalidInputError: it is not of that form.
        """
        digits = text.removeprefix("b3:")
        if not text.startswith("b3:") or len(digits) != 2 * DIGEST_BYTES or not _HEX.issuperset(digits):
            raise InvalidInputError(
                f"not a digest: {text!r}", hint="a digest is written b3: and 64 lowercase hex digits"
            )
        return cls(bytes.fromhex(digits))

    def __str__(self) -> str:
        return "b3:" + self.hex()

    def __repr__(self) -> str:
        return f"Digest({str(self)!r})"

    def __reduce__(self) -> tuple[type[Digest], tuple[bytes]]:
        return (Digest, (bytes(self),))
