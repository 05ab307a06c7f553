"""Files of the user's own beside a store: locks and bundles, written whole or not at all, read by ranges.

Layer: storage. A file gets its name only when its bytes are on the disk, so a crash leaves the old file or the new
one. What a killed process leaves behind is named `.tmp-…` and can be removed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from keepstone.foundation.errors import ConflictError, InvalidInputError, KeepstoneError, NotFoundError
from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly, read_all, translated, uninterrupted, write_all
from keepstone.storage.draft import Draft, NamedDrafts, is_named

_SYNC_UNSUPPORTED: Final = frozenset((errno.EINVAL, errno.ENOTSUP))


Write = Callable[[bytes], None]


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text.

    Raises:
        InvalidInputError: it is none, or no file system can have it.
    """
    if not isinstance(path, str | bytes | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"path {path!r} is of type {type(path).__name__}", hint="name a file")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise InvalidInputError(f"not a path: {text!r}", hint="name a file")
    return text


def write_file(path: str, fill: Callable[[Write], None], *, replace: bool, calls: Calls) -> None:
    """Make the file `path` of what `fill` writes, piece by piece; durable on return, whole or not there at all.

    Raises:
        ConflictError: something is there already, and `replace` is False.
        InvalidInputError: a folder is there, or the one to write to is not.
        StorageError: the medium failed; with `landed=True` the file is there and may not survive a loss of power.
    """
    # A link is written through, as an editor would: the rename below would replace the link itself.
    place = os.path.realpath(path)
    if not replace and os.path.lexists(place):
        raise _exists(path)
    if os.path.isdir(place):
        raise InvalidInputError(f"{path!r} is a folder", hint="name a file")
    folder = _open_folder(os.path.dirname(place), calls)
    try:
        _write(folder, path, os.path.basename(place), fill, replace, calls)
    finally:
        close_quietly(calls, folder)


def _write(
    folder: int, path: str, name: str, fill: Callable[[Write], None], replace: bool, calls: Calls
) -> None:
    try:
        draft = NamedDrafts(calls).begin(folder)
    except OSError as error:
        raise translated(error, "create", path) from error
    try:
        fill(lambda data: _put(calls, draft.fd, data, path))
        try:
            uninterrupted(calls.fsync, draft.fd)
            if replace:
                _replace(draft, name, folder, calls)
            else:
                draft.publish(name)
        except FileExistsError as error:
            raise _exists(path) from error
        except OSError as error:
            if isinstance(error, KeepstoneError):
                raise
            raise translated(error, "write", path) from error
    finally:
        draft.close()
    try:
        uninterrupted(calls.fsync, folder)
    except OSError as error:
        if error.errno not in _SYNC_UNSUPPORTED:
            raise translated(error, "sync the folder of", path, landed=True) from error


def _replace(draft: Draft, name: str, folder: int, calls: Calls) -> None:
    try:
        draft.replace(name)
    except OSError:
        # The answer may have been lost, and not the call.
        if not is_named(calls, draft.fd, name, dir_fd=folder):
            raise


def _put(calls: Calls, fd: int, data: bytes, path: str) -> None:
    try:
        write_all(calls, fd, data)
    except OSError as error:
        raise translated(error, "write", path, needed=len(data)) from error


def _open_folder(folder: str, calls: Calls) -> int:
    try:
        return uninterrupted(calls.open, folder, platform.OPEN_FOLDER)
    except FileNotFoundError as error:
        raise InvalidInputError(f"there is no folder {folder!r} to write to", hint="make it first") from error
    except OSError as error:
        raise translated(error, "open the folder", folder) from error


def _exists(path: str) -> ConflictError:
    return ConflictError(
        f"{path!r} exists already", hint="choose another path, or replace it with --force (`replace=True`)"
    )


class RangeFile:
    """One file, open for reading by ranges; `close` it. Its key in `read_range` is whatever the caller calls it."""

    def __init__(self, path: str, calls: Calls) -> None:
        """Open the file.

        Raises:
            NotFoundError: there is none.
            InvalidInputError: it is a folder, or something else that is no file.
            StorageError: the medium failed.
        """
        self.path = path
        self._calls = calls
        self._fd = -1
        try:
            # A link is followed: the file is the user's own. O_NONBLOCK: opening a pipe must not wait.
            place = os.path.realpath(path)
            fd = uninterrupted(calls.open, place, platform.OPEN_READ | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {path!r}", hint="check its path") from error
        except OSError as error:
            raise translated(error, "open", path) from error
        try:
            facts = uninterrupted(calls.fstat, fd)
        except OSError as error:
            close_quietly(calls, fd)
            raise translated(error, "look at", path) from error
        if not stat.S_ISREG(facts.st_mode):
            close_quietly(calls, fd)
            raise InvalidInputError(f"{path!r} is no file", hint="name a file")
        self._fd = fd
        self.size = facts.st_size
        """Bytes, when it was opened."""

    def __enter__(self) -> RangeFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            close_quietly(self._calls, fd)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end); shorter where the file ends before `end`."""
        start, end = max(0, start), min(end, self.size)
        try:
            return read_all(self._calls, self._fd, start, max(0, end - start))
        except OSError as error:
            raise translated(error, "read", self.path) from error


def read_whole(path: str, bytes_max: int, calls: Calls) -> bytes:
    """Return a file whole, but never more than one byte above `bytes_max`."""
    with RangeFile(path, calls) as file:
        return file.read_range(path, 0, bytes_max + 1)
