"""Reading a store from end to end where every request waits: what will be read is said before, and fetched ahead.

Layer: operations. For those who read the medium itself, as a check does. It only saves waiting: what was not planned,
or could not be fetched, is read when it is asked for, and meets the same error.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from keepstone.blobs.read_ahead import ReadAhead
from keepstone.blobs.runs import Span
from keepstone.storage.base import Storage
from keepstone.storage.wrapper import StorageWrapper


class PlannedReads(StorageWrapper):
    """A storage of which ranges are read ahead; for one thread."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self._aheads: tuple[ReadAhead[Span], ...] = ()

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`."""
        span = Span(key, start, end)
        for ahead in self._aheads:
            data = ahead.take(span)
            if data is not None:
                return data
        return self.inner.read_range(key, start, end)

    @contextmanager
    def planned(self, spans: Iterable[Span]) -> Generator[None]:
        """While this lasts, these ranges are fetched ahead, in the order in which they will be read."""
        ahead = ReadAhead(self.inner, spans, lambda span: [span], reads_at_once=self.inner.reads_at_once)
        before = self._aheads
        self._aheads = (ahead, *before)
        try:
            ahead.pump()
            yield
        finally:
            self._aheads = before
            ahead.close()


def planning(storage: Storage) -> Storage:
    """Return a storage that `reading_ahead` helps, where reading waits."""
    return storage if storage.reads_at_once == 1 else PlannedReads(storage)


@contextmanager
def reading_ahead(storage: Storage, spans: Iterable[Span]) -> Generator[None]:
    """While this lasts, these ranges are fetched ahead, in the order in which they will be read."""
    inner = storage
    while isinstance(inner, StorageWrapper) and not isinstance(inner, PlannedReads):
        inner = inner.inner
    if not isinstance(inner, PlannedReads):
        yield
        return
    with inner.planned(spans):
        yield
