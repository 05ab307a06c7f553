"""A bell: what one thread rings and others wait for, and no interrupt can break.

Layer: foundation. `threading.Event` takes its lock in Python code: a Ctrl-C between taking and noting it leaves
the lock taken for ever, and the next who sets the event hangs. The queue underneath is one call into C.
"""

from __future__ import annotations

import queue


class Bell:
    """Rings until it is silenced; safe to use from many threads."""

    def __init__(self) -> None:
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_ringing = False

    @property
    def is_ringing(self) -> bool:
        """Whether it was rung and not silenced since."""
        return self._is_ringing

    def ring(self) -> None:
        """Wake all who wait, now and until it is silenced."""
        # The token first: interrupted in between, those who wait still wake.
        self._tokens.put(None)
        self._is_ringing = True

    def silence(self) -> None:
        """Let those who come wait again."""
        self._is_ringing = False
        try:
            while True:
                self._tokens.get_nowait()
        except queue.Empty:
            pass

    def wait(self, seconds: float) -> bool:
        """Return whether it rings, at the latest after `seconds`."""
        if self._is_ringing:
            return True
        try:
            self._tokens.get(timeout=seconds)
        except queue.Empty:
            return self._is_ringing
        # For the others who wait.
        self._tokens.put(None)
        return True
