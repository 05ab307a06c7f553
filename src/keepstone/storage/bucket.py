"""What every cloud's client must do for us: one method, one request.

Layer: storage. File systems look before they read, list before they say that nothing is there, and try again on their
own; behind this port there is none of that. Keys are whole names in the bucket.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol, runtime_checkable

from keepstone.storage.base import ObjectInfo
from keepstone.storage.trouble import Trouble

CONNECT_SECONDS_MAX: Final = 10
READ_SECONDS_MAX: Final = 60
"""Without a single byte of an answer."""
CONNECTIONS_MAX: Final = 64
SINGLE_BYTES_MAX: Final = 16 << 20
"""Above it an object is written in parts."""
PART_BYTES: Final = 8 << 20
PARTS_AT_ONCE: Final = 4
"""Of all objects together."""
PARTS_AHEAD_MAX: Final = 3
"""Of one object that comes in parts; two such objects keep the line busy while one of them begins or ends."""
BEYOND_ANY_OBJECT: Final = 1 << 53
"""A server need not understand a range that no object can have, and may answer with all there is."""


class Page(NamedTuple):
    """Some of what a bucket holds, sorted by name."""

    objects: list[ObjectInfo]
    next: str
    """Where to go on; empty at the end."""


class Bucket(Protocol):
    """One bucket, as one process sees it. Its methods run on the request loop."""

    @property
    def server(self) -> str:
        """Where requests go, without credentials; empty while unknown."""
        ...

    async def read(self, key: str) -> bytes:
        """Return a whole object."""
        ...

    async def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end), start < end; shorter where the object ends before."""
        ...

    async def create(self, key: str, data: bytes) -> None:
        """Create an object if there is none; what is large comes by `TakesParts`, where the bucket does that."""
        ...

    async def replace(self, key: str, data: bytes) -> None:
        """Create or overwrite an object."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; there may be none."""
        ...

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        ...

    async def page(self, prefix: str, after: str) -> Page:
        """Return up to 1,000 objects whose name begins with `prefix`; `after` is what the last page said."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...

    def trouble(self, error: Exception) -> Trouble:
        """Tell what an exception of the methods above means."""
        ...


@runtime_checkable
class TakesParts(Protocol):
    """A bucket to which an object can be sent part by part; there is nothing to see before the end."""

    async def begin_parts(self, key: str) -> str:
        """Begin, and return what the other methods call this upload."""
        ...

    async def send_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Send one part, numbered from 1; return what `end_parts` wants to know of it."""
        ...

    async def end_parts(self, key: str, upload: str, sent: list[str]) -> None:
        """Create the object, of all parts in order, if there is none."""
        ...

    async def drop_parts(self, key: str, upload: str) -> None:
        """Forget the upload."""
        ...


def cut(data: bytes, start: int, end: int, status: int) -> bytes:
    """Return what was asked for of an answer to a request for [start, end).

    A server may ignore the range and send the whole object: then it says 200, not 206.
    """
    return data[: end - start] if status == 206 else data[start:end]
