"""System calls that count, fail and fall short on demand; everything else is real."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from keepstone.storage.calls import Calls

_NAMES = tuple(name for name in vars(Calls) if not name.startswith("_"))


class FaultyCalls(Calls):
    """The real calls; the `fail_at`-th (from 1) raises `error`, and with `forever` all after it.

    With `after` the call is made and only its answer is lost; `close` closes in any case, as on Linux.
    `only` restricts counting and failing to some calls.
    """

    def __init__(
        self,
        *,
        fail_at: int = 0,
        error: int = 0,
        forever: bool = False,
        after: bool = False,
        only: tuple[str, ...] = _NAMES,
        write_bytes_max: int = 2**30,
    ) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []
        self.open_fds: set[int] = set()
        self.failed: list[tuple[str, tuple[Any, ...]]] = []
        self._count = 0
        self._fail_at, self._error, self._forever, self._after, self._only = (
            fail_at,
            error,
            forever,
            after,
            only,
        )
        self._write_bytes_max = write_bytes_max
        for name in _NAMES:
            setattr(self, name, self._wrapped(name, getattr(Calls, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.made.append((name, args))
            if name == "write":
                args = (args[0], args[1][: self._write_bytes_max])
            failing = self._is_failing(name)
            if not failing:
                return self._noted(name, args, real(self, *args, **kwargs))
            self.failed.append((name, args))
            if name == "close" or (self._after and self._can_lose_answer(name)):
                self._noted(name, args, real(self, *args, **kwargs))
            raise OSError(self._error, os.strerror(self._error))

        return call

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
