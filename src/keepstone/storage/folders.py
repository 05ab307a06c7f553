"""The folders of a local store: opened step by step, made when needed, durable before they are used.

Layer: storage. No step below the root follows a symbolic link, so no write leaves the store.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from keepstone.foundation.errors import UnsafeStorageError
from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly, uninterrupted

_NOT_A_FOLDER: Final = frozenset((errno.ENOTDIR, errno.ELOOP))
_SYNC_UNSUPPORTED: Final = frozenset((errno.EINVAL, errno.ENOTSUP))


class Folders:
    """Opens folders of one store; remembers which of them are known to survive a power loss."""

    def __init__(self, root: str, calls: Calls) -> None:
        self._root = root
        self._calls = calls
        self._settled: set[str] = set()

    def open(self, folder: str, *, create: bool) -> int:
        """Return a descriptor of `folder` (a key without file name; empty: the root); the caller closes it.

        With `create` it is made where it is missing, and on return it is durable, whoever made it.

        Raises:
            FileNotFoundError: it does not exist, and `create` is False.
            UnsafeStorageError: a symbolic link stands in the way.
        """
        fd = self._open_root(create)
        steps = folder.split("/") if folder else []
        for depth, name in enumerate(steps, 1):
            parent = fd
            try:
                fd = self._enter(parent, name, "/".join(steps[:depth]), create)
            finally:
                close_quietly(self._calls, parent)
        return fd

    def sync(self, fd: int) -> None:
        """Make the names in an open folder durable."""
        try:
            uninterrupted(self._calls.fsync, fd)
        except OSError as error:
            # Some network file systems have no fsync for folders; their names are durable at once, or never.
            if error.errno not in _SYNC_UNSUPPORTED:
                raise

    def _enter(self, parent: int, name: str, folder: str, create: bool) -> int:
        try:
            fd = self._open_step(parent, name, folder)
        except FileNotFoundError:
            if not create:
                raise
            self._settled.discard(folder)
            self._make(name, parent)
            fd = self._open_step(parent, name, folder)
        if create and folder not in self._settled:
            # Another process may have made the folder without having synced its name yet.
            try:
                self.sync(parent)
            except BaseException:
                close_quietly(self._calls, fd)
                raise
            self._settled.add(folder)
        return fd

    def _open_step(self, parent: int, name: str, folder: str) -> int:
        try:
            return uninterrupted(
                self._calls.open, name, platform.OPEN_FOLDER | platform.O_NOFOLLOW, dir_fd=parent
            )
        except OSError as error:
            if error.errno in _NOT_A_FOLDER and stat.S_ISLNK(
                uninterrupted(self._calls.lstat, name, dir_fd=parent).st_mode
            ):
                path = f"{self._root}/{folder}"
                raise UnsafeStorageError(
                    f"{path} is a symbolic link; nothing is written through it",
                    path=path,
                    hint="move the whole store to the other place, and link to the store's folder if need be",
                ) from error
            raise

    def _make(self, name: str, parent: int | None = None) -> None:
        try:
            uninterrupted(self._calls.mkdir, name, dir_fd=parent)
        except FileExistsError:
            pass

    def _open_root(self, create: bool) -> int:
        if create and "" not in self._settled:
            self._make_root(self._root)
            self._settled.add("")
        try:
            return uninterrupted(self._calls.open, self._root, platform.OPEN_FOLDER)
        except FileNotFoundError:
            if not create:
                raise
        self._make_root(self._root)
        return uninterrupted(self._calls.open, self._root, platform.OPEN_FOLDER)

    def _make_root(self, path: str) -> None:
        parent = os.path.dirname(path)
        try:
            self._make(path)
        except FileNotFoundError:
            self._make_root(parent)
            self._make(path)
        except PermissionError:
            # An existing root in a folder that we may not write to: EROFS and EACCES hide the EEXIST.
            if not os.path.isdir(path):
                raise
        self._sync_path(parent)

    def _sync_path(self, path: str) -> None:
        try:
            fd = uninterrupted(self._calls.open, path, platform.OPEN_FOLDER)
        except PermissionError:
            # A folder above the store that may be passed but not read: its owner made it durable long ago.
            return
        try:
            self.sync(fd)
        finally:
            close_quietly(self._calls, fd)
