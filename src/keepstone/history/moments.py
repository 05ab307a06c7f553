"""Which commit was the newest at some moment.

Layer: history. A logarithm of the log's length in reads: times only fall where a clock was set right (rule 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from keepstone.history.commit import Commit
from keepstone.history.slots import Slots
from keepstone.history.state import State


def newest_before(
    time_ns: int, state: State, slots: Slots, backwards: Callable[[int], Iterator[Commit]]
) -> int:
    """Return the number of the newest commit that was made at or before `time_ns`; -1 if none was."""
    last = state.number
    for run in reversed(state.runs):
        if run.time <= time_ns:
            return _newest_in_run(run.number, last, time_ns, slots)
        last = run.number - 1
    # Older than all runs that the state remembers; empty unless clocks were set back very often.
    for commit in backwards(last):
        if commit.time <= time_ns:
            return commit.number
    return -1


def _newest_in_run(first: int, last: int, time_ns: int, slots: Slots) -> int:
    while first < last:
        middle = (first + last + 1) // 2
        if slots.get(middle).time <= time_ns:
            first = middle
        else:
            last = middle - 1
    return first
