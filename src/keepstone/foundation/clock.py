"""The clock that stamps entries: nanoseconds that never go back.

Layer: foundation. A stamp is max(clock, last + 1) in nanoseconds since 1970 (storage rule 9), so one writer's entries
are strictly ordered even when the system clock is set back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

FOLLOW_AHEAD_NS_MAX: Final = 3_600 * 10**9
"""How far ahead of this clock a foreign stamp may be and still be followed [ns]."""


class Clock:
    """Stamps that only grow; safe to use from many threads.

    `now_ns` is injected so that tests drive time themselves.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.now_ns = now_ns
        self._last = 0
        self._lock = threading.Lock()
        self.unfollowed = 0
        """The highest stamp that was seen and lies too far ahead; 0: none.

        What replaces an entry has to be stamped above it all the same, or it would be hidden.
        """

    def stamp(self) -> int:
        """Return a stamp above every one that was returned or followed before."""
        with self._lock:
            now, last = self.now_ns(), self._last
            self._last = stamp = now if now > last else last + 1
            return stamp

    def stamps(self, count: int) -> range:
        """Return `count` consecutive stamps, taken at once."""
        with self._lock:
            first = max(self.now_ns(), self._last + 1)
            self._last = first + count - 1
            return range(first, first + count)

    def after_fork(self) -> None:
        """In a forked child: a new lock, since another thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def follow(self, stamp: int) -> bool:
        """Stamp above `stamp` from now on; False (and no change) if it lies more than an hour ahead."""
        with self._lock:
            if stamp > self.now_ns() + FOLLOW_AHEAD_NS_MAX:
                self.unfollowed = max(self.unfollowed, stamp)
                return False
            self._last = max(self._last, stamp)
            return True
