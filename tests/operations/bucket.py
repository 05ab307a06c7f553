"""A storage that behaves as a bucket does: reads mean waiting, every request is counted, and can fail on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from keepstone.foundation.errors import StorageBusyError
from keepstone.storage import locate
from keepstone.storage.base import ObjectInfo
from keepstone.storage.memory import SCHEME, MemoryStorage

BUCKET = "bucket://"


class Requests:
    """What was asked of all buckets, in order; the `fail_at`-th request (from 1) fails, with `forever` all after it.

    With `after` it takes effect, and only its answer is lost.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self.arm(0)

    def arm(self, fail_at: int, *, forever: bool = False, after: bool = False) -> None:
        self._count, self._fail_at, self._forever, self._after = 0, fail_at, forever, after
        self.failed: list[tuple[str, str]] = []

    def heal(self) -> bool:
        """Work again; return whether anything had failed."""
        self._fail_at = 0
        return bool(self.failed)

    def make(self, verb: str, key: str, work: Callable[[], Any]) -> Any:
        with self._lock:
            self.made.append((verb, key))
            self._count += 1
            fails = bool(self._fail_at) and (
                self._count == self._fail_at or (self._forever and self._count > self._fail_at)
            )
            if fails:
                self.failed.append((verb, key))
        if not fails:
            return work()
        if self._after:
            work()
        raise StorageBusyError(f"{verb} {key} got no answer", path=key, hint="try again")

    def take(self) -> list[tuple[str, str]]:
        """Return what was asked since the last time."""
        made, self.made = self.made, []
        return made


requests = Requests()


class Bucket(MemoryStorage):
    """Objects in memory behind requests."""

    _made = 0

    def _ask(self, verb: str, key: str, work: Callable[[], Any]) -> Any:
        self._made += 1
        return requests.make(verb, key, work)

    @property
    def location(self) -> str:
        """`bucket://` and the name."""
        return BUCKET + super().location.removeprefix(SCHEME)

    @property
    def requests_made(self) -> int:
        """Through this storage alone."""
        return self._made

    @property
    def reads_at_once(self) -> int:
        """As many as a bucket takes gladly."""
        return 16

    def read(self, key: str) -> bytes:
        return self._ask("GET", key, lambda: MemoryStorage.read(self, key))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        return self._ask("GET", key, lambda: MemoryStorage.read(self, key)[start:end])

    def write_new(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, lambda: MemoryStorage.write_new(self, key, data))

    def write_hint(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, lambda: MemoryStorage.write_hint(self, key, data))

    def size(self, key: str) -> int:
        return self._ask("HEAD", key, lambda: len(MemoryStorage.read(self, key)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._ask("LIST", prefix, lambda: MemoryStorage.list(self, prefix))

    @property
    def objects(self) -> dict[str, bytes]:
        """What is stored, by key; to be looked at, or damaged."""
        return self._shelf.objects


def bucket(name: str, *, writable: bool = True) -> Bucket:
    """Return the bucket of that name."""
    return Bucket(SCHEME + name, writable=writable)


@contextmanager
def buckets() -> Generator[Requests]:
    """Let `bucket://name` be a place of stores."""
    backends: dict[str, Any] = locate._BACKENDS
    backends["bucket"] = lambda scheme, rest, writable: bucket(rest, writable=writable is not False)
    requests.arm(0)
    requests.take()
    try:
        yield requests
    finally:
        del backends["bucket"]
