"""The read cache: ranges of immutable objects on a local disk, kept within a bound for all processes of a machine.

Layer: storage. Throwaway: a folder that can be deleted at any time, damaged, cut off, full or read-only, and only makes
reading slower. Entries are files that prove themselves (`cache_entry`), in generations that pass (`cache_folder`).
"""

from __future__ import annotations

import os
import re
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from keepstone.storage import platform
from keepstone.storage.cache_entry import DamagedEntry, encode_entry, read_entry
from keepstone.storage.cache_folder import FRESH_GENERATIONS, CacheFolder, LastSeen, folder_of
from keepstone.storage.calls import Calls, close_quietly
from keepstone.storage.places import CACHE_BYTES_MAX

ENTRY_BYTES_MAX: Final = 16 * 1024 * 1024
_OBJECTS_KNOWN_MAX: Final = 4096
_LISTED_SECONDS_MAX: Final = 1.0
"""What others have kept since is looked for that often."""
_TRIES: Final = 8
_ENTRY: Final = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})(z?)")


class CacheCounts(NamedTuple):
    """What this process had from the cache."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    """Entries that were not what was written; dropped, and read again."""
    kept: int = 0
    unkept: int = 0
    """What could not be kept: the disk is full, or the folder cannot be written."""


class _Known:
    """What is kept of one object: ranges, none within another, so that their ends are sorted as their starts are."""

    def __init__(self, listed: float) -> None:
        self.listed = listed
        self.starts: list[int] = []
        self.ranges: list[tuple[int, int, str]] = []
        """First byte, byte after the last, and the file below the cache's folder."""
        self.size: int | None = None
        """Of the object, where that is known."""

    def add(self, first: int, last: int, place: str) -> None:
        at = bisect_right(self.starts, first)
        if at and self.ranges[at - 1][1] >= last:
            return
        begin = at - 1 if at and self.ranges[at - 1][0] == first else at
        stop = begin
        while stop < len(self.ranges) and self.ranges[stop][1] <= last:
            stop += 1
        self.ranges[begin:stop] = [(first, last, place)]
        self.starts[begin:stop] = [first]

    def note_moved(self, first: int, last: int, place: str) -> None:
        """Take note that the file of this range is another one now."""
        at = bisect_right(self.starts, first) - 1
        if at >= 0 and self.ranges[at][:2] == (first, last):
            self.ranges[at] = (first, last, place)

    def cover(self, start: int, end: int) -> list[tuple[int, int, str]] | None:
        """Return ranges that hold all of [start, end) together; None where something is missing."""
        found: list[tuple[int, int, str]] = []
        while start < end:
            at = bisect_right(self.starts, start) - 1
            if at < 0 or self.ranges[at][1] <= start:
                return None
            found.append(self.ranges[at])
            start = self.ranges[at][1]
        return found


class ReadCache:
    """One folder of kept ranges; safe for many threads, processes and forks. No call raises because of the disk."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        bytes_max: int = CACHE_BYTES_MAX,
        calls: Calls | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls or Calls()
        self._monotonic = monotonic
        self._folder = CacheFolder(folder, bytes_max=bytes_max, calls=self._calls, monotonic=monotonic)
        self._last_seen = LastSeen(self._folder, self._calls)
        self.entry_bytes_max = min(ENTRY_BYTES_MAX, self._folder.capacity_bytes // 2)
        """A longer range is kept in pieces."""
        self._objects: OrderedDict[str, _Known] = OrderedDict()
        self._counts = CacheCounts()
        self._lock = threading.Lock()
        platform.renew_lock_after_fork(self)

    def __repr__(self) -> str:
        return f"ReadCache({self._folder.root!r})"

    @property
    def counts(self) -> CacheCounts:
        """What this process had from it so far."""
        return self._counts

    @property
    def last_seen(self) -> LastSeen:
        """What was last seen of what changes."""
        return self._last_seen

    def _count(self, **more: int) -> None:
        with self._lock:
            self._counts = self._counts._replace(
                **{name: getattr(self._counts, name) + number for name, number in more.items()}
            )

    # ---- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, start: int, end: int) -> bytes | None:
        """Return bytes [start, end) of an object, fewer where it is known to end before; None: not all are here."""
        for attempt in range(_TRIES):
            known = self._known(key, anew=attempt > 0)
            with self._lock:
                stop = end if known.size is None else max(start, min(end, known.size))
                found = known.cover(start, stop)
            if found is None:
                if attempt == 0 and self._monotonic() - known.listed > _LISTED_SECONDS_MAX:
                    continue
                break
            parts: list[bytes] = []
            for first, last, place in found:
                # Neighbours may overlap: of each what those before it did not have.
                part = self._part(key, first, last, place, start, min(stop, last))
                if part is None:
                    break
                parts.append(part)
                start += len(part)
            else:
                self._count(hits=1)
                return parts[0] if len(parts) == 1 else b"".join(parts)
            start -= sum(map(len, parts))
        self._count(misses=1)
        return None

    def size_of(self, key: str) -> int | None:
        """Return an object's size, where that is known."""
        return self._known(key).size

    def _part(self, key: str, first: int, last: int, place: str, start: int, end: int) -> bytes | None:
        path = f"{self._folder.root}/{place}"
        try:
            fd = self._calls.open(path, platform.OPEN_READ)
            try:
                data = read_entry(self._calls, fd, key, first, last, start, end)
            finally:
                close_quietly(self._calls, fd)
        except DamagedEntry:
            self._count(damaged=1)
            self._folder.remove(path)
            return None
        except OSError:
            # Moved to another generation, or gone with its own.
            return None
        self._freshen(key, first, last, place)
        return data

    def _freshen(self, key: str, first: int, last: int, place: str) -> None:
        if int(place.partition("/")[0]) > self._folder.newest - FRESH_GENERATIONS:
            return

        def move(root: int) -> None:
            moved = self._folder.move(root, place, last - first)
            with self._lock:
                known = self._objects.get(key)
                if known is not None:
                    known.note_moved(first, last, moved)

        self._folder.change(move)

    def _known(self, key: str, *, anew: bool = False) -> _Known:
        with self._lock:
            known = self._objects.get(key)
            if known is not None and not anew:
                self._objects.move_to_end(key)
                return known
        known = self._listed(key)
        with self._lock:
            self._objects[key] = known
            self._objects.move_to_end(key)
            while len(self._objects) > _OBJECTS_KNOWN_MAX:
                self._objects.popitem(last=False)
        return known

    def _listed(self, key: str) -> _Known:
        known = _Known(self._monotonic())
        for place in self._places(key):
            match = _ENTRY.fullmatch(place.rpartition("/")[2])
            if match:
                first, last = int(match[1], 16), int(match[2], 16)
                known.add(first, last, place)
                if match[3]:
                    known.size = last
        return known

    def _places(self, key: str) -> Iterator[str]:
        """Yield the files of an object, below the cache's folder."""
        below = folder_of(key)
        for generation in self._folder.generations():
            try:
                entries = self._calls.scandir(f"{self._folder.root}/{generation}/{below}")
            except OSError:
                continue
            for entry in entries:
                yield f"{generation}/{below}/{entry.name}"

    # ---- keeping -----------------------------------------------------------------------------------------------------

    def put(self, key: str, start: int, data: bytes, *, ends: bool) -> None:
        """Keep bytes of an object from `start` on; `ends`: it has no more. Nothing happens where that fails."""
        if not data or not self.entry_bytes_max:
            return
        for at in range(0, len(data), self.entry_bytes_max):
            piece = data[at : at + self.entry_bytes_max]
            is_last = at + len(piece) == len(data)
            self._keep(key, start + at, piece, ends=ends and is_last)

    def _keep(self, key: str, start: int, data: bytes, *, ends: bool) -> None:
        stop = start + len(data)
        name = f"{start:x}-{stop:x}{'z' if ends else ''}"
        content = encode_entry(key, start, data, ends=ends)

        def write(root: int) -> None:
            generation = self._folder.take_room(root, len(content))
            place = f"{generation}/{folder_of(key)}/{name}"
            self._folder.write(root, f"{generation}/.tmp-{os.urandom(8).hex()}", place, content)
            with self._lock:
                known = self._objects.get(key)
                if known is not None:
                    known.add(start, stop, place)
                    known.size = stop if ends else known.size

        self._count(**{"kept" if self._folder.change(write) else "unkept": 1})

    def clear(self) -> None:
        """Keep nothing of what is kept now."""
        self._folder.change(self._folder.doom_all)
        with self._lock:
            self._objects.clear()

    def forget(self, key: str) -> None:
        """Keep nothing of an object any more."""
        # Every file: what other processes keep may lie within a range that is known, and would be found without it.
        for place in self._places(key):
            self._folder.remove(f"{self._folder.root}/{place}")
        with self._lock:
            self._objects.pop(key, None)
