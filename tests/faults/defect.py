"""A defect of the real code: a piece of source text, what takes its place, and the fastest test that notices."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]


class Defect(NamedTuple):
    """What is wrong with the code, and which test says so."""

    name: str
    what: str
    """In words, for docs/defects.md."""
    module: str
    edits: tuple[tuple[str, str], ...]
    """Text that stands once in the module, and what takes its place."""
    test: str
    """As pytest names it."""

    @property
    def path(self) -> Path:
        """The module's file in this checkout."""
        return ROOT / "src" / Path(*self.module.split(".")).with_suffix(".py")
