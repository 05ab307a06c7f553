"""Drafts: files that nobody else sees until they are whole and get their name, if it is free.

Layer: storage. The one way in which objects and journals are born locally. Two kinds do the same: unnamed
files (Linux), and files named `.tmp-…`, which every listing skips.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

from keepstone.foundation.errors import UnsafeStorageError
from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly, uninterrupted

TEMPORARY_PREFIX: Final = ".tmp-"

_LINK_UNSUPPORTED: Final = frozenset(
    (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
)
_UNNAMED_UNSUPPORTED: Final = frozenset(
    (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)
)


class Draft:
    """An open file (`fd`, for reading and writing) without its final name. `close` it, published or not."""

    def __init__(self, calls: Calls, folder: int, fd: int, temporary: str = "") -> None:
        self.fd = fd
        self._calls = calls
        self._folder = folder
        self._temporary = temporary

    def publish(self, name: str) -> None:
        """Give the file its name in the folder that it was begun in; it has happened when this returns.

        The name survives a power loss only after an fsync of the folder.

        Raises:
            FileExistsError: the name is taken by another file.
            UnsafeStorageError: the file system cannot create a name only if it is free.
        """
        try:
            self._link(name)
        except OSError as error:
            # A network file system may lose the answer, and an interrupted call is repeated: look.
            if not is_named(self._calls, self.fd, name, dir_fd=self._folder):
                if error.errno in _LINK_UNSUPPORTED:
                    raise _unsafe(name, error) from error
                raise
        self._remove_temporary()

    def replace(self, name: str) -> None:
        """Give the file its name even if that is taken; only for drafts with a temporary name."""
        uninterrupted(self._calls.rename, self._temporary, name, folder=self._folder)
        self._temporary = ""

    def detach(self) -> int:
        """Return the descriptor, which now belongs to the caller; `close` leaves it open."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close the file; unpublished, it is gone."""
        self._remove_temporary()
        if self.fd >= 0:
            close_quietly(self._calls, self.detach())

    def _link(self, name: str) -> None:
        if self._temporary:
            uninterrupted(self._calls.link, self._temporary, name, folder=self._folder)
        else:
            uninterrupted(self._calls.link_open, self.fd, name, folder=self._folder)

    def _remove_temporary(self) -> None:
        if self._temporary:
            try:
                uninterrupted(self._calls.unlink, self._temporary, dir_fd=self._folder)
            except OSError:
                # Litter for `LocalStorage.remove_litter`; it must not hide that the file got its name.
                return
            self._temporary = ""


class Drafts(Protocol):
    """A way to begin drafts."""

    def begin(self, folder: int, flags: int = 0) -> Draft:
        """Return a new, empty draft in the open folder; `flags` (O_APPEND) are added to those of the file."""
        ...


class NamedDrafts:
    """Drafts with a temporary name; work wherever hard links do."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def begin(self, folder: int, flags: int = 0) -> Draft:
        """Return a new, empty draft in the open folder."""
        name = TEMPORARY_PREFIX + os.urandom(16).hex()
        flags |= os.O_RDWR | os.O_CREAT | os.O_EXCL | platform.O_NOFOLLOW
        return Draft(self._calls, folder, uninterrupted(self._calls.open, name, flags, dir_fd=folder), name)


class UnnamedDrafts:
    """Drafts without any name: a crash leaves nothing behind. Linux with /proc, most local file systems."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def begin(self, folder: int, flags: int = 0) -> Draft:
        """Return a new, empty draft in the open folder."""
        flags |= os.O_RDWR | platform.O_TMPFILE
        return Draft(self._calls, folder, uninterrupted(self._calls.open, ".", flags, dir_fd=folder))


class BestDrafts:
    """Unnamed drafts where they work, which is tried out once, else named ones."""

    def __init__(self, calls: Calls) -> None:
        self._unnamed = UnnamedDrafts(calls)
        self._named = NamedDrafts(calls)
        self._calls = calls
        self._unnamed_work: bool | None = None

    def begin(self, folder: int, flags: int = 0) -> Draft:
        """Return a new, empty draft in the open folder."""
        if self._unnamed_work is None:
            self._unnamed_work = platform.has_unnamed_files() and self._can_name_unnamed(folder)
        if self._unnamed_work:
            try:
                return self._unnamed.begin(folder, flags)
            except OSError as error:
                # Another file system may be mounted inside of the store.
                if error.errno not in _UNNAMED_UNSUPPORTED:
                    raise
        return self._named.begin(folder, flags)

    def _can_name_unnamed(self, folder: int) -> bool:
        # Containers exist where unnamed files can be made, but not be named, each with an error of its own.
        name = TEMPORARY_PREFIX + os.urandom(16).hex()
        try:
            draft = self._unnamed.begin(folder)
        except OSError:
            return False
        try:
            uninterrupted(self._calls.link_open, draft.fd, name, folder=folder)
            return True
        except OSError:
            return False
        finally:
            # From here on a temporary draft like any other: this removes the name, given or not.
            Draft(self._calls, folder, draft.detach(), name).close()


def is_named(calls: Calls, fd: int, path: str, *, dir_fd: int | None = None) -> bool:
    """Whether `path` still names the open file `fd` (ask after taking a lock on it)."""
    try:
        named, opened = uninterrupted(calls.lstat, path, dir_fd=dir_fd), uninterrupted(calls.fstat, fd)
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _unsafe(name: str, error: OSError) -> UnsafeStorageError:
    return UnsafeStorageError(
        f"the file system cannot create {name} only if absent: it has no hard links ({error.strerror})",
        path=name,
        hint="keep the store on a disk with hard links (ext4, xfs, btrfs, APFS, NFS), not on FAT or exFAT",
    )
