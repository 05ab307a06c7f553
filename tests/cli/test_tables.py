"""Alignment by what a terminal shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.cli.console import visible
from keepstone.cli.formatting import moment, size
from keepstone.cli.tables import display_width, render
from keepstone.foundation.names import plural


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("abc", 3),
        ("", 0),
        ("日本", 4),
        ("é", 1),
        ("e\u0301", 1),
        ("🦊", 2),
        ("👩\u200d🚀", 2),
        ("❤\ufe0f", 2),
        ("ｱ", 1),
    ],
)
def test_display_width(text: str, cells: int) -> None:
    assert display_width(text) == cells


def test_columns_stay_aligned_behind_wide_characters() -> None:
    text = render([["日本", "1"], ["ab", "10"]], ["name", "size"], [False, True])

    assert text == "name  size\n日本     1\nab      10\n"


@given(st.lists(st.tuples(st.text("ab日é🦊", max_size=8), st.text("ab日é🦊", min_size=1, max_size=8))))
def test_second_column_begins_at_one_cell_in_every_line(rows: list[tuple[str, str]]) -> None:
    lines = render(rows, ["x", "y"], [False, False]).splitlines()
    width = max([1, *(display_width(first) for first, _ in rows)])

    for line, (first, second) in zip(lines[1:], rows, strict=True):
        assert line == first + " " * (width - display_width(first)) + "  " + second


@given(st.text())
def test_shown_text_has_no_control_characters(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t\u200c\u200d" for c in visible(text))
    assert "\n" not in visible(text, lines=False)


def test_escape_sequences_are_written_out() -> None:
    assert visible("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert visible("👩\u200d🚀 ok") == "👩\u200d🚀 ok"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024, "10.0 KiB"),
        (123 * 1024, "123 KiB"),
        (1024 * 1024 - 1, "1.00 MiB"),
        (5 * 1024**3, "5.00 GiB"),
        (5000 * 1024**5, "5000 PiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_moment_and_plural() -> None:
    assert moment(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert (plural(1, "key"), plural(2000, "key"), plural(2, "entry", "entries")) == (
        "1 key",
        "2,000 keys",
        "2 entries",
    )
