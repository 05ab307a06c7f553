"""Ranges of a blob: only the pieces that a range touches are read, each verified.

Layer: blobs. Format: docs/format.md §6. Ranges are [start, end), in bytes. Read from its first byte to its last, a
large blob is verified as a whole, too; of a part, its pieces vouch for themselves and the recipe for their order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import Final

from blake3 import blake3

from keepstone.blobs.recipe import Piece
from keepstone.blobs.streaming import check_whole, read_piece
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import DigestMismatchError, MalformedError

HELD_BYTES_MAX: Final = 4 * 1024 * 1024
"""Pieces kept for the next range; the last one is kept whatever its size."""
_AHEAD_BYTES_FIRST: Final = 128 * 1024
_AHEAD_BYTES_MAX: Final = 4 * 1024 * 1024
"""Who has read on and on, until this much would be read ahead, is taken to read to the end."""


class RangeReader:
    """One blob of a known size, by ranges; for one thread at a time.

    `read` gives verified content, or the pieces of a large blob; `each` is told pieces before they are read, and gives
    them again. Where `is_far`, a read waits: ranges that follow each other are then read further and further ahead.
    """

    def __init__(
        self,
        digest: Digest,
        size: int,
        read: Callable[[Digest], bytes | list[Piece]],
        each: Callable[[list[Piece]], AbstractContextManager[Iterable[Piece]]] = nullcontext,
        *,
        is_far: bool = False,
    ) -> None:
        self.size = size
        """Bytes."""
        self._digest = digest
        self._read = read
        self._each = each
        self._is_far = is_far
        self._pieces: list[Piece] = []
        self._bounds: list[int] = []
        """Where each piece begins, and where the last one ends; empty as long as nothing was read."""
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._held_bytes = 0
        self._stream: Generator[bytes] | None = None
        self._next, self._stop = -1, -1
        """The piece that comes next where reading goes on, and the one that the stream ends before."""
        self._ahead_bytes = 0
        self._hasher = blake3()
        self._hashed = 0
        """So many pieces from the first on went through the hasher."""
        self._damage: DigestMismatchError | None = None

    def read(self, start: int, end: int) -> bytes:
        """Return bytes [start, end); shorter where the blob ends before `end`. Errors as of `chunks`."""
        return b"".join(self.chunks(start, end))

    def chunks(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield bytes [start, end) piece by piece.

        Raises:
            CorruptionError: a piece that the range touches is damaged; or all pieces were read, and are not the blob.
            BlobNotFoundError: the blob, or such a piece, is in no live pack.
        """
        end = min(end, self.size)
        if not 0 <= start < end:
            return
        self._find_out()
        last = bisect_left(self._bounds, end) - 1
        for number in range(bisect_right(self._bounds, start) - 1, last + 1):
            offset = self._bounds[number]
            yield memoryview(self._piece(number, last))[max(start - offset, 0) : end - offset]

    def at_hand(self, start: int, end: int) -> memoryview:
        """Return as much of [start, end), from its beginning on, as lies in one piece in memory: perhaps nothing."""
        number = bisect_right(self._bounds, start) - 1
        raw = self._held.get(number, b"") if start < self.size and self._damage is None else b""
        offset = self._bounds[number] if raw else 0
        return memoryview(raw)[start - offset : max(end - offset, 0)]

    def close(self) -> None:
        """Let go of what is held, and of what is on its way; the reader can be used again."""
        self._end_stream()
        self._held.clear()
        self._held_bytes = 0

    # ---- pieces ------------------------------------------------------------------------------------------------------

    def _find_out(self) -> None:
        """Find out the pieces, once."""
        if self._damage is not None:
            raise self._damage
        if self._bounds:
            return
        found = self._read(self._digest)
        # An empty piece would be stepped over, and the whole never hashed in order.
        pieces = (
            [Piece(self._digest, len(found))] if isinstance(found, bytes) else [p for p in found if p.size]
        )
        bounds = [0, *accumulate(piece.size for piece in pieces)]
        if bounds[-1] != self.size:
            raise MalformedError(
                f"blob {self._digest} has {bounds[-1]:,} bytes, not {self.size:,} as its manifest says"
            )
        self._pieces, self._bounds = pieces, bounds
        if isinstance(found, bytes):
            self._hashed = 1
            self._hold(0, found)

    def _piece(self, number: int, last: int) -> bytes:
        """Return a piece; `last` is the last one of the range that is asked for."""
        held = self._held.get(number)
        if held is not None:
            self._held.move_to_end(number)
            return held
        if self._stream is None or number != self._next:
            self._begin_stream(number, last)
        assert self._stream is not None
        try:
            raw = next(self._stream)
        except BaseException:
            self._end_stream()
            raise
        self._next += 1
        if self._next == self._stop:
            self._end_stream()
        self._hold(number, raw)
        return raw

    def _hold(self, number: int, raw: bytes) -> None:
        self._held[number] = raw
        self._held_bytes += len(raw)
        while self._held_bytes > HELD_BYTES_MAX and len(self._held) > 1:
            self._held_bytes -= len(self._held.popitem(last=False)[1])

    # ---- reading on --------------------------------------------------------------------------------------------------

    def _begin_stream(self, number: int, last: int) -> None:
        """Read from a piece to the last of what was asked for; further, where one range came after the other."""
        goes_on = number == self._next
        self._end_stream()
        self._ahead_bytes = max(_AHEAD_BYTES_FIRST, 2 * self._ahead_bytes) if goes_on and self._is_far else 0
        stop = last + 1
        if self._ahead_bytes > _AHEAD_BYTES_MAX:
            stop = len(self._pieces)
        elif self._ahead_bytes:
            stop = max(stop, bisect_right(self._bounds, self._bounds[stop] + self._ahead_bytes) - 1)
        self._next, self._stop = number, stop
        self._stream = self._reading(number, stop)

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _reading(self, first: int, stop: int) -> Generator[bytes]:
        with self._each(self._pieces[first:stop]) as pieces:
            for number, piece in enumerate(pieces, first):
                raw = read_piece(piece, self._digest, self._read)
                self._note(number, raw)
                yield raw

    def _note(self, number: int, raw: bytes) -> None:
        """Hash pieces that come in their order: who reads all of them knows the whole."""
        if number != self._hashed:
            return
        self._hashed += 1
        self._hasher.update(raw)
        if self._hashed == len(self._pieces):
            try:
                check_whole(self._hasher, self._digest)
            except DigestMismatchError as error:
                self._damage = error
                raise
