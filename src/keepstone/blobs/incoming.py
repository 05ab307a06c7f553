"""Content that arrives in chunks of any size: looked at before it is taken.

Layer: blobs.
"""

from __future__ import annotations

from collections.abc import Iterable


class Incoming:
    """A stream of bytes with a bounded look at what comes next; for one thread."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._data = b""
        self._at = 0
        self._ended = False

    def fill(self, size: int) -> int:
        """Have `size` bytes at hand, if so many still come; return how many are at hand."""
        have = len(self._data) - self._at
        if have >= size or self._ended:
            return have
        parts = [self._data[self._at :]] if have else []
        while have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                break
            parts.append(chunk)
            have += len(chunk)
        # A chunk that is alone is not copied.
        self._data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._at = 0
        return have

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, and leave them; fewer where the content ends."""
        self.fill(size)
        return self._data[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer where the content ends."""
        self.fill(size)
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def take_some(self, size: int) -> bytes:
        """Return the next bytes as they came, at most `size`; none where the content ends."""
        return self.take(min(size, max(1, len(self._data) - self._at)) if self.fill(1) else 0)

    def look(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, of those at hand."""
        return self._data[self._at + start : self._at + start + size]

    def find(self, what: bytes, start: int, end: int) -> int:
        """Return where `what` begins within bytes [start, end) from here, of those at hand; -1: nowhere."""
        found = self._data.find(what, self._at + start, self._at + end)
        return found - self._at if found >= 0 else -1
