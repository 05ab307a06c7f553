"""Saying why a command waits: a bucket that does not answer is asked again, for up to two minutes.

Layer: cli. Imported only where a URL is named: whoever works in a folder waits for nobody.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from keepstone.storage.retrying import LOGGER

if TYPE_CHECKING:
    from keepstone.cli.console import Console

EACH_SECONDS: Final = 1.0
"""Many threads may wait for the same reason; one line says so."""


def tell_of_waiting(console: Console) -> None:
    """From now on say on standard error what is waited for, and how long."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_Remarks(console)]


class _Remarks(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._said = -EACH_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said >= EACH_SECONDS:
            self._said = now
            self._console.error(f"keepstone: {record.getMessage()}")
