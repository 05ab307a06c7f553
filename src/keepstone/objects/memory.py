"""Parts that are read out of the memory of a live value, which somebody may change meanwhile.

Layer: objects. No content is copied whole: each piece is copied once, and what is hashed and stored is that copy.
Before the last piece of the last part is handed out, all parts are read again and compared, so what is saved is
what the value was at one moment, or nothing is saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from blake3 import blake3

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.serializer import Make, Source


class Moment:
    """What the parts of one value were when each of them was read."""

    def __init__(self) -> None:
        self._sources = 0
        self._read: dict[int, tuple[Make, bytes]] = {}
        self._compared = False
        """Whether what was read is known to be of one moment."""

    def source(self, size: int, make: Make) -> Source:
        """Return the source of one more part."""
        self._sources += 1
        return MemorySource(size, make, self, self._sources)

    def note(self, number: int, make: Make, digest: bytes) -> None:
        """Keep what a part was; compare all with what they are now, when all have been read or one was read anew.

        Raises:
            SerializerError: one has changed.
        """
        before = self._read.get(number)
        self._read[number] = make, digest
        if len(self._read) < self._sources or (self._compared and before is not None and before[1] == digest):
            return
        self._compared = False
        for again, was in self._read.values():
            hasher = blake3()
            for piece in again():
                hasher.update(piece)
            if hasher.digest() != was:
                raise SerializerError(
                    "cannot save value: it changed while it was being saved",
                    hint="save it when nothing writes to it any more, or save a copy of it",
                )
        self._compared = True


class MemorySource(Source):
    """A part in memory, which is read when it is asked for."""

    def __init__(self, size: int, make: Make, moment: Moment, number: int) -> None:
        super().__init__(None, "", None, make, size)
        self._make_pieces, self._moment, self._number = make, moment, number

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the content in pieces of at most `size` bytes.

        Raises:
            SerializerError: it, or a part that was read before, changed meanwhile; keep nothing of them.
        """
        hasher = blake3()
        last = b""
        for piece in super().chunks(size):
            hasher.update(piece)
            if last:
                yield last
            last = piece
        self._moment.note(self._number, self._make_pieces, hasher.digest())
        if last:
            yield last


def array_pieces(numpy: Any, array: Any) -> Iterator[bytes | memoryview]:
    """Yield the elements of an array in C order as bytes, without copying it whole, however it lies in memory."""
    if not array.nbytes:
        return
    if array.flags.c_contiguous:
        yield memoryview(array.reshape(-1).view(numpy.uint8))
        return
    # As void, since what lies between the fields of a structure would not be copied, and be anything.
    void = array.view(numpy.dtype(("V", array.dtype.itemsize)))
    count = max(1, 1024 * 1024 // array.dtype.itemsize)
    flags = ["external_loop", "buffered", "zerosize_ok"]
    for piece in numpy.nditer(void, flags=flags, buffersize=count, order="C"):
        yield piece.tobytes()


def fill(target: memoryview, chunks: Iterable[bytes | memoryview], *, where: str) -> None:
    """Write `chunks` to `target`.

    Raises:
        MalformedError: they are more or fewer bytes.
    """
    start = 0
    for chunk in chunks:
        end = start + len(chunk)
        if end > len(target):
            start = end
            break
        target[start:end] = chunk
        start = end
    if start != len(target):
        raise MalformedError(
            f"part {where!a} is not of the {len(target):,} bytes that it must have", where=where
        )
