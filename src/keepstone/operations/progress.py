"""Progress of long work: what a caller passes as `progress`, and what it is told.

Layer: operations. fsspec's `Callback` fits, and so does a plain function of (finished, size).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

LINE_SECONDS: Final = 5.0
"""Between two lines of `progress=True`."""


@runtime_checkable
class ProgressCallback(Protocol):
    """What progress is reported to; fsspec's Callback fits."""

    def set_size(self, size: int | None) -> None:
        """Learn how many there are to do; None if nobody knows."""
        ...

    def absolute_update(self, value: int) -> None:
        """Learn how many are finished, done or failed."""
        ...


class LineProgress:
    """Plain lines on standard error, one every few seconds: what `progress=True` means."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._size: int | None = None
        self._next = time.monotonic() + LINE_SECONDS

    def set_size(self, size: int | None) -> None:
        """Learn how many there are to do."""
        self._size = size

    def absolute_update(self, value: int) -> None:
        """Write a line if the last one is some seconds old."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_SECONDS
            of = f" of {self._size:,}" if self._size is not None else ""
            sys.stderr.write(f"{value:,}{of} {self._what}\n")


class _CallProgress:
    """A plain function (finished, size) as a callback."""

    def __init__(self, function: Callable[[int, int | None], object]) -> None:
        self._function = function
        self._size: int | None = None

    def set_size(self, size: int | None) -> None:
        self._size = size
        self._function(0, size)

    def absolute_update(self, value: int) -> None:
        self._function(value, self._size)


Progress = bool | ProgressCallback | Callable[[int, int | None], object]


def progress_of(progress: Progress, what: str) -> ProgressCallback | None:
    """Return the callback for what a caller gave as `progress`; `what` is counted."""
    if isinstance(progress, bool):
        return LineProgress(what) if progress else None
    if isinstance(progress, ProgressCallback):
        return progress
    return _CallProgress(progress)
