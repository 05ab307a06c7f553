"""Is a recorded history linearizable? The algorithm of Wing and Gong, with Lowe's memory of what was tried.

A history is a set of calls with the moments of their beginning and end. It is linearizable if each call can be given
one moment between the two at which it happened as a whole, so that all answers are those of one object used by one
caller. A call whose answer was lost, since its caller was killed, may have happened at any moment from its beginning
on, or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple


class Call(NamedTuple):
    """One operation as its caller saw it."""

    began: float
    ended: float
    operation: Any
    answer: Any
    """Any value where the call never ended: nobody knows."""

    @property
    def is_known(self) -> bool:
        return self.ended < math.inf


State = Hashable
Step = Callable[[Any, Any], tuple[Any, Any]]
"""(state, operation) to (state afterwards, answer)."""


def linearizable(calls: Iterable[Call], initial: State, step: Step) -> bool:
    """Return whether some order of `calls` explains all answers."""
    ordered = sorted(calls, key=lambda call: call.began)
    return _Search(
        [call for call in ordered if call.is_known], [call for call in ordered if not call.is_known], step
    ).run(initial)


def smallest_part(calls: Sequence[Call], initial: State, step: Step) -> list[Call]:
    """Return the shortest beginning of a history that is not linearizable, for people to read."""
    ends = sorted(call.ended for call in calls if call.is_known)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if linearizable(_until(calls, ends[middle]), initial, step):
            low = middle + 1
        else:
            high = middle
    return sorted(_until(calls, ends[low]), key=lambda call: call.began)


def _until(calls: Sequence[Call], moment: float) -> list[Call]:
    """Return the history as it was known at `moment`: what had not ended then has no answer yet."""
    begun = [call for call in calls if call.began <= moment]
    return [call if call.ended <= moment else call._replace(ended=math.inf, answer=None) for call in begun]


class _Search:
    """Depth first over what could have happened next. A place in it: who has happened, and the state then."""

    def __init__(self, known: list[Call], unknown: list[Call], step: Step) -> None:
        self._known = known
        self._unknown = unknown
        self._step = step
        self._all = (1 << len(known)) - 1

    def run(self, initial: State) -> bool:
        tried: set[tuple[int, int, State]] = set()
        waiting: list[tuple[int, int, State]] = [(0, 0, initial)]
        while waiting:
            place = waiting.pop()
            known, _, _ = place
            if known == self._all:
                return True
            if place not in tried:
                tried.add(place)
                waiting.extend(self._next(*place))
        return False

    def _next(self, known: int, unknown: int, state: State) -> Iterable[tuple[int, int, State]]:
        candidates, first_end = self._open(known)
        # What nobody saw the end of is tried last: most histories do not need it.
        for position, call in enumerate(self._unknown):
            if call.began <= first_end and not unknown >> position & 1:
                after, _ = self._step(state, call.operation)
                if after != state:
                    yield known, unknown | 1 << position, after
        for position in reversed(candidates):
            call = self._known[position]
            after, answer = self._step(state, call.operation)
            if answer == call.answer:
                yield known | 1 << position, unknown, after

    def _open(self, known: int) -> tuple[list[int], float]:
        """Return which known calls can be the next to happen, and when the first of those that have not ended."""
        # The lowest bit that is not set.
        position = (~known & (known + 1)).bit_length() - 1
        first_end = math.inf
        candidates: list[int] = []
        while position < len(self._known) and self._known[position].began <= first_end:
            if not known >> position & 1:
                candidates.append(position)
                first_end = min(first_end, self._known[position].ended)
            position += 1
        return [p for p in candidates if self._known[p].began <= first_end], first_end
