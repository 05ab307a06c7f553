"""A few open files, kept for the next read of the same pack.

Layer: storage. A descriptor is closed when the last reader lets go of it, so dropping one never disturbs a
read in another thread, and no reader ever sees a reused descriptor number.
"""

from __future__ import annotations

import threading

from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly


class OpenFile:
    """An open file that closes itself with its last reference."""

    __slots__ = ("_calls", "fd", "was_used")

    def __init__(self, calls: Calls, fd: int) -> None:
        self._calls = calls
        self.was_used = False
        self.fd = fd

    def __del__(self) -> None:
        # An interrupt may have come before the descriptor was noted.
        if getattr(self, "fd", -1) >= 0:
            close_quietly(self._calls, self.fd)


class Descriptors:
    """At most `count_max` open files by key; those not used lately go first (second chance). Thread-safe.

    Forked children go on with them: `pread` does not share a position. Hits take no lock.
    """

    def __init__(self, count_max: int) -> None:
        self.generation = 0
        """Changes with every drop; read it before opening what is to be kept."""
        self._count_max = count_max
        self._files: dict[str, OpenFile] = {}
        self._lock = threading.Lock()
        platform.renew_lock_after_fork(self)

    def __len__(self) -> int:
        return len(self._files)

    def get(self, key: str) -> OpenFile | None:
        """Return the open file of `key`, if it is kept."""
        file = self._files.get(key)
        if file is not None:
            file.was_used = True
        return file

    def keep(self, key: str, file: OpenFile, generation: int) -> None:
        """Keep `file`, unless something was dropped since `generation`: it might be this key."""
        # What is let go is closed after the lock is.
        dropped: list[OpenFile] = []
        with self._lock:
            if generation != self.generation:
                return
            while len(self._files) >= self._count_max:
                oldest = next(iter(self._files))
                candidate = self._files.pop(oldest)
                if candidate.was_used:
                    candidate.was_used = False
                    self._files[oldest] = candidate
                else:
                    dropped.append(candidate)
            self._files[key] = file

    def drop(self, key: str) -> None:
        """Let go of `key`."""
        with self._lock:
            self.generation += 1
            file = self._files.pop(key, None)
        del file

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self.generation += 1
            files, self._files = self._files, {}
        files.clear()
