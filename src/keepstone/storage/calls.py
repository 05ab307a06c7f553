"""The system calls that local storage and journals make, and what their errors mean.

Layer: storage. Everything that touches a local disk goes through one `Calls` object, so that tests can record
calls, fail the k-th one, or shorten a write, without patching `os`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from keepstone.foundation.errors import StorageError, StorageFullError, StoragePermissionError
from keepstone.storage import platform

P = ParamSpec("P")
T = TypeVar("T")

INTERRUPTED_TRIES_MAX: Final = 100
WRITE_BYTES_MAX: Final = 1 << 30
"""One `write` moves less than 2 GiB on Linux and macOS; larger requests fail on macOS."""

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_REFUSED: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))


class Calls:
    """The real calls. Subclass it to inject faults; every method is one system call."""

    advice: str = ""
    """What to say besides where one fails: what the folder is for, and how it is chosen."""

    def open(self, path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
        """Return a new descriptor, closed on exec."""
        return os.open(path, flags, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        """Close `fd`; whatever is raised, it is closed."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Return how many of the bytes were written, perhaps not all."""
        return os.write(fd, data)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        return platform.pread(fd, size, offset)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        """Return the new position in bytes."""
        return os.lseek(fd, offset, whence)

    def ftruncate(self, fd: int, size: int) -> None:
        """Cut or extend the file to `size` bytes."""
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        """Bring content, size and (for folders) names to the medium itself."""
        platform.full_fsync(fd)

    def fdatasync(self, fd: int) -> None:
        """Bring content and size to the medium itself."""
        platform.data_sync(fd)

    def try_lock(self, fd: int) -> bool:
        """Whether this open file now holds the exclusive lock; it is let go only by closing."""
        return platform.try_lock(fd)

    def link(self, source: str, target: str, *, folder: int) -> None:
        """Give the file named `source` in `folder` a second name there, if that is free."""
        os.link(source, target, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def link_open(self, fd: int, target: str, *, folder: int) -> None:
        """Give the unnamed file `fd` a name in `folder`, if that is free (Linux)."""
        # Only with a folder's descriptor does Python call linkat, which can follow the link in /proc.
        os.link(f"/proc/self/fd/{fd}", target, dst_dir_fd=folder, follow_symlinks=True)

    def rename(self, source: str, target: str, *, folder: int) -> None:
        """Rename within `folder`, replacing what is there."""
        os.replace(source, target, src_dir_fd=folder, dst_dir_fd=folder)

    def unlink(self, name: str, *, dir_fd: int | None = None) -> None:
        """Remove a file's name."""
        os.unlink(name, dir_fd=dir_fd)

    def mkdir(self, name: str, *, dir_fd: int | None = None) -> None:
        """Make a folder."""
        os.mkdir(name, dir_fd=dir_fd)

    def fstat(self, fd: int) -> os.stat_result:
        """Return what is known of an open file."""
        return os.fstat(fd)

    def lstat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        """Return what is known of a name, not following a symbolic link."""
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def scandir(self, path: str) -> list[os.DirEntry[str]]:
        """Return what a folder holds."""
        with os.scandir(path) as entries:
            return [*entries]


def uninterrupted(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `call(...)`, repeated while a signal interrupts it.

    Python repeats most calls by itself, but not those on names, which network file systems may interrupt.
    """
    for _ in range(INTERRUPTED_TRIES_MAX):
        try:
            return call(*args, **kwargs)
        except InterruptedError:
            continue
    return call(*args, **kwargs)


def close_quietly(calls: Calls, fd: int) -> None:
    """Close a descriptor that has nothing left to lose: only read from, or already fsynced, or given up."""
    try:
        calls.close(fd)
    except OSError:
        pass


def write_all(calls: Calls, fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however many calls it takes.

    Raises:
        OSError: some of it may have been written.
    """
    rest = memoryview(data)
    while rest:
        written = uninterrupted(calls.write, fd, rest[:WRITE_BYTES_MAX])
        if written <= 0:
            raise OSError(errno.EIO, "the medium takes no bytes")
        rest = rest[written:]


def read_all(calls: Calls, fd: int, start: int, size: int) -> bytes:
    """Return `size` bytes from `start`; fewer only where the file ends."""
    parts: list[bytes] = []
    while size > 0:
        part = uninterrupted(calls.pread, fd, min(size, WRITE_BYTES_MAX), start)
        if not part:
            break
        parts.append(part)
        start += len(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def preparing() -> Generator[None]:
    """Around a step that comes before what a caller asked for: where the step landed, that did not, so repeat it."""
    try:
        yield
    except StorageError as error:
        error.landed = False
        raise


@contextmanager
def standing() -> Generator[None]:
    """Around a step that comes after what a caller asked for: that stands, whatever becomes of the step."""
    try:
        yield
    except StorageError as error:
        error.landed = True
        raise


def translated(
    error: OSError, action: str, path: str, *, needed: int = 0, landed: bool = False, advice: str = ""
) -> StorageError:
    """Return the error that tells a caller what `error` means; `needed` is in bytes, `advice` goes into the hint."""
    found = _meaning(error, action, path, needed, landed)
    if advice:
        found.hint += f"; {advice}"
    return found


def _meaning(error: OSError, action: str, path: str, needed: int, landed: bool) -> StorageError:
    reason = error.strerror or str(error) or type(error).__name__
    message = f"cannot {action} {path}: {reason}"
    if landed:
        message = f"{path} was made, but may not survive a power loss: {reason}"
    if error.errno in _FULL:
        return StorageFullError(
            f"{message} ({needed:,} bytes are needed)" if needed else message,
            path=path,
            needed=needed,
            landed=landed,
            hint="free some space there, or raise the quota, and run the same again",
        )
    if error.errno in _REFUSED:
        return StoragePermissionError(
            message,
            path=path,
            landed=landed,
            hint="check who owns it, and whether the disk is mounted read-only",
        )
    if error.errno == errno.EFBIG:
        return StorageError(
            message,
            path=path,
            landed=landed,
            hint="raise the limit of a file's size (ulimit -f), or use another file system",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageError(
            message, path=path, landed=landed, hint="raise the limit of open files (ulimit -n)"
        )
    return StorageError(
        message, path=path, landed=landed, hint="check the disk and its connection before writing more"
    )
