"""What a row of docs/values.md is tried with."""

from __future__ import annotations

import itertools
from pathlib import Path

import keepstone


class Trial:
    """A store of its own, and paths that nothing lies at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self.store = keepstone.open(folder / "store")

    def fresh(self) -> Path:
        """Return a path where nothing is."""
        return self._folder / f"path-{next(self._numbers)}"
