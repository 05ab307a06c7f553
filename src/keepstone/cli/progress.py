"""Progress: a bar on a terminal, a plain line now and then in a log.

Layer: cli. Safe to call from several threads; writes to standard error only.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

from keepstone.cli.formatting import size
from keepstone.foundation.names import plural

BAR_CELLS: Final = 24
BAR_SECONDS: Final = 0.1
"""How often a bar is drawn."""
_COLUMNS: Final = 120
"""Of what does not say how wide it is."""
LINE_SECONDS: Final = 10.0
"""How often a log gets a line."""


class Progress:
    """Counts to `total` in front of somebody; `total` 0 means that it is not known; `what` is a plural in s.

    Fits wherever the library takes a progress callback.
    """

    def __init__(
        self, stream: TextIO, total: int, what: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.done = 0
        self.total = total
        self._stream = stream
        self._noun = what.removesuffix("s")
        self._now = now
        self._note = ""
        self._is_bar = stream.isatty()
        self._lock = threading.Lock()
        self._started = now()
        self._shown_at = self._started
        self._shown_done: int = -1
        self._shown_cells = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Say that `count` more are done; `note` (if given) replaces the remark behind the numbers."""
        with self._lock:
            self._set(self.done + count, note)

    def set(self, done: int, note: str = "") -> None:
        """Say that `done` are done in all."""
        with self._lock:
            self._set(done, note)

    def set_size(self, size: int | None) -> None:
        """Say how many there are; None if nobody knows."""
        with self._lock:
            self.total = size or 0

    def absolute_update(self, value: int) -> None:
        """Say that `value` are done in all."""
        self.set(value)

    def break_line(self) -> None:
        """Leave the bar as it stands, so that a remark can be printed under it."""
        with self._lock:
            if self._is_bar and self._shown_cells:
                self._shown_cells = 0
                self._write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            # A log gets a last line only if it got one before: short work stays silent there.
            if self._shown_done >= 0:
                self._show(self._now())
                if self._is_bar:
                    self._write("\n")
            # Nothing is drawn any more that a remark would have to step over.
            self._shown_cells = 0

    def _set(self, done: int, note: str) -> None:
        self.done = done
        self._note = note or self._note
        now = self._now()
        if now - self._shown_at >= (BAR_SECONDS if self._is_bar else LINE_SECONDS):
            self._show(now)

    def _show(self, now: float) -> None:
        if not self._is_bar and self.done == self._shown_done:
            return
        self._shown_at, self._shown_done = now, self.done
        line = self._line(now)
        if self._is_bar:
            # A line that the terminal breaks could not be drawn over.
            line = line[: self._cells_max()]
            padding = " " * (self._shown_cells - len(line))
            self._shown_cells = len(line)
            self._write(f"\r{line}{padding}")
        else:
            self._write(line + "\n")

    def _line(self, now: float) -> str:
        seconds = max(now - self._started, 1e-9)
        is_bytes = self._noun == "byte"
        rate = f"{size(round(self.done / seconds)) if is_bytes else f'{self.done / seconds:,.1f}'}/s"
        if not self.total:
            done = size(self.done) if is_bytes else plural(self.done, self._noun)
            return "  ".join(filter(None, [done, rate, self._note]))
        filled = min(BAR_CELLS, BAR_CELLS * self.done // self.total)
        bar = f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] " if self._is_bar else ""
        left = (self.total - self.done) * seconds / self.done if self.done else 0.0
        remaining = f"{_duration(left)} left" if 0 < self.done < self.total else ""
        counted = f"{self.done:,} of {plural(self.total, self._noun)}"
        if is_bytes:
            counted = f"{size(self.done)} of {size(self.total)}"
        words = "  ".join(filter(None, [counted, rate, remaining, self._note]))
        return words if len(bar + words) > self._cells_max() else bar + words

    def _cells_max(self) -> int:
        """Return how long a line may be; of a terminal one cell less than it has, where some break the line."""
        try:
            return (os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS) - 1
        except (OSError, ValueError):
            # No terminal of the system, or one that does not say how wide it is.
            return _COLUMNS - 1

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._stream = _Nowhere()


class _Nowhere:
    """Takes the place of a stream whose reader has gone away."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None

    def fileno(self) -> int:
        raise OSError


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
