"""The next version of what is there already: what it costs in time, disk and memory, with tools that keep versions."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Final

from tests.servers.program import ServerFailedError

from benchmarks.keepers import KEEPERS, Cost, available, saved
from benchmarks.peers import disk_bytes
from benchmarks.settings import Settings
from benchmarks.timing import Case
from benchmarks.versions import SUCCESSIONS, Succession
from benchmarks.workers import fresh

_TURNS: Final = 3
AS_VALUES: Final = "Keepstone, as a value"
"""The checkpoint itself, given to `store.save`, instead of a file of it."""


def run(settings: Settings) -> list[Case]:
    """Return, for each succession, what its next versions took; every turn begins in new places."""
    tools = available()
    cases: list[Case] = []
    for succession in SUCCESSIONS:
        folder = settings.new_folder(f"versions-{succession.id}")
        try:
            versions = succession.make(settings, folder / "made")
        except ServerFailedError as error:
            sys.stderr.write(f"without {succession.id}: {error}\n")
            continue
        cases += _Measured(settings, succession, folder, versions, tools).cases()
        if not succession.has_many_files:
            shutil.rmtree(folder)
    return cases


class _Measured:
    def __init__(
        self, settings: Settings, succession: Succession, folder: Path, versions: list[Path], tools: list[str]
    ) -> None:
        self._turns = settings.turns(_TURNS if succession.is_in_turns else 1)
        self._succession = succession
        self._folder = folder
        self._versions = versions
        self._tools = tools
        self._seconds: dict[str, list[float]] = {name: [] for name in tools}
        self._first: dict[str, list[float]] = {name: [] for name in tools}
        self._added: dict[str, list[float]] = {name: [] for name in tools}
        self._peak: dict[str, list[float]] = {name: [] for name in tools}

    def cases(self) -> list[Case]:
        """Measure all, and return the cases."""
        for turn in range(self._turns):
            self._turn(turn)
        if self._succession.id == "checkpoints":
            self._as_values()
        made = [disk_bytes(version) / 2**20 for version in self._versions]
        title, subject = self._succession.title, f"versions.{self._succession.id}"
        note = (
            f"{len(self._versions)} versions of {made[0]:,.0f} MiB each, in the page cache; whole processes, with each "
            "tool's own defaults"
        )
        only = {name: values for name, values in self._peak.items() if values}
        return [
            Case(f"{subject}.first", f"{title}: the first version", "s", self._first, notes=(note,)),
            Case(subject, f"{title}: what follows", "s", self._seconds),
            Case(f"{subject}.added", f"{title}: added to the disk by what follows", "MiB", self._added),
            Case(f"{subject}.memory", f"{title}: peak memory", "MiB", only),
        ]

    def _turn(self, turn: int) -> None:
        work = self._folder / f"work-{turn}"
        keepers = {name: KEEPERS[name](work / str(number)) for number, name in enumerate(self._tools)}
        for keeper in keepers.values():
            keeper.prepare()
        costs: dict[str, list[Cost]] = {name: [] for name in self._tools}
        begun: dict[str, int] = {}
        start = turn % len(self._tools)
        for version in self._versions:
            for name in self._tools[start:] + self._tools[:start]:
                costs[name].append(saved(keepers[name], version))
                begun.setdefault(name, keepers[name].kept_bytes())
        for name, taken in costs.items():
            self._first[name].append(taken[0].seconds)
            self._seconds[name].append(sum(cost.seconds for cost in taken[1:]))
            self._added[name].append((keepers[name].kept_bytes() - begun[name]) / 2**20)
            if peaks := [cost.peak for cost in taken if cost.peak is not None]:
                self._peak[name].append(max(peaks))
        if not self._succession.has_many_files:
            shutil.rmtree(work)

    def _as_values(self) -> None:
        place = self._folder / "values"
        paths = [version / "checkpoint.pt" for version in self._versions]
        seconds, begun, kept = fresh(_save_values, place, paths)
        self._first[AS_VALUES] = [seconds[0]]
        self._seconds[AS_VALUES] = [sum(seconds[1:])]
        self._added[AS_VALUES] = [(kept - begun) / 2**20]
        shutil.rmtree(place)


def _save_values(folder: Path, paths: list[Path]) -> tuple[list[float], int, int]:
    import torch

    import keepstone.api

    seconds: list[float] = []
    begun = 0
    for path in paths:
        checkpoint = torch.load(path, weights_only=True)
        start = time.perf_counter()
        with keepstone.api.open(folder) as store:
            store.save("checkpoint", checkpoint)
        seconds.append(time.perf_counter() - start)
        begun = begun or disk_bytes(folder, without=("cache",))
    return seconds, begun, disk_bytes(folder, without=("cache",))
