"""The record: one item of work, what was asked, what came back, and what it cost.

Layer: workflows. The one shape that result sets, comparisons and exports share.

An answer becomes a record like this. `correct` (true or false), `score`, `cost` (numbers), `tokens` (a whole
number), `expected` (anything) and `error` are copied from an answer that is an object and has them with that
type. If the answer has `output` and nothing else but these (and the key field that it repeats), the record's
output is that value; otherwise the whole answer is the output, so that nothing is dropped. Where there is an
expected value, no `correct`, and both output and expected value are text, or both numbers, `correct` is
whether they are equal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from keepstone.foundation.names import format_time
from keepstone.workflows.values import canonical

WELL_KNOWN: Final = frozenset({"output", "expected", "correct", "score", "cost", "tokens", "error"})


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one item; equal only if every field is."""

    key: str
    input: Any = None
    """What was asked: plain JSON types."""
    expected: Any = None
    """What the right answer would be; None if nobody said."""
    output: Any = None
    """What came back; of a failed item whatever there is of it."""
    correct: bool | None = None
    score: float | None = None
    cost: float | None = None
    """In the currency that the program counts in."""
    tokens: int | None = None
    seconds: float | None = None
    """How long the attempt that counts took."""
    error: str | None = None
    """What went wrong; None for an answered item."""
    config: str = ""
    """The digest of the configuration under which it was answered."""
    attempts: int = 1
    """How often it was asked in the run that recorded it."""
    created: str = ""
    """When it was recorded: RFC 3339 in UTC, milliseconds."""


class Answer(msgspec.Struct, frozen=True):
    """An answer, taken apart."""

    output: Any
    expected: Any = None
    correct: bool | None = None
    score: float | None = None
    cost: float | None = None
    tokens: int | None = None
    error: str | None = None


def read_answer(value: Any, *, repeated: str = "") -> Answer:
    """Return the plain value `value` taken apart as the head of this module says.

    `repeated` is the name of the key field, which an answer may carry besides the well-known ones.
    """
    if not isinstance(value, dict):
        return Answer(value)
    fields = cast("dict[str, Any]", value)
    kept = {name: fields[name] for name in WELL_KNOWN & fields.keys() if _has_its_type(name, fields[name])}
    error = kept.get("error")
    is_wrapped = "output" in fields and all(name in kept or name == repeated for name in fields)
    return Answer(
        output=fields["output"] if is_wrapped else fields,
        expected=kept.get("expected"),
        correct=kept.get("correct"),
        score=_float(kept.get("score")),
        cost=_float(kept.get("cost")),
        tokens=kept.get("tokens"),
        error=(error if isinstance(error, str) else canonical(error).decode()) if error else None,
    )


def make_record(
    key: str, asked: Any, expected: Any, answer: Answer, *, config: str, attempts: int, seconds: float
) -> Record:
    """Return the record of `answer`; an expected value of the caller wins over the answer's own."""
    expected = answer.expected if expected is None else expected
    correct = (
        _is_equal(answer.output, expected) if answer.correct is None and not answer.error else answer.correct
    )
    return Record(
        key=key,
        input=asked,
        expected=expected,
        output=answer.output,
        correct=correct,
        score=answer.score,
        cost=answer.cost,
        tokens=answer.tokens,
        seconds=round(seconds, 6),
        error=answer.error,
        config=config,
        attempts=attempts,
        created=now_text(),
    )


def now_text() -> str:
    """Return the present time as RFC 3339 in UTC with milliseconds."""
    now = time.time_ns()
    return f"{format_time(now)[:-1]}.{now // 1_000_000 % 1000:03d}Z"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers over the records of a result set; a mean is None where no record has the field."""

    count: int = 0
    failed: int = 0
    correct: int = 0
    """Records with `correct` true."""
    graded: int = 0
    """Records with `correct` true or false."""
    accuracy: float | None = None
    """correct / graded."""
    score: float | None = None
    """Mean."""
    cost: float | None = None
    """Sum."""
    tokens: int | None = None
    """Sum."""
    seconds: float = 0.0
    """Sum: the time that all items took, not the time of the run."""
    configs: Mapping[str, int] = {}
    """How many records were made under which configuration."""


class Tally:
    """Adds records up to a `Summary`, in constant memory."""

    def __init__(self) -> None:
        self._count = self._correct = self._graded = self._scored = self._priced = self._metered = (
            self._tokens
        ) = 0
        self._score = self._cost = self._seconds = 0.0
        self._configs: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Count `record`."""
        self._count += 1
        self._seconds += record.seconds or 0.0
        self._configs[record.config] = self._configs.get(record.config, 0) + 1
        if record.correct is not None:
            self._graded += 1
            self._correct += record.correct
        if record.score is not None:
            self._scored += 1
            self._score += record.score
        if record.cost is not None:
            self._priced += 1
            self._cost += record.cost
        if record.tokens is not None:
            self._metered += 1
            self._tokens += record.tokens

    def summary(self, failed: int) -> Summary:
        """Return the numbers so far."""
        return Summary(
            count=self._count,
            failed=failed,
            correct=self._correct,
            graded=self._graded,
            accuracy=self._correct / self._graded if self._graded else None,
            score=self._score / self._scored if self._scored else None,
            cost=self._cost if self._priced else None,
            tokens=self._tokens if self._metered else None,
            seconds=self._seconds,
            configs=dict(self._configs),
        )


def _has_its_type(name: str, value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or name in ("output", "expected", "error"):
        return True
    if name == "correct":
        return isinstance(value, bool)
    if name == "tokens":
        return is_number and isinstance(value, int)
    return is_number


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _is_equal(output: Any, expected: Any) -> bool | None:
    for kind in (bool, str, (int, float)):
        if isinstance(output, kind) and isinstance(expected, kind):
            return bool(output == expected)
        if isinstance(output, kind) or isinstance(expected, kind):
            return None
    return None
