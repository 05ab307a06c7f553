"""What a run was asked for, and what several benchmarks share: stores of a million results."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.payloads import POOL, pool, results
from benchmarks.peers import JSON_FILES, open_contender
from benchmarks.workers import fresh


@dataclass
class Settings:
    """Options of a run; `folder` is removed at its end."""

    folder: Path
    is_quick: bool = False
    gsm8k: Path | None = None
    _filled: dict[str, Path] = field(default_factory=dict[str, Path])

    def scaled(self, count: int, least: int = 1) -> int:
        """Return `count`, or a tenth of it in a quick run."""
        return max(least, count // 10) if self.is_quick else count

    def turns(self, count: int) -> int:
        """Return how many turns to take."""
        return min(count, 3) if self.is_quick else count

    @property
    def many(self) -> int:
        """How many results stand for "a million"."""
        return self.scaled(1_000_000)

    @property
    def pool_size(self) -> int:
        """How many different texts are drawn."""
        return self.scaled(POOL)

    def new_folder(self, name: str) -> Path:
        """Return an empty folder of that name."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def count_of(self, contender: str) -> int:
        """Return how many results `filled` keeps: a tenth where each is a file."""
        return self.many // 10 if contender == JSON_FILES else self.many

    def filled(self, contender: str) -> Path:
        """Return a folder where a contender keeps `count_of` results; made when first asked for, never changed."""
        if contender not in self._filled:
            path = self.folder / "filled" / contender
            fresh(_fill, contender, path, self.count_of(contender), self.pool_size)
            self._filled[contender] = path
        return self._filled[contender]


def _fill(contender: str, folder: Path, count: int, pool_size: int) -> None:
    opened = open_contender(contender, folder)
    opened.add_many(results(0, count, pool(pool_size)))
    opened.close()
