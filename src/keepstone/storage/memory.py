"""Objects in this process's memory, for tests and for stores that need not last.

Layer: storage. Storages of one location share their objects; `memory://<name>` lasts as long as the process,
one without a name as long as somebody holds it. Nothing is shared between processes.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Final

from keepstone.foundation.errors import (
    InvalidInputError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoragePermissionError,
)
from keepstone.storage import platform
from keepstone.storage.base import ObjectInfo, Parts, check_key
from keepstone.storage.keys import check_prefix, check_range

SCHEME: Final = "memory://"


class _Shelf:
    """The objects of one location."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()
        platform.renew_lock_after_fork(self)

    def add(self, key: str, data: bytes) -> bool:
        """Whether the key was free; then it now holds `data`."""
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = data
            return True


class _Shelves:
    def __init__(self) -> None:
        self._all: weakref.WeakValueDictionary[str, _Shelf] = weakref.WeakValueDictionary()
        self._kept: dict[str, _Shelf] = {}
        self._lock = threading.Lock()
        platform.renew_lock_after_fork(self)

    def get(self, location: str, keep: bool) -> _Shelf:
        with self._lock:
            shelf = self._all.get(location)
            if shelf is None:
                shelf = self._all[location] = _Shelf()
            if keep:
                self._kept[location] = shelf
            return shelf


_SHELVES: Final = _Shelves()


class MemoryStorage:
    """Objects in memory. Without `location` (or with `memory://`) a new, empty one that nobody else has."""

    def __init__(self, location: str = SCHEME, *, writable: bool = True) -> None:
        if not location.startswith(SCHEME):
            raise InvalidInputError(f"not a location in memory: {location!r}", hint="write memory://name")
        anonymous = location == SCHEME
        self._location = SCHEME + os.urandom(16).hex() if anonymous else location
        self._writable = writable
        self._shelf = _SHELVES.get(self._location, keep=not anonymous)

    def __repr__(self) -> str:
        return f"MemoryStorage({self._location!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopened, (self._location, self._writable))

    @property
    def location(self) -> str:
        """`memory://` and the name."""
        return self._location

    @property
    def writable(self) -> bool:
        """Whether writing is allowed."""
        return self._writable

    @property
    def reads_at_once(self) -> int:
        """1: a read does not wait."""
        return 1

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        data = self._shelf.objects.get(check_key(key))
        if data is None:
            raise ObjectNotFoundError(f"{self._location} has no object {key}", key=key)
        return data

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`."""
        check_range(key, start, end)
        return self.read(key)[start:end]

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object only if the key is free."""
        self._require_writable(check_key(key))
        if not self._shelf.add(key, bytes(data)):
            raise ObjectExistsError(f"{self._location}/{key} exists already", key=key)

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object from its parts only if the key is free."""
        self.write_new(key, b"".join(parts()))

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        self._require_writable(check_key(key))
        self._shelf.objects[key] = bytes(data)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        self._require_writable(check_key(key))
        self._shelf.objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key."""
        check_prefix(prefix)
        found = [
            ObjectInfo(key, len(data))
            for key, data in self._shelf.objects.copy().items()
            if key.startswith(prefix)
        ]
        return iter(sorted(found))

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        return len(self.read(key))

    def settle(self, prefix: str) -> None:
        """Do nothing: memory has no later."""
        check_prefix(prefix)

    def close(self) -> None:
        """Do nothing: the objects stay for the other storages of this location."""

    def _require_writable(self, key: str) -> None:
        if not self._writable:
            raise StoragePermissionError(
                f"cannot change {self._location}/{key}: the store is open for reading only",
                path=f"{self._location}/{key}",
                hint="open it without mode='r'",
            )


def _reopened(location: str, writable: bool) -> MemoryStorage:
    return MemoryStorage(location, writable=writable)
