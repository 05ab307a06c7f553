"""Writes what a store holds to a path, whole or not at all, or to standard output.

Layer: cli. An existing path stays unless `force` is given.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keepstone.foundation.errors import ConflictError, InvalidInputError, KeepstoneError
from keepstone.objects.trees import is_store

if TYPE_CHECKING:
    from keepstone.cli.console import Console


def check_free(path: str, force: bool) -> None:
    """Raise unless `path` may be written.

    Raises:
        ConflictError: something is there, and `force` is not given.
    """
    if os.path.lexists(path) and not force:
        raise ConflictError(
            f"{path!r} exists already", hint="choose another path, or replace it with --force"
        )


def write_file(
    path: str, chunks: Iterable[bytes | memoryview], *, force: bool, executable: bool = False
) -> int:
    """Write `chunks` as the file `path` and return its size [bytes]; its folder is made."""
    check_free(path, force)
    if os.path.isdir(path) and not os.path.islink(path):
        raise InvalidInputError(f"{path!r} is a folder", hint="give the path of a file")
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=".keepstone-", suffix=".tmp", dir=folder)
    try:
        with _named(path), open(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            size = file.tell()
        os.chmod(draft, (0o777 if executable else 0o666) & ~_umask())
        if force:
            os.replace(draft, path)
        else:
            # A link fails where something has come up meanwhile; a rename would replace it.
            _link(draft, path, force)
            os.unlink(draft)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise
    return size


@contextmanager
def _named(path: str) -> Generator[None]:
    """Say of an error of writing to an open file which file it was: the system does not."""
    try:
        yield
    except OSError as error:
        if isinstance(error, KeepstoneError) or error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def _link(draft: str, path: str, force: bool) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        check_free(path, force)
        raise
    except OSError:
        # A medium without links.
        check_free(path, force)
        shutil.copyfile(draft, path)
        shutil.copymode(draft, path)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_folder(path: str, write: Callable[[str], object], *, force: bool) -> None:
    """Let `write` make the folder `path`; with `force` it takes the place of what is there once it is whole.

    Raises:
        ConflictError: something other than an empty folder is there, and `force` is not given; or it holds a store.
    """
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    if not os.path.lexists(path) or (is_folder and not os.listdir(path)):
        write(path)
        return
    check_free(path, force)
    place = os.path.abspath(path)
    store = next((folder for folder, _, _ in os.walk(place) if is_store(folder)), None) if is_folder else None
    if store is not None:
        raise ConflictError(
            f"{store!a} is a store, and is not replaced",
            hint="`keepstone checkout --update` leaves it where it is; or move it away",
        )
    draft = tempfile.mkdtemp(prefix=".keepstone-", suffix=".tmp", dir=os.path.dirname(place))
    new, old = os.path.join(draft, "new"), os.path.join(draft, "old")
    try:
        write(new)
        try:
            os.rename(place, old)
            os.rename(new, place)
        except BaseException:
            # Nothing else has what was there: it goes back before the draft is removed.
            if os.path.lexists(old) and not os.path.lexists(place):
                os.rename(old, place)
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def show_bytes(data: bytes, console: Console) -> None:
    """Write `data` to standard output as it is; a terminal gets no binary.

    Raises:
        InvalidInputError: standard output is a terminal, and `data` is no text.
    """
    if console.is_terminal:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                "this is binary, and standard output is a terminal", hint="give a PATH, or redirect with >"
            ) from error
        console.out(text.removesuffix("\n"))
    else:
        console.raw(data)
