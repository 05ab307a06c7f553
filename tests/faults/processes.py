"""Running a piece of a test in a process of its own."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Final

import pytest

needs_fork: Final = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a forked child that leaves by os._exit, as a killed one would; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def finished(pid: int) -> bool:
    """Wait for a child; return whether all went well in it."""
    return os.waitpid(pid, 0)[1] == 0


def dead(work: Callable[[], object]) -> None:
    """Run `work` in a child that is gone without any farewell when this returns."""
    assert finished(forked(work))
