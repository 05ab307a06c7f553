"""Tables: columns aligned by what a terminal shows, not by how many characters there are.

Layer: cli. `rich` draws them where it is installed and a person is looking.
"""

from __future__ import annotations

import importlib
import importlib.util
import unicodedata
from collections.abc import Sequence
from typing import Any

_GAP = "  "
_VARIATION_SELECTOR_16 = "\ufe0f"


def display_width(text: str) -> int:
    """Return how many terminal cells `text` takes."""
    if text.isascii():
        return len(text)
    width, previous = 0, 0
    joined = False
    for character in text:
        cells = 0 if joined else _cells(character)
        if character == _VARIATION_SELECTOR_16 and previous == 1:
            cells = 1  # the character before it is shown as an emoji, two cells wide
        joined = character == "\u200d"
        previous = cells or previous
        width += cells
    return width


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def render(rows: Sequence[Sequence[str]], headers: Sequence[str], right: Sequence[bool]) -> str:
    """Return the table as text, one line a row, ending in a line end."""
    lines = [list(headers), *rows]
    widths = [max(display_width(line[i]) for line in lines) for i in range(len(headers))]
    return "".join(_line(line, widths, right) + "\n" for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded: list[str] = []
    for cell, width, is_right in zip(cells, widths, right, strict=True):
        space = " " * (width - display_width(cell))
        padded.append(space + cell if is_right else cell + space)
    return _GAP.join(padded).rstrip()


def print_rich(rows: Sequence[Sequence[str]], headers: Sequence[str], right: Sequence[bool]) -> bool:
    """Draw the table with `rich` on standard output; False (and nothing drawn) where it is not installed."""
    if importlib.util.find_spec("rich") is None:
        return False
    # `rich` is an extra: its types are not there to be checked.
    rich_table: Any = importlib.import_module("rich.table")
    rich_text: Any = importlib.import_module("rich.text")
    rich_console: Any = importlib.import_module("rich.console")
    table = rich_table.Table(box=None, pad_edge=False, header_style="bold")
    for header, is_right in zip(headers, right, strict=True):
        table.add_column(header, justify="right" if is_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(rich_text.Text(cell) for cell in row))
    rich_console.Console(highlight=False).print(table)
    return True
