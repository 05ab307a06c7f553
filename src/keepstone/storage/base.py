"""The storage port: keys to immutable bytes on some medium.

Layer: storage. Keys are relative paths of `[A-Za-z0-9._-]` segments joined by `/`, made by Keepstone, never by users.
Every medium that passes `tests/storage/contract.py` can hold a store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Final, NamedTuple, Protocol, runtime_checkable

from keepstone.foundation.errors import InvalidInputError

_SEGMENT: Final = r"(?!\.{1,2}(?:/|$))(?!\.tmp-)[A-Za-z0-9._-]{1,255}"
_KEY: Final = re.compile(f"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}")


Parts = Callable[[], Generator[bytes]]
"""Makes an object's bytes from the first on, once for each try; none of the parts is large."""


class ObjectInfo(NamedTuple):
    """One listed object."""

    key: str
    size: int
    """Bytes."""


class ReadsRanges(Protocol):
    """What reading packs needs: a storage, or a single file that holds some."""

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`."""
        ...


@runtime_checkable
class CountsRequests(Protocol):
    """A medium that is asked over a network."""

    @property
    def requests_made(self) -> int:
        """How many requests were made so far, those that failed among them."""
        ...


@runtime_checkable
class MapsFiles(Protocol):
    """A medium whose objects are files of this machine."""

    def mapped(self, key: str, start: int, end: int) -> memoryview:
        """Return bytes [start, end) of an object as read-only memory that is the file's own; shorter as `read_range`.

        Raises:
            ObjectNotFoundError: there is none.
        """
        ...


class Storage(Protocol):
    """What a medium must do. Safe to use from many threads; every call may raise `StorageError`."""

    @property
    def location(self) -> str:
        """Where this is, as a user would write it; no credentials."""
        ...

    @property
    def writable(self) -> bool:
        """Whether writing may succeed at all (a read-only mount, a folder of somebody else: False)."""
        ...

    @property
    def reads_at_once(self) -> int:
        """How many reads in parallel pay: 1 where a read costs no waiting, as on a local disk."""
        ...

    def read(self, key: str) -> bytes:
        """Return the whole object.

        Raises:
            ObjectNotFoundError: there is none.
        """
        ...

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`.

        Raises:
            ObjectNotFoundError: there is none.
        """
        ...

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object, whole or not at all, only if the key is free; durable on return.

        Raises:
            ObjectExistsError: the key is taken; nothing was changed.
            StorageError: with `landed=True` the object exists all the same (rule 6).
        """
        ...

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object of `size` bytes as `write_new`, without ever holding all of it.

        What `parts` raises is raised here, and nothing was created.
        """
        ...

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object that may be lost at any time; readers see the old or the new bytes."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix` (which ends in `/` or is empty), sorted by key."""
        ...

    def size(self, key: str) -> int:
        """Return the object's size in bytes.

        Raises:
            ObjectNotFoundError: there is none.
        """
        ...

    def settle(self, prefix: str) -> None:
        """Make durable what is already visible below `prefix`; nothing to do where visible means durable."""
        ...

    def close(self) -> None:
        """Let go of what is kept open for reading; the storage can be used again all the same."""
        ...


def check_key(key: str) -> str:
    """Return `key` if it is one; a last guard that nothing leaves the store's folder."""
    if not _KEY.fullmatch(key):
        raise InvalidInputError(f"not a storage key: {key!r}")
    return key
