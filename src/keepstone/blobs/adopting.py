"""Adopting: taking over a journal that nobody holds, to seal it or to sweep it away.

Layer: blobs. Format: docs/format.md §5. Whoever takes a journal's lock checks that its name still means the locked
file: its owner may have been adopted, and the journal be gone, between opening and locking.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from keepstone.blobs.held import HeldLock, open_locked
from keepstone.blobs.journal import JournalFile
from keepstone.blobs.journal_header import read_journal_header
from keepstone.foundation.errors import CorruptionError, UnsupportedFormatError
from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly, translated

NEVER_READABLE: Final = frozenset((errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO))
"""Somebody else's private file, or none at all; other errors may pass."""


class Adopted(NamedTuple):
    """A journal whose lock this process holds; its rows are complete."""

    path: Path
    lock: HeldLock
    journal: JournalFile


def adopt_free(
    folder: Path, names: Iterable[str], store_id: bytes, finished: Mapping[str, JournalFile], calls: Calls
) -> Generator[Adopted]:
    """Yield those journals of `names` that nobody holds, locked by this process from then on; `release` each.

    `finished` are journals of this process, known already to their last row.

    Raises:
        StorageError: the medium failed; what was yielded before is still to be released.
    """
    for name in names:
        path = folder / name
        lock = _lock_file(path, calls)
        if lock is None:
            continue
        try:
            journal = None
            if _is_still(path, lock.descriptor, calls):
                journal = finished.get(name) or _read_locked(path, store_id, calls)
        except BaseException:
            lock.close()
            raise
        if journal is None:
            lock.close()
            continue
        yield Adopted(path, lock, journal)


def release(adopted: Adopted, calls: Calls, *, remove: bool) -> None:
    """Let go of an adopted journal; `remove` it only when its commit is in the log."""
    try:
        if remove:
            calls.unlink(str(adopted.path))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise translated(error, "remove", str(adopted.path)) from error
    finally:
        adopted.lock.close()


def sweep_unborn(folder: Path, calls: Calls) -> int:
    """Remove unborn journals that a crash left; return how many."""
    swept = 0
    try:
        names = [e.name for e in calls.scandir(str(folder)) if e.name.startswith(".tmp-")]
    except OSError:
        return 0
    for name in names:
        path = folder / name
        lock = _lock_file(path, calls)
        if lock is None:
            continue
        try:
            if _is_still(path, lock.descriptor, calls):
                calls.unlink(str(path))
                swept += 1
        except OSError as error:
            raise translated(error, "remove", str(path)) from error
        finally:
            lock.close()
    return swept


def _lock_file(path: Path, calls: Calls) -> HeldLock | None:
    try:
        return open_locked(calls, str(path), os.O_RDWR | platform.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in NEVER_READABLE:
            return None
        raise translated(error, "open", str(path)) from error


def _is_still(path: Path, descriptor: int, calls: Calls) -> bool:
    try:
        named, held = calls.lstat(str(path)), calls.fstat(descriptor)
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) and held.st_nlink > 0


def _read_locked(path: Path, store_id: bytes, calls: Calls) -> JournalFile | None:
    # Through a descriptor of its own, so that the lock ends with the one that took it.
    try:
        reader = calls.open(str(path), platform.OPEN_READ)
    except OSError as error:
        raise translated(error, "open", str(path)) from error
    try:
        header, end = read_journal_header(path.name, reader, calls)
    except (CorruptionError, UnsupportedFormatError):
        close_quietly(calls, reader)
        return None
    except OSError as error:
        close_quietly(calls, reader)
        raise translated(error, "read", str(path)) from error
    journal = JournalFile(path.name, reader, header, end, calls, keep_history=True)
    if header.store_id != store_id:
        return None
    journal.poll_to_end()
    return journal
