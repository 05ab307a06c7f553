"""Descriptors by which this process holds locks; a forked child closes its copies of them first of all.

Layer: blobs. A lock lives as long as any copy of its descriptor. A child that kept one would hold on to journals that
its parent has finished or died with, and to the machine's sealing lock, for as long as it lives.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final

from keepstone.foundation.errors import StorageError
from keepstone.storage.calls import Calls


class HeldLock:
    """An open file whose lock this process holds; let go by `close`, or with the last reference."""

    __slots__ = ("__weakref__", "_calls", "descriptor")

    def __init__(self, calls: Calls) -> None:
        self.descriptor = -1
        """-1 when closed."""
        self._calls = calls

    def close(self) -> None:
        """Close the file, and let go of its lock with it; closing twice is allowed."""
        with _guard:
            if self.descriptor >= 0:
                close = os.close if type(self._calls) is Calls else self._calls.close
                descriptor, self.descriptor = self.descriptor, -1
                # Straight into C: an interrupt has no chance between the line above and this one.
                try:
                    close(descriptor)
                except OSError:
                    pass

    def __del__(self) -> None:
        # An interrupt may come at any point; a lock that nobody refers to must not last.
        if getattr(self, "descriptor", -1) >= 0:
            self.close()


_held: Final[weakref.WeakSet[HeldLock]] = weakref.WeakSet()
_guard = threading.RLock()
"""Held while a descriptor is opened and noted, and by a fork: no child gets one that is not noted."""


def open_locked(calls: Calls, path: str, flags: int, *, dir_fd: int | None = None) -> HeldLock | None:
    """Open a file and take its lock; return None where somebody else holds the lock.

    Raises:
        OSError: it cannot be opened, or the file system has no locks.
    """
    with _guard:
        lock = HeldLock(calls)
        _held.add(lock)
        lock.descriptor = calls.open(path, flags, dir_fd=dir_fd)
        try:
            if calls.try_lock(lock.descriptor):
                return lock
        except StorageError as error:
            lock.close()
            raise StorageError(f"cannot lock {path}: {error}", path=path, hint=error.hint) from error
        lock.close()
        return None


def held_count() -> int:
    """Return how many locks this process holds."""
    return sum(lock.descriptor >= 0 for lock in list(_held))


def _before_fork() -> None:
    _guard.acquire()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    global _guard
    _guard = threading.RLock()
    for lock in list(_held):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
