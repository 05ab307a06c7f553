"""Tasks and the feed: what is still to be asked, handed to workers one at a time.

Layer: workflows. A worker takes a task when it is free, so no more are in flight than there are workers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec

from keepstone.foundation.bell import Bell


class Task(msgspec.Struct, frozen=True):
    """One item to be asked."""

    key: str
    input: Any
    """Plain JSON types."""
    expected: Any = None
    line: bytes = b""
    """The item as one line of JSON, without its end; only for programs."""
    argument: Any = None
    """What a function gets; only for functions."""
    is_stale: bool = False
    """There is an answer that does not count any more."""
    failed_before: bool = False


class Feed:
    """Hands out tasks to many threads until there are no more, or `stop` was called."""

    def __init__(self, tasks: Iterator[Task], in_flight: dict[str, Task] | None = None) -> None:
        self.error: BaseException | None = None
        """What the source of the tasks raised."""
        self._tasks = tasks
        # The source of the tasks puts them in; `finished` takes them out.
        self._in_flight: dict[str, Task] = {} if in_flight is None else in_flight
        self._lock = threading.Lock()
        self._stopped = Bell()

    @property
    def is_stopped(self) -> bool:
        """Whether no more tasks come."""
        return self._stopped.is_ringing

    def next(self) -> Task | None:
        """Return the next task, or None when there are no more."""
        with self._lock:
            if self._stopped.is_ringing:
                return None
            try:
                return next(self._tasks)
            except StopIteration:
                self._tasks = iter(())
                return None
            except BaseException as error:
                # The caller's own iterator failed; it hears of it once everything in flight is recorded.
                self.error = error
                self._stopped.ring()
                return None

    def finished(self, task: Task) -> None:
        """Say that `task` is recorded, or given up."""
        self._in_flight.pop(task.key, None)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped.ring()

    def pause(self, seconds: float) -> bool:
        """Wait, and return whether the feed was not stopped meanwhile."""
        return not self._stopped.wait(seconds)
