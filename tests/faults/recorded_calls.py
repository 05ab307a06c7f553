"""System calls that are made for real and noted in order, so that one can say what a loss of power would leave of them.

What is noted is what changes a medium: files and folders made, names given and taken, bytes written and cut off, and
what was synced. `before` is asked before each of them: to run another process in between, or to die there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from keepstone.storage.calls import Calls
from keepstone.storage.platform import O_TMPFILE


class Created(NamedTuple):
    """A file or a folder came to be, without a name yet."""

    inode: int
    is_folder: bool


class Named(NamedTuple):
    """An inode got a name."""

    folder: int
    name: str
    inode: int


class Renamed(NamedTuple):
    """A name was replaced by another; both changes reach the medium, or none."""

    folder: int
    source: str
    target: str
    inode: int


class Unnamed(NamedTuple):
    """A name was removed."""

    folder: int
    name: str


class Wrote(NamedTuple):
    """Bytes were written."""

    inode: int
    offset: int
    data: bytes


class Cut(NamedTuple):
    """A file was cut or extended to a size."""

    inode: int
    size: int


class Synced(NamedTuple):
    """All that had happened to an inode before the event of that number is on the medium."""

    inode: int
    before: int


Event = Created | Named | Renamed | Unnamed | Wrote | Cut | Synced
ROOT = 0
"""Inode of the folder in which all is recorded."""


class RecordedCalls(Calls):
    """The real calls, noted in `events`. `root` is taken to be on the medium as it is found.

    Without `unnamed` the file system knows no files without a name. `left_out(call, where)` tells which syncs are not
    made: `where` is the path of the file or folder below `root`, that of an unnamed file being its folder's and `#`.
    """

    def __init__(
        self, root: Path, *, unnamed: bool = True, left_out: Callable[[str, str], bool] = lambda *_: False
    ) -> None:
        self.events: list[Event] = []
        self.files: dict[int, bytes] = {}
        """Content of each file that was there at the beginning."""
        self.folders: dict[int, dict[str, int]] = {}
        """Names in each folder that was there at the beginning."""
        self.before: Callable[[str], None] | None = None
        """Asked before each call that changes something, with the name of the call."""
        self.writes_until_full = -1
        """The write after so many writes is cut in half, and the next one finds the disk full; -1: never."""
        self.failing_syncs = 0
        """So many calls of fdatasync fail from now on."""
        self._unnamed = unnamed
        self._left_out = left_out
        self._lock = threading.RLock()
        self._inodes: dict[int, int] = {}
        self._where: dict[int, str] = {}
        self._count = 0
        self._walk(str(root), "")

    def _walk(self, path: str, where: str) -> int:
        inode = self._new(os.stat(path).st_ino, where)
        self.folders[inode] = names = {}
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            below = f"{where}/{entry.name}".lstrip("/")
            if entry.is_dir(follow_symlinks=False):
                names[entry.name] = self._walk(entry.path, below)
            else:
                names[entry.name] = found = self._new(entry.inode(), below)
                self.files[found] = Path(entry.path).read_bytes()
        return inode

    def _new(self, number: int, where: str) -> int:
        # The system gives the numbers of removed files again, so each file gets one of our own.
        self._inodes[number] = inode = self._count
        self._where[inode] = where
        self._count += 1
        return inode

    def _of(self, fd: int) -> int:
        return self._inodes[os.fstat(fd).st_ino]

    def _place(self, path: str, dir_fd: int | None) -> tuple[int, str]:
        if dir_fd is not None:
            return self._of(dir_fd), path
        folder, name = os.path.split(path)
        return self._inodes[os.stat(folder).st_ino], name

    def _below(self, folder: int, name: str) -> str:
        return f"{self._where[folder]}/{name}".lstrip("/")

    def _reach(self, call: str) -> None:
        if self.before is not None:
            asked, self.before = self.before, None
            try:
                asked(call)
            finally:
                self.before = asked

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other thread change anything meanwhile."""
        with self._lock:
            yield

    def noted(self) -> tuple[object, ...]:
        """Return what was noted so far, for another process to go on with."""
        return self.events, self._inodes, self._where, self._count

    def take_over(self, noted: Any) -> None:
        """Go on with what another process noted."""
        self.events, self._inodes, self._where, self._count = noted

    # ---- calls -------------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
        with self._lock:
            if O_TMPFILE and flags & O_TMPFILE == O_TMPFILE:
                if not self._unnamed:
                    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
                self._reach("open")
                fd = super().open(path, flags, mode, dir_fd=dir_fd)
                assert dir_fd is not None
                inode = self._new(os.fstat(fd).st_ino, self._below(self._of(dir_fd), "#"))
                self.events.append(Created(inode, False))
                return fd
            makes = bool(flags & os.O_CREAT) and not _exists(path, dir_fd)
            if makes:
                self._reach("open")
            fd = super().open(path, flags, mode, dir_fd=dir_fd)
            if makes:
                folder, name = self._place(path, dir_fd)
                inode = self._new(os.fstat(fd).st_ino, self._below(folder, name))
                self.events += (Created(inode, False), Named(folder, name, inode))
            return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        with self._lock:
            self._reach("write")
            if self.writes_until_full == 0:
                data = data[: len(data) // 2]
                self.writes_until_full = -2
            elif self.writes_until_full == -2:
                self.writes_until_full = -1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            elif self.writes_until_full > 0:
                self.writes_until_full -= 1
            appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
            offset = os.fstat(fd).st_size if appends else os.lseek(fd, 0, os.SEEK_CUR)
            written = super().write(fd, data)
            self.events.append(Wrote(self._of(fd), offset, bytes(data[:written])))
            return written

    def ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._reach("ftruncate")
            super().ftruncate(fd, size)
            self.events.append(Cut(self._of(fd), size))

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def _sync(self, call: str, fd: int) -> None:
        # What is written while it syncs is not covered, so others are let in meanwhile.
        before = len(self.events)
        self._reach(call)
        if call == "fdatasync" and self.failing_syncs > 0:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        getattr(super(), call)(fd)
        with self._lock:
            inode = self._of(fd)
            if not self._left_out(call, self._where[inode]):
                self.events.append(Synced(inode, before))

    def link(self, source: str, target: str, *, folder: int) -> None:
        with self._lock:
            self._reach("link")
            super().link(source, target, folder=folder)
            inode = self._inodes[os.stat(target, dir_fd=folder).st_ino]
            self.events.append(Named(self._of(folder), target, inode))

    def link_open(self, fd: int, target: str, *, folder: int) -> None:
        with self._lock:
            self._reach("link_open")
            super().link_open(fd, target, folder=folder)
            self.events.append(Named(self._of(folder), target, self._of(fd)))

    def rename(self, source: str, target: str, *, folder: int) -> None:
        with self._lock:
            self._reach("rename")
            super().rename(source, target, folder=folder)
            place, inode = self._of(folder), self._inodes[os.stat(target, dir_fd=folder).st_ino]
            self._where[inode] = self._below(place, target)
            self.events.append(Renamed(place, source, target, inode))

    def unlink(self, name: str, *, dir_fd: int | None = None) -> None:
        with self._lock:
            self._reach("unlink")
            super().unlink(name, dir_fd=dir_fd)
            self.events.append(Unnamed(*self._place(name, dir_fd)))

    def mkdir(self, name: str, *, dir_fd: int | None = None) -> None:
        with self._lock:
            self._reach("mkdir")
            super().mkdir(name, dir_fd=dir_fd)
            folder, last = self._place(name, dir_fd)
            number = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino
            inode = self._new(number, self._below(folder, last))
            self.events += (Created(inode, True), Named(folder, last, inode))


def _exists(path: str, dir_fd: int | None) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
