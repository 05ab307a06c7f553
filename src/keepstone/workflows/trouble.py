"""Trouble with an item, in words: what a failed record says.

Layer: workflows.
"""

from __future__ import annotations

import random
import signal
from typing import Any, Final

TEXT_BYTES_KEPT: Final = 4 * 1024
BACKOFF_SECONDS: Final = 0.5
BACKOFF_SECONDS_MAX: Final = 30.0


class TroubleError(Exception):
    """An item has failed; caught by the worker, which records it."""

    def __init__(
        self, message: str, output: Any = None, *, may_pass: bool = False, is_shift: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.output = output
        self.may_pass = may_pass
        """Whether trying again is of use."""
        self.is_shift = is_shift
        """Whether earlier answers of the same child may belong to other items."""


def backoff_seconds(attempt: int) -> float:
    """Return how long to wait after failed attempt number `attempt`: doubling, jittered, at most 30 s."""
    return min(BACKOFF_SECONDS * 2 ** (attempt - 1), BACKOFF_SECONDS_MAX) * random.uniform(0.5, 1.0)


def exit_text(code: int) -> str:
    """Return how a child with this exit code ended, as the end of a sentence."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def shown(data: bytes) -> str:
    """Return the first 4 KiB of `data` as text."""
    return data[:TEXT_BYTES_KEPT].decode("utf-8", "replace")


def holds_object(data: bytes) -> bool:
    """Whether a line of `data`, maybe not all here yet, is or begins a JSON object."""
    return any(line.lstrip().startswith(b"{") for line in data.split(b"\n"))


def with_stderr(output: Any, stderr: str) -> Any:
    """Return what a failed record keeps as its output: what came, and what was said on standard error."""
    return {"output": output, "stderr": stderr} if stderr else output
