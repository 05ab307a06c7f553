"""Files that become versions: one at a time when it is closed, or all of a transaction in one commit.

Layer: interop. What is written waits in a temporary folder, and nothing of it is in the store before it is whole: a
file that is closed while an exception passes, or that nobody closes, leaves no trace.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

from fsspec.compression import compr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from fsspec.core import get_compression  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from fsspec.transaction import Transaction  # pyright: ignore[reportMissingTypeStubs]

from keepstone.api import Store
from keepstone.foundation.errors import (
    ConflictError,
    InvalidInputError,
    PathExistsError,
    RefConflictError,
    StorageError,
)
from keepstone.foundation.names import shown
from keepstone.interop.paths import Target
from keepstone.repository.sketch import ANY


class NewFile(io.BufferedWriter):
    """A file that is being written; with `autocommit` it becomes the next version of its name when it is closed."""

    def __init__(
        self, target: Target, keep: Callable[[NewFile], object], *, exclusive: bool, autocommit: bool
    ) -> None:
        self.target: Final = target
        self.exclusive: Final = exclusive
        self.autocommit: Final = autocommit
        self.is_discarded = True
        """Whether nothing of it is to be kept."""
        self._keep = keep
        self._process: Final = os.getpid()
        self._handled = sys.exc_info()[1]
        """The exception in whose handler it was opened: not one that says that writing it went wrong."""
        self._scratch: Final = Scratch(target.name)
        self.place: Final = os.path.join(self._scratch.path, os.path.basename(target.inner or target.name))
        """Where its bytes are until they are in the store."""
        try:
            super().__init__(io.FileIO(self.place, "x"))
        except OSError as error:
            self._scratch.remove()
            raise _scratch_error(error, target.name) from error
        self.is_discarded = False

    @property
    def expected(self) -> str | None:
        """What the newest version must be: none, where the file is to be made anew."""
        return None if self.exclusive else ANY

    def close(self) -> None:
        """Close it, and keep it; discard it instead if an exception came up since it was opened.

        Raises:
            StorageError: the medium failed, or the temporary folder is full; nothing was kept.
            InvalidInputError: another process opened it.
            RefConflictError, KindError: as `Store.save`.
        """
        if self.closed:
            return
        self.require_own()
        failure = sys.exc_info()[1]
        went_wrong = failure is not None and failure is not self._handled
        self._handled = None
        self._finish()
        if went_wrong or self.is_discarded:
            self.discard()
        elif self.autocommit:
            self.commit()

    @property
    def _is_own(self) -> bool:
        return os.getpid() == self._process

    def require_own(self) -> None:
        """Raise in a forked child, and let go there: what waits in the buffer is its parent's to write.

        Raises:
            InvalidInputError: another process opened it.
        """
        if not self._is_own:
            self.discard()
            raise InvalidInputError(
                f"a file for {self.target.name!r} was opened by the process that forked this one",
                hint="open it in the process that writes it",
            )

    def _finish(self) -> None:
        try:
            super().close()
        except OSError as error:
            self.discard()
            raise _scratch_error(error, self.target.name) from error

    def commit(self) -> None:
        """Make it the next version of its name, closed if it was not; once.

        Raises:
            InvalidInputError: it was kept or discarded, or another process opened it.
            StorageError, RefConflictError, KindError: as `close`.
        """
        self.require_own()
        if not self._scratch.remove.alive:
            raise InvalidInputError(
                f"a file for {self.target.name!r} was kept or discarded already", hint="write it again"
            )
        self._finish()
        try:
            self._keep(self)
        finally:
            self._scratch.remove()

    def discard(self) -> None:
        """Forget what was written."""
        self.is_discarded = True
        if not self._is_own:
            # Without its buffer: the file below is the parent's, too.
            self.raw.close()
        elif not self.closed:
            super().close()
        self._scratch.remove()

    def _dealloc_warn(self, source: object) -> None:
        # A text file around this one that nobody closed says so, and closes it on its way out.
        self.is_discarded = True
        warnings.warn(
            f"a file for {self.target.name!r} was not closed, and not kept",
            ResourceWarning,
            stacklevel=2,
            source=source,
        )

    def __del__(self) -> None:
        if not self.is_discarded and not self.closed:
            if self._is_own:
                self._dealloc_warn(self)
            self.discard()


class _Packing(io.RawIOBase):
    """What compresses into a file, and closes it with itself: libraries that compress leave it open."""

    def __init__(self, packer: Any, file: NewFile) -> None:
        super().__init__()
        self._packer = packer
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._packer.write(data)
        return len(data)

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._packer.close()
        finally:
            super().close()
            self._file.close()

    def _dealloc_warn(self, source: object) -> None:
        # The buffer around this one passes on that nobody closed it.
        self._file._dealloc_warn(source)  # pyright: ignore[reportPrivateUsage] - the name that io calls it by


def packer_for(path: str, compression: str) -> Callable[..., Any] | None:
    """Return what compresses a file of that path, none where "infer" says so.

    Raises:
        InvalidInputError: fsspec knows no such compression, or what it takes is not installed.
    """
    try:
        name = get_compression(path, compression)
    except ValueError as error:
        known = ", ".join(sorted(name for name in compr if name))
        raise InvalidInputError(
            f"unknown compression {compression!r}", hint=f"use 'infer' or one of {known}"
        ) from error
    return cast("Callable[..., Any]", compr[name]) if name else None


def packed(file: NewFile, packer: Callable[..., Any] | None) -> io.BufferedIOBase:
    """Return the file, or what compresses into it."""
    return io.BufferedWriter(_Packing(packer(file, mode="w"), file)) if packer else file


def save_file(store: Store, file: NewFile) -> None:
    """Make a file that was written the next version of its name.

    Raises:
        PathExistsError: it was to be made anew, and somebody was first.
    """
    try:
        store.save(file.target.name, Path(file.place), expected=file.expected, serializer="file")
    except RefConflictError as error:
        raise exists(file.target) from error


def exists(target: Target) -> PathExistsError:
    """Return the error for a file that was to be made anew."""
    return PathExistsError(f"{target.name!r} exists already", hint="open it with mode 'wb'")


class SavingTransaction(Transaction):
    """`with fs.transaction:` keeps all files that are written in it, each touched name as one new version, or none."""

    def start(self) -> None:
        """Begin.

        Raises:
            InvalidInputError: one has begun.
        """
        filesystem: Any = self.fs
        if filesystem._intrans:
            raise InvalidInputError(
                "this filesystem is in a transaction already", hint="end it before beginning another one"
            )
        self.files: deque[NewFile] = deque()
        filesystem._intrans = True

    def complete(self, commit: bool = True) -> None:
        """Keep everything, or nothing.

        Raises:
            InvalidInputError: a file is still open, or a name is written as a file and as a folder.
            RefConflictError, KindError, StorageError: as `Store.transaction`; nothing was kept.
        """
        filesystem: Any = self.fs
        files = list(self.files)
        try:
            if commit:
                save_files(filesystem.writable_store, [file for file in files if not file.is_discarded])
        finally:
            for file in files:
                file.discard()
            self.files.clear()
            filesystem._intrans = False
            filesystem._transaction = None


def save_files(open_store: Callable[[], Store], files: Iterable[NewFile]) -> None:
    """Make each name that files were written for one version, all in one commit."""
    names: dict[str, dict[str, NewFile]] = {}
    for file in files:
        file.require_own()
        if not file.closed:
            raise InvalidInputError(
                f"a file for {file.target.name!r} is still open",
                hint="close what is written before the transaction ends",
            )
        # Of two that were written to one path the one that was opened last counts.
        names.setdefault(file.target.name, {})[file.target.inner] = file
    for name, inner in names.items():
        if "" in inner and len(inner) > 1:
            raise InvalidInputError(
                f"{name!r} was written as a file, and as a folder", hint="write it as one of them"
            )
    if not names:
        return
    scratch = Scratch(*names)
    try:
        with open_store().transaction() as change:
            for number, (name, inner) in enumerate(names.items()):
                expected = None if all(file.exclusive for file in inner.values()) else ANY
                if "" in inner:
                    change.save(name, Path(inner[""].place), expected=expected, serializer="file")
                else:
                    root = Path(scratch.path, str(number))
                    _gather(root, inner)
                    change.save(name, root, expected=expected)
    finally:
        scratch.remove()


def _gather(root: Path, files: dict[str, NewFile]) -> None:
    """Move what was written for one name into the folder that it is to be."""
    for inner, file in files.items():
        place = root / inner
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(place):
                raise FileExistsError
            os.rename(file.place, place)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConflictError(
                f"{shown(inner)} and another file of {file.target.name!r} cannot both be: one would be a folder of "
                "the other, or they differ only in case",
                hint="choose other paths",
            ) from error
        except OSError as error:
            raise _scratch_error(error, file.target.name) from error


class Scratch:
    """A temporary folder, which is removed when nobody needs it, at the latest when this process ends."""

    def __init__(self, *names: str) -> None:
        try:
            self.path: Final = tempfile.mkdtemp(prefix="keepstone-")
        except OSError as error:
            raise _scratch_error(error, ", ".join(names)) from error
        self.remove: Final = weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: str, owner: int) -> None:
    # A forked child has the same list of what to do at its end.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def _scratch_error(error: OSError, name: str) -> StorageError:
    return StorageError(
        f"cannot write {name!r} to a temporary file: {error.strerror or error}",
        path=str(error.filename or ""),
        hint="nothing was kept; TMPDIR says where temporary files are",
    )
