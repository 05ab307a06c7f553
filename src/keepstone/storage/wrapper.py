"""A storage in front of another: what it does not do itself it hands on.

Layer: storage.
"""

from __future__ import annotations

from collections.abc import Iterator

from keepstone.storage.base import CountsRequests, ObjectInfo, Parts, Storage


class StorageWrapper:
    """Hands every verb on to `inner`; see `Storage` for what each guarantees."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    @property
    def location(self) -> str:
        """Where the inner storage is."""
        return self.inner.location

    @property
    def writable(self) -> bool:
        """Whether writing may succeed at all."""
        return self.inner.writable

    @property
    def reads_at_once(self) -> int:
        """How many reads in parallel pay."""
        return self.inner.reads_at_once

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        return self.inner.read(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object."""
        return self.inner.read_range(key, start, end)

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object only if the key is free."""
        self.inner.write_new(key, data)

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object from its parts only if the key is free."""
        self.inner.write_parts(key, size, parts)

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object that may be lost at any time."""
        self.inner.write_hint(key, data)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.inner.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key."""
        return self.inner.list(prefix)

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        return self.inner.size(key)

    def settle(self, prefix: str) -> None:
        """Make durable what is already visible below `prefix`."""
        self.inner.settle(prefix)

    def close(self) -> None:
        """Let go of what is kept open for reading."""
        self.inner.close()


def medium(storage: Storage) -> Storage:
    """Return what stands behind all wrappers."""
    while isinstance(storage, StorageWrapper):
        storage = storage.inner
    return storage


def requests_made(storage: Storage) -> int:
    """Return how many requests a storage has made so far; 0 where asking is no request, as of a folder."""
    inner: object = medium(storage)
    return inner.requests_made if isinstance(inner, CountsRequests) else 0
