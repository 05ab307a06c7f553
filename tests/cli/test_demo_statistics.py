"""The interval of a paired difference."""

from __future__ import annotations

import math
import random

import pytest

from keepstone.cli.demo_statistics import paired_difference


def pairs(both: int, lost: int, gained: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + lost) + [False] * (gained + neither)
    second = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return first, second


def test_against_the_formula_by_hand() -> None:
    # 400 pairs, 20 lost, 60 gained: (60 - 20) / 402 ± 1.96 · sqrt(81 - 1600 / 402) / 402
    change = paired_difference(*pairs(300, 20, 60, 20))

    assert change.value == pytest.approx(0.1)
    half = 1.959964 * math.sqrt(81 - 1600 / 402) / 402
    assert (change.low, change.high) == pytest.approx((40 / 402 - half, 40 / 402 + half), abs=1e-6)


def test_swapping_the_two_turns_the_interval_around() -> None:
    first, second = pairs(10, 3, 8, 4)
    change, back = paired_difference(first, second), paired_difference(second, first)

    assert (back.value, back.low, back.high) == pytest.approx((-change.value, -change.high, -change.low))


def test_equal_answers_still_leave_some_doubt() -> None:
    change = paired_difference([True] * 50, [True] * 50)

    assert change.value == 0
    assert change.low < 0 < change.high


def test_no_pairs_say_nothing() -> None:
    assert all(map(math.isnan, paired_difference([], [])))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    dice = random.Random(7)
    lost, gained, count, rounds, hits = 0.05, 0.15, 100, 1500, 0
    for _ in range(rounds):
        draws = [dice.random() for _ in range(count)]
        first = [draw < lost or draw > 0.5 for draw in draws]
        second = [lost <= draw < lost + gained or draw > 0.5 for draw in draws]
        change = paired_difference(first, second)
        hits += change.low <= gained - lost <= change.high

    assert 0.935 <= hits / rounds <= 0.975
