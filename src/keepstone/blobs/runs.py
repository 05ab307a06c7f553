"""Runs: neighbouring ranges of one object that are read by one request.

Layer: blobs. A request to a bucket waits for 20 to 45 ms before its first byte, which is as long as some 100 KiB take.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final, NamedTuple

GAP_BYTES_MAX: Final = 64 * 1024
"""A smaller gap is read through."""
RUN_BYTES_MAX: Final = 8 * 1024 * 1024 + 512 * 1024
"""8 MiB of content, headers, and a piece of any size at the end, so that a window leaves no small rest. A single longer
range is one request, too."""
_DENSE_FRACTION: Final = 0.75
"""Of what was read: where that much is wanted, it is kept as it came, until the last range of it is taken."""


class Span(NamedTuple):
    """Bytes [start, end) of one object."""

    key: str
    start: int
    end: int


class Run:
    """One request, and the ranges that it answers. Not synchronized: `ReadAhead` holds a lock."""

    __slots__ = (
        "_data",
        "_left",
        "_parts",
        "done",
        "end",
        "held",
        "key",
        "spans",
        "start",
        "started",
        "window",
    )

    def __init__(self, span: Span, window: int) -> None:
        self.key, self.start, self.end = span
        self.spans = [span]
        self.window = window
        self.started = False
        self.done = threading.Event()
        self.held = 0
        """Bytes that this run is counted with."""
        self._left = 0
        self._data: bytes | None = None
        self._parts: dict[Span, bytes] | None = None

    @property
    def is_here(self) -> bool:
        """Whether something of it can still be taken."""
        return self._data is not None or self._parts is not None

    def receive(self, data: bytes) -> int:
        """Take what was read; return how many bytes are kept of it."""
        self._left = len(self.spans)
        wanted = sum(span.end - span.start for span in self.spans)
        if wanted >= len(data) * _DENSE_FRACTION:
            self._data = data
            return len(data)
        # Most of it was read through, and need not be kept.
        start = self.start
        self._parts = {span: data[span.start - start : span.end - start] for span in self.spans}
        return wanted

    def part(self, span: Span) -> bytes | None:
        """Return one of the ranges; None where it was never here, or is not any more."""
        if self._data is not None:
            return self._data[span.start - self.start : span.end - self.start]
        return None if self._parts is None else self._parts.get(span)

    def let_go(self, span: Span) -> int:
        """Keep one range no longer; return how many bytes that sets free."""
        if not self.is_here:
            return 0
        self._left -= 1
        freed = self.held if not self._left else 0
        if self._parts is not None and self._left:
            freed = len(self._parts.pop(span, b""))
        self.held -= freed
        if not self._left:
            self.drop()
        return freed

    def drop(self) -> None:
        """Keep nothing, and want nothing."""
        self._data = self._parts = None
        self.spans = []


def plan_runs(spans: Iterable[Span], window: int = 0) -> list[Run]:
    """Return the requests that read `spans`, each span once, in the order in which the first of each is needed."""
    order = {span: number for number, span in enumerate(dict.fromkeys(spans))}
    runs: list[Run] = []
    first: dict[int, int] = {}
    for span in sorted(order):
        run = runs[-1] if runs else None
        if (
            run is not None
            and run.key == span.key
            and span.start - run.end < GAP_BYTES_MAX
            and max(span.end, run.end) - run.start <= RUN_BYTES_MAX
        ):
            run.spans.append(span)
            run.end = max(run.end, span.end)
            first[id(run)] = min(first[id(run)], order[span])
        else:
            run = Run(span, window)
            runs.append(run)
            first[id(run)] = order[span]
    return sorted(runs, key=lambda run: first[id(run)])
