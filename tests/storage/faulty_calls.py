"""System calls that count, fail and fall short on demand; everything else is real."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

from keepstone.storage.calls import Calls

NAMES = tuple(name for name in vars(Calls) if not name.startswith("_"))
_TRANSFERS = ("write", "pread")
_SYNCS = ("fsync", "fdatasync")


class FaultyCalls(Calls):
    """The real calls; the `fail_at`-th (from 1) raises `error`, and with `forever` all after it.

    With `after` the call is made and only its answer is lost, with `torn` half of what was to be written is; `close`
    closes in any case, as on Linux. With `short` nothing is raised, but half of the bytes are moved. `only` restricts
    counting and failing to some calls. `durable=False` saves the time of syncs that succeed.
    """

    def __init__(
        self,
        *,
        fail_at: int = 0,
        error: int = 0,
        forever: bool = False,
        after: bool = False,
        torn: bool = False,
        short: bool = False,
        only: tuple[str, ...] = NAMES,
        write_bytes_max: int = 2**30,
        durable: bool = True,
    ) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []
        self.open_fds: set[int] = set()
        self.failed: list[tuple[str, tuple[Any, ...]]] = []
        self._write_bytes_max = write_bytes_max
        self.arm(fail_at, error=error, forever=forever, after=after, torn=torn, short=short, only=only)
        for name in NAMES:
            real = getattr(Calls, name) if durable or name not in _SYNCS else _nothing
            setattr(self, name, self._wrapped(name, real))

    def arm(
        self,
        fail_at: int,
        *,
        error: int = 0,
        forever: bool = False,
        after: bool = False,
        torn: bool = False,
        short: bool = False,
        only: tuple[str, ...] = NAMES,
    ) -> None:
        """Count from here, and fail as `__init__` says."""
        self._count, self._fail_at, self._error, self._forever = 0, fail_at, error, forever
        self._after, self._torn, self._short, self._only = after, torn, short, only
        self.failed = []

    def heal(self) -> bool:
        """Work again; return whether anything had failed."""
        self._fail_at = 0
        return bool(self.failed)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.made.append((name, args))
            if name == "write":
                args = (args[0], args[1][: self._write_bytes_max])
            if not self._is_failing(name):
                return self._noted(name, args, real(self, *args, **kwargs))
            self.failed.append((name, args))
            if self._short and name in _TRANSFERS:
                return real(self, *_halved(name, args))
            if self._torn and name == "write":
                real(self, *_halved(name, args))
            elif name == "close" or (self._after and self._can_lose_answer(name)):
                self._noted(name, args, real(self, *args, **kwargs))
            if name == "try_lock":
                # What a lock's error means is decided where `flock` is called.
                with mock.patch("fcntl.flock", self._fail):
                    return real(self, *args, **kwargs)
            return self._fail()

        return call

    def _fail(self, *_: object) -> Any:
        # In no variable: it would keep its own frames, and the descriptors in them, until the collector comes.
        raise OSError(self._error, os.strerror(self._error))

    def _is_failing(self, name: str) -> bool:
        if not self._fail_at or name not in self._only:
            return False
        self._count += 1
        return self._count == self._fail_at or (self._forever and self._count > self._fail_at)

    def _can_lose_answer(self, name: str) -> bool:
        # An `open` without answer leaks in any program; POSIX: an interrupted `write` has moved no byte.
        return name != "open" and not (name == "write" and self._error == errno.EINTR)

    def _noted(self, name: str, args: tuple[Any, ...], result: Any) -> Any:
        if name == "open":
            self.open_fds.add(result)
        elif name == "close":
            self.open_fds.discard(args[0])
        return result


def _halved(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """At least one byte: a call that moves none is at the end of the file."""
    if name == "write":
        return args[0], args[1][: max(1, len(args[1]) // 2)]
    return args[0], max(1, args[1] // 2), args[2]


def _nothing(calls: Calls, fd: int) -> None:
    pass
