"""How answers become records."""

from __future__ import annotations

import pytest

import keepstone
from keepstone.workflows.record import Answer, Record, make_record, read_answer


def test_an_answer_of_well_known_fields_is_taken_apart() -> None:
    answer = read_answer(
        {"output": 72, "correct": True, "score": 1, "cost": 0.5, "tokens": 9, "expected": 72}
    )

    assert answer == Answer(72, expected=72, correct=True, score=1.0, cost=0.5, tokens=9)


def test_the_repeated_key_is_no_part_of_the_output() -> None:
    assert read_answer({"output": 72, "question": "?"}, repeated="question").output == 72


def test_nothing_of_an_answer_with_other_fields_is_dropped() -> None:
    value = {"output": 72, "reasoning": "because", "correct": True}
    answer = read_answer(value)

    assert answer.output == value
    assert answer.correct is True


def test_a_field_of_another_type_is_no_well_known_field() -> None:
    value = {"output": 72, "correct": "yes", "tokens": True}

    assert read_answer(value) == Answer(value)


@pytest.mark.parametrize("error", ["no quota", {"code": 429}])
def test_an_error_makes_a_failure(error: object) -> None:
    assert read_answer({"error": error}).error
    assert read_answer({"output": 1, "error": None}) == Answer(1)


@pytest.mark.parametrize(
    ("output", "expected", "correct"),
    [("72", "72", True), (72, 72.0, True), ("a", "b", False), ("72", 72, None), (True, 1, None), ({"a": 1},
    {"a": 1}, None)],
)  # fmt: skip
def test_correct_is_found_where_both_are_text_or_both_are_numbers(
    output: object, expected: object, correct: bool | None
) -> None:
    record = make_record("k", {}, expected, Answer(output), config="", attempts=1, seconds=0.1)

    assert record.correct is correct


def test_a_record_comes_back_equal(store: keepstone.Store) -> None:
    collection = store.collection("records", type=Record)
    record = make_record(
        "k",
        {"a": [1, 2.5, "ü", None]},
        "x",
        Answer({"b": 2**70}, score=1),
        config="b3:00",
        attempts=2,
        seconds=1.25,
    )
    collection["k"] = record

    assert collection["k"] == record
    assert record.created.endswith("Z")
    assert record != make_record("k", {"a": 1}, "x", Answer(1), config="b3:00", attempts=2, seconds=1.25)
