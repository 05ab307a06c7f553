"""A store's objects as files in a folder.

Layer: storage. Keys are paths below the root. An object appears under its name whole, fsynced and only if the
name was free; a failed fsync gives its file up for good. Temporary files, named `.tmp-…`, are no objects.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

from keepstone.foundation.errors import (
    InvalidInputError,
    KeepstoneError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StoragePermissionError,
)
from keepstone.foundation.format import PACK_PREFIX
from keepstone.storage import platform
from keepstone.storage.base import ObjectInfo, Parts, check_key
from keepstone.storage.calls import Calls, close_quietly, read_all, translated, uninterrupted, write_all
from keepstone.storage.descriptors import Descriptors, OpenFile
from keepstone.storage.draft import TEMPORARY_PREFIX, BestDrafts, Draft, Drafts, NamedDrafts
from keepstone.storage.folders import Folders
from keepstone.storage.keys import check_prefix, check_range

OPEN_PACKS_MAX: Final = 64
"""Descriptors kept for reading packs again; opening takes several times as long as a cached read."""
LITTER_SECONDS_MIN: Final = 24 * 3_600

# A folder is no object, and what an NFS server has removed reads as a stale handle.
_ABSENT: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ESTALE))
_SIZE_ASKED_MIN: Final = 1 << 20
"""A read of more bytes asks for the file's size first, since a read allocates what it is asked for."""


class LocalStorage:
    """Objects in the folder `root`, made at the first write. Safe for many threads, processes and forks.

    `writable` is found out where it is None. `calls` and `drafts` are injected by tests.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        writable: bool | None = None,
        calls: Calls | None = None,
        drafts: Drafts | None = None,
    ) -> None:
        self.calls = calls or Calls()
        self.drafts = drafts or BestDrafts(self.calls)
        self._location = os.path.abspath(root)
        # The root itself may be a link; nothing below it is followed.
        self._root = os.path.realpath(root)
        self._asked_writable = writable
        self._writable = (
            platform.can_write(self._root) if writable is None else writable and not platform.IS_WINDOWS
        )
        self.folders = Folders(self._root, self.calls)
        self._named = NamedDrafts(self.calls)
        self._packs = Descriptors(OPEN_PACKS_MAX)

    def __repr__(self) -> str:
        return f"LocalStorage({self._location!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopened, (self._location, self._asked_writable))

    @property
    def location(self) -> str:
        """The absolute path of the folder."""
        return self._location

    @property
    def writable(self) -> bool:
        """Whether writing may succeed at all."""
        return self._writable

    @property
    def reads_at_once(self) -> int:
        """1: a read does not wait."""
        return 1

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        check_key(key)
        try:
            fd = self._open(key)
            try:
                return read_all(self.calls, fd, 0, self.calls.fstat(fd).st_size)
            finally:
                close_quietly(self.calls, fd)
        except OSError as error:
            raise self._read_error(error, key) from error

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`."""
        check_range(key, start, end)
        file = None
        try:
            file = self._packs.get(key) or self._open_to_read(key)
            size = end - start
            if size > _SIZE_ASKED_MIN:
                size = min(size, max(0, self.calls.fstat(file.fd).st_size - start))
            data = self.calls.pread(file.fd, size, start)
            if len(data) == size:
                return data
            return data + read_all(self.calls, file.fd, start + len(data), size - len(data))
        except OSError as error:
            # Who keeps the error keeps this frame; it must not keep the descriptor, too.
            file = None
            self._packs.drop(key)
            raise self._read_error(error, key) from error
        except OverflowError:
            # Beyond what any file can hold.
            return b""

    def mapped(self, key: str, start: int, end: int) -> memoryview:
        """Return bytes [start, end) of an object as read-only memory, the file's own; shorter as `read_range`."""
        import mmap

        check_range(key, start, end)
        begin = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            file = self._packs.get(key) or self._open_to_read(key)
            end = min(end, self.calls.fstat(file.fd).st_size)
            if end <= start:
                return memoryview(b"")
            whole = mmap.mmap(file.fd, end - begin, access=mmap.ACCESS_READ, offset=begin)
        except OSError as error:
            raise self._read_error(error, key) from error
        return memoryview(whole)[start - begin :]

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        try:
            found = uninterrupted(self.calls.lstat, self._path(check_key(key)))
        except OSError as error:
            raise self._read_error(error, key) from error
        if stat.S_ISLNK(found.st_mode):
            raise self._read_error(OSError(errno.ELOOP, ""), key)
        if not stat.S_ISREG(found.st_mode):
            raise self._read_error(OSError(errno.EISDIR, ""), key)
        return found.st_size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key."""
        return self._walk(check_prefix(prefix))

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        found: list[tuple[str, int]] = []
        try:
            for entry in uninterrupted(self.calls.scandir, self._path(prefix)):
                if entry.name.startswith(TEMPORARY_PREFIX) or not _is_segment(entry.name):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        # Keys sort by their whole text: "a-b" before "a/b", so folders carry their slash.
                        found.append((entry.name + "/", -1))
                    elif entry.is_file(follow_symlinks=False):
                        found.append((entry.name, entry.stat(follow_symlinks=False).st_size))
                except FileNotFoundError:
                    continue
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise translated(error, "list", self._path(prefix)) from error
        for name, size in sorted(found):
            if size < 0:
                yield from self._walk(prefix + name)
            else:
                yield ObjectInfo(prefix + name, size)

    # ---- writing ---------------------------------------------------------------------------------

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object, whole or not at all, only if the key is free; durable on return.

        Raises:
            ObjectExistsError: the key is taken; nothing was changed, and what is there is durable.
            StorageFullError: no space; nothing has happened, unless `landed`.
            UnsafeStorageError: the file system cannot create files only if they are absent.
            StorageError: with `landed=True` the object exists, but its name may not survive a power loss.
                Otherwise it does not, as far as the medium still answers (read the key back to be sure).
        """
        self._write_new(key, len(data), (data,))

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object from its parts, as `write_new`; what `parts` raises leaves nothing behind."""
        with closing(parts()) as chunks:
            self._write_new(key, size, chunks)

    def _write_new(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        self._require_writable("write", check_key(key))
        parent, _, name = key.rpartition("/")
        landed = False
        try:
            folder = self.folders.open(parent, create=True)
            try:
                landed = self._create(folder, name, chunks)
                # Also where it existed: what is built on it must not survive a power loss without it.
                self.folders.sync(folder)
            finally:
                close_quietly(self.calls, folder)
        except KeepstoneError:
            raise
        except OSError as error:
            raise translated(error, "write", self._path(key), needed=size, landed=landed) from error
        if not landed:
            raise ObjectExistsError(f"{self._path(key)} exists already", key=key)

    def _create(self, folder: int, name: str, chunks: Iterable[bytes]) -> bool:
        try:
            # Spares the loser of a race for a log slot its fsync; only `publish` decides.
            uninterrupted(self.calls.lstat, name, dir_fd=folder)
            return False
        except FileNotFoundError:
            pass
        draft = self.drafts.begin(folder)
        try:
            for chunk in chunks:
                write_all(self.calls, draft.fd, chunk)
            # After a failed fsync the kernel takes the pages for clean: give the file up, never retry.
            uninterrupted(self.calls.fsync, draft.fd)
            return _publish(draft, name)
        finally:
            draft.close()

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object that may be lost, and after a power loss may hold anything."""
        self._require_writable("write", check_key(key))
        parent, _, name = key.rpartition("/")
        try:
            folder = self.folders.open(parent, create=True)
            try:
                draft = self._named.begin(folder)
                try:
                    write_all(self.calls, draft.fd, data)
                    draft.replace(name)
                finally:
                    draft.close()
            finally:
                close_quietly(self.calls, folder)
        except KeepstoneError:
            raise
        except OSError as error:
            raise translated(error, "write", self._path(key), needed=len(data)) from error
        self._packs.drop(key)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none. `settle` makes it durable."""
        self._require_writable("delete", check_key(key))
        parent, _, name = key.rpartition("/")
        try:
            folder = self.folders.open(parent, create=False)
            try:
                uninterrupted(self.calls.unlink, name, dir_fd=folder)
            finally:
                close_quietly(self.calls, folder)
        except KeepstoneError:
            raise
        except OSError as error:
            # macOS refuses to unlink a folder with EPERM, Linux with EISDIR.
            if error.errno not in _ABSENT and not (
                error.errno == errno.EPERM and os.path.isdir(self._path(key))
            ):
                raise translated(error, "delete", self._path(key)) from error
        finally:
            self._packs.drop(key)

    def settle(self, prefix: str) -> None:
        """Make the names durable that are visible in the folder `prefix` (not in those below it)."""
        check_prefix(prefix)
        if not self._writable:
            return
        try:
            folder = self.folders.open(prefix[:-1], create=False)
            try:
                self.folders.sync(folder)
            finally:
                close_quietly(self.calls, folder)
        except KeepstoneError:
            raise
        except OSError as error:
            if error.errno not in _ABSENT:
                raise translated(error, "sync", self._path(prefix)) from error

    def remove_litter(self, prefix: str, *, older_than_seconds: float = LITTER_SECONDS_MIN) -> int:
        """Remove temporary files of crashed writers in the folder `prefix`; return how many.

        A writer that is still at it fails with a `StorageError`, and nothing has happened.
        """
        path = self._path(check_prefix(prefix))
        self._require_writable("delete", prefix)
        removed = 0
        try:
            for entry in uninterrupted(self.calls.scandir, path):
                if not entry.name.startswith(TEMPORARY_PREFIX) or not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > older_than_seconds:
                        uninterrupted(self.calls.unlink, entry.path)
                        removed += 1
                except FileNotFoundError:
                    continue
        except OSError as error:
            if error.errno not in _ABSENT:
                raise translated(error, "clean", path) from error
        return removed

    def close(self) -> None:
        """Close the descriptors that are kept for reading; the storage can still be used."""
        self._packs.clear()

    # ---- within ----------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _open(self, key: str) -> int:
        return uninterrupted(self.calls.open, self._path(key), platform.OPEN_READ)

    def _open_to_read(self, key: str) -> OpenFile:
        check_key(key)
        generation = self._packs.generation
        file = OpenFile(self.calls, self._open(key))
        if key.startswith(PACK_PREFIX):
            self._packs.keep(key, file, generation)
        return file

    def _require_writable(self, action: str, key: str) -> None:
        if self._writable:
            return
        if platform.IS_WINDOWS:
            raise StoragePermissionError(
                f"cannot {action} {self._path(key)}: local stores are read-only on Windows in this release",
                path=self._path(key),
                hint="use WSL or a bucket for writing",
            )
        raise StoragePermissionError(
            f"cannot {action} {self._path(key)}: the store is open for reading only",
            path=self._path(key),
            hint="check who owns the folder and whether its disk is mounted read-only",
        )

    def _read_error(self, error: OSError, key: str) -> ObjectNotFoundError | StorageError:
        if error.errno in _ABSENT:
            return ObjectNotFoundError(f"{self._location} has no object {key}", key=key)
        if error.errno == errno.ELOOP:
            return StorageError(
                f"{self._path(key)} is a symbolic link, not an object",
                path=self._path(key),
                hint="put a copy of the file in its place",
            )
        return translated(error, "read", self._path(key))


def _reopened(root: str, writable: bool | None) -> LocalStorage:
    return LocalStorage(root, writable=writable)


def _publish(draft: Draft, name: str) -> bool:
    try:
        draft.publish(name)
    except FileExistsError:
        return False
    return True


def _is_segment(name: str) -> bool:
    try:
        check_key(name)
    except InvalidInputError:
        return False
    return "/" not in name
