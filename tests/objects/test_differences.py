"""Differences of values: taking away and adding what they say turns the one value into the other."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.objects import alignment
from keepstone.objects.differences import ValueChange, text_lines, value_changes

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(2**63, 2**64 - 1),
    st.sampled_from([0.0, 1.0, 0.1, 1e-7, 1e300]),
    st.text(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text("abc é.", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, and of equal types."""
    return msgspec.json.encode(a, order="sorted") == msgspec.json.encode(b, order="sorted")


def applied(value: Any, changes: list[ValueChange]) -> Any:
    """Return `value` after `changes`, as their documentation says: indices are the old ones, of added ones the new."""
    if not changes:
        return value
    if any(not change.path for change in changes):
        (only,) = changes
        return only.new
    by_step: dict[Any, list[ValueChange]] = {}
    added: list[ValueChange] = []
    for change in changes:
        if change.verb == "added" and len(change.path) == 1:
            added.append(change)
        else:
            by_step.setdefault(change.path[0], []).append(change)
    steps = list(value) if isinstance(value, dict) else list(range(len(value)))
    kept: dict[Any, Any] = {}
    for step in steps:
        mine = by_step.get(step, [])
        if any(change.verb == "removed" and len(change.path) == 1 for change in mine):
            continue
        kept[step] = (
            applied(value[step], [c._replace(path=c.path[1:]) for c in mine]) if mine else value[step]
        )
    if isinstance(value, dict):
        return kept | {change.path[0]: change.new for change in added}
    result = list(kept.values())
    for change in sorted(added, key=lambda change: change.path[0]):
        result.insert(int(change.path[0]), change.new)
    return result


@settings(max_examples=100)
@given(old=VALUES, new=VALUES)
def test_what_differs_turns_the_one_value_into_the_other(old: Any, new: Any) -> None:
    changes = list(value_changes(old, new))

    assert same(applied(copy.deepcopy(old), changes), new)
    assert bool(changes) == (not same(old, new))
    assert all(str(change) for change in changes)


@settings(max_examples=20)
@given(value=st.lists(VALUES, min_size=3, max_size=8), at=st.integers(0, 2), new=VALUES)
def test_what_is_inserted_into_a_list_is_one_change(value: list[Any], at: int, new: Any) -> None:
    changed = [*value[:at], new, *value[at:]]

    assert [change.verb for change in value_changes(value, changed)] == ["added"]
    assert [change.verb for change in value_changes(changed, value)] == ["removed"]


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (1, 1.0, "~ $: 1 → 1.0"),
        (True, 1, "~ $: true → 1"),
        ({"a b": {"c": [1]}}, {"a b": {"c": [2]}}, '~ $["a b"].c[0]: 1 → 2'),
        ({"a": 1}, {}, "- $.a: 1"),
        ([], ["x"], '+ $[0]: "x"'),
        (None, {"k": 2**70}, "~ $: null → {"),
    ],
)
def test_changes_are_shown_with_their_place(old: Any, new: Any, shown: str) -> None:
    (change,) = value_changes(old, new)

    assert str(change).startswith(shown)


def test_equal_numbers_that_are_written_differently_do_not_differ() -> None:
    assert not list(value_changes(msgspec.json.decode(b"[0.1, 1e3]"), msgspec.json.decode(b"[1e-1, 1000.0]")))


def test_long_lists_are_compared_in_bounded_time_and_still_right() -> None:
    old = [n % 7 for n in range(alignment.EXACT_MAX * 3)]
    new = [n % 5 for n in range(alignment.EXACT_MAX * 3 + 1)]

    assert applied(old, list(value_changes(old, new))) == new
    assert len(list(value_changes(old, [*old[:5000], "x", *old[5000:]]))) == 1


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("a\nb\n", "a\nc\n", ["--- x", "+++ y", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]),
        ("a", "a\n", ["--- x", "+++ y", "@@ -1 +1 @@", "-a", "\\ No newline at end of file", "+a"]),
        ("", "a\n", ["--- x", "+++ y", "@@ -0,0 +1 @@", "+a"]),
    ],
)
def test_texts_differ_by_line(old: str, new: str, lines: list[str]) -> None:
    assert text_lines(old, new, "x", "y") == lines


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "\\", "é"]), max_size=30)


def patched(old: str, lines: Sequence[str]) -> str:
    """Return `old`, of whole lines, after a unified diff; every line and every number of it must fit."""
    before, after = old.splitlines(), list[str]()
    at = 0
    for line in lines[2:]:
        if head := re.fullmatch(r"@@ -(\d+)(,\d+)? \+(\d+)(,\d+)? @@", line):
            start = int(head[1]) - (head[2] != ",0")
            after += before[at:start]
            at = start
            assert len(after) == int(head[3]) - (head[4] != ",0")
            continue
        if line[0] in " -":
            assert before[at] == line[1:]
            at += 1
        if line[0] in " +":
            after.append(line[1:])
    return "".join(line + "\n" for line in [*after, *before[at:]])


@given(LINES, LINES)
def test_a_unified_diff_makes_the_one_text_of_the_other(old: list[str], new: list[str]) -> None:
    texts = ["".join(line + "\n" for line in lines) for lines in (old, new)]
    assert patched(texts[0], text_lines(*texts, "x", "y")) == texts[1]


@given(st.data(), st.integers(0, 6), st.integers(0, 3))
def test_what_is_aligned_covers_both_in_order(data: st.DataObject, exact: int, gap: int) -> None:
    """Short limits, so that anchors and gaps are tried on what a person can read."""
    many = st.lists(st.integers(0, 12), max_size=30)
    old, new = data.draw(many), data.draw(many)
    limits = alignment.EXACT_MAX, alignment.GAP_MAX
    alignment.EXACT_MAX, alignment.GAP_MAX = exact, gap  # type: ignore[misc]
    try:
        found = alignment.aligned(old, new)
    finally:
        alignment.EXACT_MAX, alignment.GAP_MAX = limits  # type: ignore[misc]
    assert_covers(old, new, found)


def assert_covers(old: Sequence[Hashable], new: Sequence[Hashable], found: list[alignment.Stretch]) -> None:
    a = c = 0
    for n, part in enumerate(found):
        assert (part.a, part.c) == (a, c)
        assert (part.b, part.d) != (a, c)
        assert n == 0 or found[n - 1].equal != part.equal
        if part.equal:
            assert old[part.a : part.b] == new[part.c : part.d]
        a, c = part.b, part.d
    assert (a, c) == (len(old), len(new))


def test_long_texts_are_aligned_by_what_is_unique_in_them() -> None:
    """Aligned exactly, these take hours: every seventh line is gone, and something is new at every thousandth."""
    old = [f"line {n}" for n in range(30_000)]
    new = [line if n % 1_000 else f"{line} is new" for n, line in enumerate(old) if n % 7]
    found = alignment.aligned(old, new)
    assert_covers(old, new, found)
    assert sum(part.b - part.a for part in found if not part.equal) == sum(
        1 for n in range(30_000) if not n % 7 or not n % 1_000
    )
    noise = random.Random(5)
    old, new = ([noise.choice("ab") for _ in range(20_000)] for _ in range(2))
    assert_covers(old, new, alignment.aligned(old, new))
