"""A bell wakes who waits, and goes on working wherever an interrupt hits it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from keepstone.foundation.bell import Bell


def test_it_wakes_all_who_wait_and_those_who_come() -> None:
    bell = Bell()
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(bell.wait(30))) for _ in range(4)]
    for thread in threads:
        thread.start()

    bell.ring()
    for thread in threads:
        thread.join(10)

    assert woken == [True] * 4
    assert bell.is_ringing
    assert bell.wait(0)


def test_silenced_it_lets_people_wait_again() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()

    bell.silence()

    assert not bell.is_ringing
    assert not bell.wait(0.01)


def _interrupted_at(event: int, act: Callable[[], object]) -> bool:
    """Run `act` with a KeyboardInterrupt at the so-many-th step of its Python code; return whether it came so far."""
    left = event

    def trace(frame: Any, what: str, argument: object) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_anywhere_leaves_it_working() -> None:
    for name in ("ring", "silence"):
        event = 1
        while True:
            bell = Bell()
            with contextlib.suppress(KeyboardInterrupt):
                was_interrupted = _interrupted_at(event, getattr(bell, name))
            bell.ring()
            assert bell.wait(5), (name, event)
            bell.silence()
            assert not bell.wait(0.001), (name, event)
            if not was_interrupted:
                break
            event += 1
        assert event > 3
