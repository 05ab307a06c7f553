"""The checker of histories: good ones pass, bad ones do not, and it agrees with trying every order."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.machines.linearizability import Call, linearizable, smallest_part

LOST = math.inf


def register(state: int, operation: tuple[Any, ...]) -> tuple[int, Any]:
    """A number that can be read, written, and compared and set."""
    if operation[0] == "read":
        return state, state
    if operation[0] == "write":
        return operation[1], None
    return (operation[2], True) if state == operation[1] else (state, False)


def call(began: float, ended: float, *operation: Any, gave: Any = None) -> Call:
    return Call(began, ended, operation, gave)


GOOD = {
    "nothing": [],
    "one after the other": [call(0, 1, "write", 1), call(2, 3, "read", gave=1)],
    "a read beside a write may see the old": [call(0, 9, "write", 1), call(1, 2, "read", gave=0)],
    "or the new": [call(0, 9, "write", 1), call(1, 2, "read", gave=1)],
    "old then new beside one write": [
        call(0, 9, "write", 1),
        call(1, 2, "read", gave=0),
        call(3, 4, "read", gave=1),
    ],
    "two writes beside each other in either order": [
        call(0, 5, "write", 1),
        call(0, 5, "write", 2),
        call(6, 7, "read", gave=1),
    ],
    "one of two who compare and set": [
        call(0, 5, "set", 0, 1, gave=True),
        call(0, 5, "set", 0, 2, gave=False),
    ],
    "a lost write happened": [call(0, LOST, "write", 1), call(5, 6, "read", gave=1)],
    "a lost write did not happen": [call(0, LOST, "write", 1), call(5, 6, "read", gave=0)],
    "a lost write happened late": [
        call(0, LOST, "write", 1),
        call(5, 6, "read", gave=0),
        call(7, 8, "read", gave=1),
    ],
}
BAD = {
    "a write forgotten": [call(0, 1, "write", 1), call(2, 3, "read", gave=0)],
    "a value that nobody wrote": [call(0, 1, "write", 1), call(2, 3, "read", gave=5)],
    "back to the old": [
        call(0, 9, "write", 1),
        call(1, 2, "read", gave=1),
        call(3, 4, "read", gave=0),
    ],
    "two readers in different orders": [
        call(0, 5, "write", 1),
        call(0, 5, "write", 2),
        call(6, 7, "read", gave=1),
        call(8, 9, "read", gave=2),
    ],
    "both compare and set": [
        call(0, 5, "set", 0, 1, gave=True),
        call(0, 5, "set", 0, 2, gave=True),
    ],
    "read before it was written": [call(0, 1, "read", gave=1), call(2, 3, "write", 1)],
    "a lost write undone": [
        call(0, LOST, "write", 1),
        call(5, 6, "read", gave=1),
        call(7, 8, "read", gave=0),
    ],
    "a lost write before it began": [call(0, 1, "read", gave=1), call(2, LOST, "write", 1)],
    "a refusal without a reason": [call(0, 1, "set", 0, 1, gave=False)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_pass(name: str) -> None:
    assert linearizable(GOOD[name], 0, register)


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_do_not(name: str) -> None:
    assert not linearizable(BAD[name], 0, register)


def test_what_is_shown_of_a_bad_history_ends_where_it_went_wrong() -> None:
    later = [call(20 + n, 20.5 + n, "write", n) for n in range(10)]

    assert smallest_part([*BAD["back to the old"], *later], 0, register) == [
        call(0, LOST, "write", 1),
        call(1, 2, "read", gave=1),
        call(3, 4, "read", gave=0),
    ]


def explained(calls: tuple[Call, ...]) -> bool:
    """Whether these calls, in this order, could have happened at moments inside of them."""
    state, moment = 0, -math.inf
    for one in calls:
        moment = max(moment, one.began)
        state, answer = register(state, one.operation)
        if moment > one.ended or (one.is_known and answer != one.answer):
            return False
    return True


def by_every_order(calls: list[Call]) -> bool:
    lost = [one for one in calls if not one.is_known]
    known = [one for one in calls if one.is_known]
    happened = (some for n in range(len(lost) + 1) for some in itertools.combinations(lost, n))
    return any(explained(order) for some in happened for order in itertools.permutations([*known, *some]))


OPERATIONS = st.one_of(
    st.just(("read",)),
    st.tuples(st.just("write"), st.integers(0, 2)),
    st.tuples(st.just("set"), st.integers(0, 2), st.integers(0, 2)),
)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans(), OPERATIONS, st.integers(0, 2)),
        max_size=5,
    )
)
def test_it_agrees_with_trying_every_order(
    drawn: list[tuple[int, int, bool, tuple[Any, ...], int]],
) -> None:
    calls: list[Call] = []
    for began, length, lost, operation, seen in drawn:
        answer = {"read": seen, "write": None, "set": seen > 0}[operation[0]]
        calls.append(Call(began, math.inf if lost else began + length + 0.5, operation, answer))

    assert linearizable(calls, 0, register) == by_every_order(calls)
