"""A storage that waits before it answers, as a bucket does, and counts what it is asked for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from keepstone.storage import locate as locating
from keepstone.storage.base import ObjectInfo, Parts, Storage
from keepstone.storage.memory import MemoryStorage

_numbers = itertools.count()


class SlowStorage:
    """Any storage, seen over a line with `delay_seconds` a request; `on_read` and `on_write` may fail it."""

    def __init__(self, inner: Storage, location: str = "", *, delay_seconds: float = 0.0005) -> None:
        self.inner = inner
        self.delay_seconds = delay_seconds
        self.reads_at_once = 16
        self.on_read: Callable[[str, int], None] = lambda key, start: None
        self.on_write: Callable[[str], None] = lambda key: None
        self._location = location or inner.location
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Count from here."""
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, int, int]] = []
        self.bytes_read = 0
        self.at_once = self.at_once_max = 0

    @property
    def location(self) -> str:
        return self._location

    @property
    def writable(self) -> bool:
        return self.inner.writable

    def _asked(self, verb: str, key: str, start: int = 0, end: int = 0) -> None:
        with self._lock:
            self.requests.append((verb, key))
            if verb == "read_range":
                self.ranges.append((key, start, end))
            self.at_once += 1
            self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            time.sleep(self.delay_seconds)
            if verb in ("read", "read_range"):
                self.on_read(key, start)
        finally:
            with self._lock:
                self.at_once -= 1

    def read(self, key: str) -> bytes:
        self._asked("read", key)
        data = self.inner.read(key)
        self.bytes_read += len(data)
        return data

    def read_range(self, key: str, start: int, end: int) -> bytes:
        self._asked("read_range", key, start, end)
        data = self.inner.read_range(key, start, end)
        self.bytes_read += len(data)
        return data

    def write_new(self, key: str, data: bytes) -> None:
        self._asked("write_new", key)
        self.on_write(key)
        self.inner.write_new(key, data)

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        self._asked("write_parts", key)
        self.on_write(key)
        self.inner.write_parts(key, size, parts)

    def write_hint(self, key: str, data: bytes) -> None:
        self._asked("write_hint", key)
        self.inner.write_hint(key, data)

    def delete(self, key: str) -> None:
        self._asked("delete", key)
        self.inner.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._asked("list", prefix)
        return self.inner.list(prefix)

    def size(self, key: str) -> int:
        self._asked("size", key)
        return self.inner.size(key)

    def settle(self, prefix: str) -> None:
        self.inner.settle(prefix)

    def close(self) -> None:
        self.inner.close()


def slow_place(monkeypatch: pytest.MonkeyPatch, inner: Storage | None = None) -> tuple[str, SlowStorage]:
    """Return a URL that means a slow storage, and that storage."""
    name = f"slow-{next(_numbers)}"
    storage = SlowStorage(inner or MemoryStorage(f"memory://{name}"), f"{name}://store")
    monkeypatch.setitem(locating._BACKENDS, name, lambda scheme, rest, writable: storage)
    return storage.location, storage


def reading_threads() -> list[threading.Thread]:
    """Return the threads that read ahead in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "keepstone-read"]


def await_no_reading_threads() -> None:
    """Return when no thread reads ahead any more.

    Raises:
        AssertionError: one still does after ten seconds.
    """
    until = time.monotonic() + 10
    for thread in reading_threads():
        thread.join(max(0, until - time.monotonic()))
    assert not reading_threads()
