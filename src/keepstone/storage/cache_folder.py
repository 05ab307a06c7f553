"""The folder of the read cache: files in generations, of which the oldest goes when there are too many bytes.

Layer: storage.

    <number>/<2 hex>/<hash of the key>/<first>-<last>      an entry; `z` behind it: the object ends there
    <number>/.written                                      a byte for each 4 KiB that the generation took in
    .doomed-…                                              a generation on its way out
    seen/                                                  what changes, as it was last seen, and the end of the log

New entries go into the newest generation; when that is full the next one begins, and the oldest is doomed. An old
entry that is read moves to the newest. So what was used last stays, nobody keeps a list, and a call costs the same
however much is kept: each one that adds removes about twice as much of what is doomed. Nothing is synced.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from typing import Final

from blake3 import blake3

from keepstone.storage import platform
from keepstone.storage.cache_entry import DamagedEntry, encode_entry, read_entry
from keepstone.storage.calls import Calls, close_quietly, uninterrupted, write_all

FRESH_GENERATIONS: Final = 3
"""What is read in one of the newest stays where it is."""
_UNIT_BYTES: Final = 4096
"""What is counted; about what a file system gives."""
_CAPACITY_FRACTION: Final = 10
"""A generation takes a tenth of the bound; seven stay, and there is room for a full new one and one that goes."""
_KEPT_TENTHS: Final = 7
_CLEARED_UNITS: Final = 4096
"""Removed at once when everything goes: about 20 ms; the rest goes with what is kept later."""
_REST_SECONDS: Final = 30.0
"""After a failure nothing is kept for so long: a full disk need not be asked at every read."""
_DOOMED: Final = ".doomed-"
_SEEN: Final = "seen"
_TIP: Final = re.compile(r"tip-([0-9]{20})")
_ABSENT: Final = frozenset((errno.ENOENT, errno.ENOTDIR))


class CacheFolder:
    """One folder that stays within a bound; safe for many threads, processes and forks."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        bytes_max: int,
        calls: Calls,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = os.path.abspath(folder)
        self._calls = calls
        self._monotonic = monotonic
        self._capacity = bytes_max // _CAPACITY_FRACTION // _UNIT_BYTES
        self.capacity_bytes = self._capacity * _UNIT_BYTES
        """Of one generation."""
        self.newest = 0
        """Number of the newest generation that is known."""
        self._rests_until = 0.0

    def generations(self) -> list[int]:
        """Return the numbers of the generations, the oldest first."""
        try:
            names = [entry.name for entry in self._calls.scandir(self.root)]
        except OSError:
            return []
        found = sorted(int(name) for name in names if name.isascii() and name.isdigit())
        if found:
            self.newest = max(self.newest, found[-1])
        return found

    def change(self, work: Callable[[int], None]) -> bool:
        """Do `work` with the folder open; return whether it was done, and not refused by the disk."""
        if self._monotonic() < self._rests_until:
            return False
        try:
            for _ in range(3):
                root = self._open_root()
                try:
                    work(root)
                    return True
                except FileNotFoundError:
                    # The generation was doomed meanwhile: once more, in the newest.
                    self.newest = 0
                finally:
                    close_quietly(self._calls, root)
        except OSError:
            self._rests_until = self._monotonic() + _REST_SECONDS
        return False

    def _open_root(self) -> int:
        try:
            return self._calls.open(self.root, platform.OPEN_FOLDER)
        except FileNotFoundError:
            # What is read may be private.
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            return self._calls.open(self.root, platform.OPEN_FOLDER)

    def write(self, root: int, draft: str, place: str, content: bytes) -> None:
        """Make the file `place` of `content`, by way of `draft`; both below the folder that `root` is open for."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | platform.O_NOFOLLOW
        fd = self._calls.open(draft, flags, 0o600, dir_fd=root)
        try:
            try:
                write_all(self._calls, fd, content)
            finally:
                self._calls.close(fd)
            self._rename(root, draft, place)
        except OSError:
            self.remove(draft, dir_fd=root)
            raise

    def _rename(self, root: int, source: str, place: str) -> None:
        try:
            self._calls.rename(source, place, folder=root)
        except FileNotFoundError:
            above, _, _ = place.rpartition("/")
            for folder in (above.rpartition("/")[0], above):
                self.make(root, folder)
            self._calls.rename(source, place, folder=root)

    def move(self, root: int, place: str, size: int) -> str:
        """Move an entry of `size` bytes to the newest generation; return where it is then."""
        moved = f"{self.take_room(root, size)}/{place.partition('/')[2]}"
        self._rename(root, place, moved)
        return moved

    def make(self, root: int, folder: str) -> None:
        """Make a folder, if there is none."""
        try:
            uninterrupted(self._calls.mkdir, folder, dir_fd=root)
        except FileExistsError:
            pass

    def remove(self, path: str, *, dir_fd: int | None = None) -> None:
        """Remove a file, if that is possible."""
        try:
            self._calls.unlink(path, dir_fd=dir_fd)
        except OSError:
            pass

    # ---- staying within the bound ------------------------------------------------------------------------------------

    def take_room(self, root: int, size: int) -> int:
        """Return the generation to write to, which has counted an entry of `size` bytes; make room for it."""
        if not self.newest:
            self.generations()
            if not self.newest:
                self.make(root, "1")
                self.newest = 1
        generation = self.newest
        # One more for the folder that an entry may need.
        units = _units(size) + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | platform.O_NOFOLLOW
        fd = self._calls.open(f"{generation}/.written", flags, 0o600, dir_fd=root)
        try:
            # Its size is the count, so that all processes share it, and no crash can leave it wrong for long.
            write_all(self._calls, fd, bytes(units))
            written = self._calls.fstat(fd).st_size
        finally:
            close_quietly(self._calls, fd)
        if written >= self._capacity:
            self._begin_next(root, generation)
        self._remove_doomed(2 * units)
        return generation

    def _begin_next(self, root: int, generation: int) -> None:
        self.make(root, str(generation + 1))
        sizes: list[tuple[int, int]] = []
        for number in self.generations():
            try:
                sizes.append((number, self._calls.lstat(f"{number}/.written", dir_fd=root).st_size))
            except OSError:
                sizes.append((number, 0))
        total = sum(size for _, size in sizes)
        for number, size in sizes[:-1]:
            if total <= self._capacity * _KEPT_TENTHS:
                break
            self._doom(root, str(number))
            total -= size

    def doom_all(self, root: int) -> None:
        """Let everything go; what others add meanwhile may stay."""
        for name in (_SEEN, *map(str, self.generations())):
            self._doom(root, name)
        self.newest = 0
        # Where nothing is kept any more, nothing else would remove it.
        self._remove_doomed(_CLEARED_UNITS)

    def _doom(self, root: int, name: str) -> None:
        try:
            self._calls.rename(name, f"{_DOOMED}{os.urandom(8).hex()}", folder=root)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise

    def _remove_doomed(self, units: int) -> None:
        for entry in self._calls.scandir(self.root):
            if units > 0 and entry.name.startswith(_DOOMED):
                try:
                    units -= self._remove_below(entry.path, units)
                except OSError:
                    # Another process is at it.
                    continue

    def _remove_below(self, path: str, units: int) -> int:
        """Remove files below a folder until so many units are free, and the folder when it is empty."""
        freed = 0
        with os.scandir(path) as entries:
            # Lazily: what is listed, and never looked at, would cost as much as what is removed.
            for entry in entries:
                if freed >= units:
                    return freed
                if entry.is_dir(follow_symlinks=False):
                    freed += self._remove_below(entry.path, units - freed)
                else:
                    freed += _units(entry.stat(follow_symlinks=False).st_size) + 1
                    self.remove(entry.path)
        try:
            os.rmdir(path)
        except OSError:
            pass
        return freed


class LastSeen:
    """What was last seen of what changes; for who cannot look."""

    def __init__(self, folder: CacheFolder, calls: Calls) -> None:
        self._folder = folder
        self._calls = calls

    def note(self, key: str, data: bytes) -> None:
        """Remember an object that is no immutable one, as it was last seen."""
        content = encode_entry(key, 0, data, ends=True)

        def write(root: int) -> None:
            self._folder.make(root, _SEEN)
            place = f"{_SEEN}/{_hash_of(key)}-{len(data):x}"
            self._folder.write(root, f"{_SEEN}/.tmp-{os.urandom(8).hex()}", place, content)
            for name in self._seen():
                if name.startswith(_hash_of(key)) and not place.endswith(name):
                    self._folder.remove(f"{_SEEN}/{name}", dir_fd=root)

        self._folder.change(write)

    def noted(self, key: str) -> bytes | None:
        """Return what `note` was last told of it."""
        for name in self._seen():
            hashed, _, size = name.partition("-")
            if hashed == _hash_of(key):
                found = self._part_seen(key, int(size, 16), f"{self._folder.root}/{_SEEN}/{name}")
                if found is not None:
                    return found
        return None

    def _part_seen(self, key: str, size: int, path: str) -> bytes | None:
        try:
            fd = self._calls.open(path, platform.OPEN_READ)
            try:
                return read_entry(self._calls, fd, key, 0, size, 0, size)
            finally:
                close_quietly(self._calls, fd)
        except DamagedEntry:
            self._folder.remove(path)
        except OSError:
            pass
        return None

    def _seen(self) -> list[str]:
        try:
            return [entry.name for entry in self._calls.scandir(f"{self._folder.root}/{_SEEN}")]
        except OSError:
            return []

    def note_tip(self, number: int) -> None:
        """Remember that the log reaches as far as commit `number`, unless it is known to reach farther."""

        def write(root: int) -> None:
            self._folder.make(root, _SEEN)
            # By its name alone: of two that are written at once the higher counts, whatever becomes of the other.
            flags = os.O_WRONLY | os.O_CREAT | platform.O_NOFOLLOW
            close_quietly(
                self._calls, self._calls.open(f"{_SEEN}/tip-{number:020d}", flags, 0o600, dir_fd=root)
            )
            # Its own too, where another one was faster: whoever looks last leaves only the highest.
            for tip in sorted(self._tips())[:-1]:
                self._folder.remove(f"{_SEEN}/tip-{tip:020d}", dir_fd=root)

        if number > self.tip():
            self._folder.change(write)

    def tip(self) -> int:
        """Return the number of the newest commit that was ever seen; -1 for none."""
        return max(self._tips(), default=-1)

    def _tips(self) -> list[int]:
        return [int(match[1]) for name in self._seen() if (match := _TIP.fullmatch(name))]


def _units(size: int) -> int:
    return -(-size // _UNIT_BYTES)


def _hash_of(key: str) -> str:
    return blake3(key.encode()).hexdigest()[:32]


def folder_of(key: str) -> str:
    """Return the folder for an object's entries, below that of a generation."""
    hashed = _hash_of(key)
    return f"{hashed[:2]}/{hashed[2:]}"
