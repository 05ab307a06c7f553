"""Choppers: content without a known structure, cut where its bytes say (FastCDC), or else in fixed pieces.

Layer: blobs. Format: docs/format.md §6. Where a byte is inserted, the pieces behind it stay what they are. The numbers
below are frozen by tests/blobs/test_fastcdc.py: another cut loses no content, but finds none of what is stored either.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from keepstone.foundation.format import CHUNK_BYTES

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

FINE_BYTES: Final = (32 * 1024, 128 * 1024, 512 * 1024)
"""Least, desired and greatest size of a piece [bytes]; pieces of random bytes have 147 KiB on average (decision 29)."""
COARSE_BYTES: Final = (128 * 1024, 512 * 1024, 1024 * 1024)
COARSE_FROM_BYTES: Final = 16 * 1024**3
"""What lies behind it is cut in coarse pieces: a recipe is one frame, and is held in memory."""
_NORMALIZATION: Final = 2
"""Makes very small and very large pieces rarer."""


class Chopper(Protocol):
    """Cuts a stretch of content. The cuts do not depend on how it is handed over."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what follows; yield the pieces that are certain."""
        ...

    def finish(self) -> Iterator[bytes]:
        """Yield the pieces of the rest; what is fed then begins anew."""
        ...


class FixedChopper:
    """Pieces of 1 MiB, the last one shorter."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        content = self._rest + data if self._rest else data
        end = len(content) - len(content) % CHUNK_BYTES
        for start in range(0, end, CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
        self._rest = content[end:]

    def finish(self) -> Iterator[bytes]:
        rest, self._rest = self._rest, b""
        if rest:
            yield rest


class FastCdcChopper:
    """Pieces that end where the last bytes before their end have a certain hash."""

    def __init__(self, kind: type[FastCDC]) -> None:
        self._fine = _cutter(kind, FINE_BYTES)
        self._coarse = _cutter(kind, COARSE_BYTES)
        self._rest = b""
        self._done = 0
        """Bytes that were cut so far."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        start = 0
        if self._rest:
            # Only the seam is copied: pieces that begin in what was left are certain with so much of the new.
            kept, seam = len(self._rest), self._rest + data[: self._coarse.max_size]
            yield from self._cut(seam)
            if len(data) <= self._coarse.max_size:
                return
            start = len(seam) - len(self._rest) - kept
        yield from self._cut(data, start)

    def finish(self) -> Iterator[bytes]:
        yield from self._cut(self._rest, is_last=True)

    def _cut(self, content: bytes, at: int = 0, *, is_last: bool = False) -> Iterator[bytes]:
        view = memoryview(content)
        goes_on = True
        while goes_on:
            goes_on, is_fine = False, self._done < COARSE_FROM_BYTES
            cutter = self._fine if is_fine else self._coarse
            for chunk in cutter.cut_buf(view[at:]):
                # A piece is certain once the longest that could begin there is at hand.
                if len(content) - at < cutter.max_size and not is_last:
                    break
                at += chunk.length
                self._done += chunk.length
                yield bytes(chunk.data)
                if is_fine and self._done >= COARSE_FROM_BYTES:
                    goes_on = True
                    break
        self._rest = content[at:]


def new_chopper() -> Chopper:
    """Return what cuts content of no known structure on this machine."""
    kind = _compiled()
    return FastCdcChopper(kind) if kind else FixedChopper()


def _cutter(kind: type[FastCDC], sizes: tuple[int, int, int]) -> FastCDC:
    least, desired, greatest = sizes
    return kind(desired, min_size=least, max_size=greatest, normalized_chunking=_NORMALIZATION)


@cache
def _compiled() -> type[FastCDC] | None:
    """Return pyfastcdc's compiled cutter. The one in Python cuts alike, and takes minutes for a gigabyte."""
    try:
        with warnings.catch_warnings():
            # Says that only the one in Python is there.
            warnings.simplefilter("ignore")
            from pyfastcdc import FastCDC
    except ImportError:
        return None
    return None if FastCDC.__module__.startswith("pyfastcdc.py.") else FastCDC
