"""Commits: how many artifacts a second can be saved, by one process and by 8, and what a long history costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.peers import JSON_FILES, SQLITE, Keepstone, available
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import Crew, CrewAtWork, fresh

_COUNT: Final = 40
_TURNS: Final = 7
_HISTORY: Final = 100_000


def run(settings: Settings) -> list[Case]:
    """Return commits a second, the longest wait among 8 writers, and the time to open a long history."""
    return [*_rates(settings, 1), *_rates(settings, 8), _open(settings)]


def _rates(settings: Settings, processes: int) -> list[Case]:
    name = f"commits.{processes}x1"
    folder = settings.new_folder(name)
    count = max(5, settings.scaled(_COUNT, 10) // (2 if processes > 1 else 1))
    turns = settings.turns(_TURNS)
    longest: dict[str, list[float]] = {}
    contenders: dict[str, Callable[[int], float]] = {}
    with ExitStack() as stack:
        for contender in available(KEEPSTONE, SQLITE, JSON_FILES):
            crew = Crew(contender, folder / contender, "store", processes)
            crew_at_work = stack.enter_context(CrewAtWork(crew))
            waits = longest[contender] = []

            def turn(number: int, at_work: CrewAtWork = crew_at_work, waits: list[float] = waits) -> float:
                spans = at_work.run("save", number, count)
                waits.append(max(span.longest for span in spans) * 1e3)
                return count * processes / (max(s.end for s in spans) - min(s.start for s in spans))

            contenders[contender] = turn
        rates = alternate(contenders, turns)
    saved = fresh(_count_names, folder / KEEPSTONE)
    if saved != count * processes * (turns + 1):
        raise AssertionError(f"{saved} of {count * processes * (turns + 1)} saves are there")
    settings.new_folder(name).rmdir()
    crew_name = "1 process" if processes == 1 else f"{processes} processes"
    notes = (
        "peers: SQLite synchronous=FULL, one transaction each; files fsync + rename + fsync of the folder",
    )
    title = f"save small artifacts, {crew_name}"
    return [
        Case(name, f"{title}, commits a second", "/s", rates, less_is_better=False, notes=notes),
        Case(f"{name}.longest", f"{title}, longest wait", "ms", longest),
    ]


def _count_names(folder: Path) -> int:
    import keepstone

    with keepstone.open(folder, mode="r") as store:
        return len(store.names("models/"))


def _open(settings: Settings) -> Case:
    commits = settings.scaled(_HISTORY)
    folder = settings.new_folder("history")
    contenders: dict[str, Callable[[int], float]] = {}
    for title, count in (("Keepstone, 10 commits", 10), (KEEPSTONE, commits)):
        path = folder / title
        fresh(_save_many, path, count)
        contenders[title] = lambda _, path=path: fresh(_open_seconds, path) * 1e3
    samples = alternate(contenders, settings.turns(15))
    settings.new_folder("history").rmdir()
    return Case(
        "commits.open",
        f"open a store after {commits:,} commits",
        "ms",
        samples,
        notes=("fresh process, keepstone imported",),
    )


def _save_many(folder: Path, count: int) -> None:
    opened = Keepstone(folder, "store")
    for number in range(count):
        opened.store.save(f"models/{number % 100}", {"number": number})
    opened.close()


def _open_seconds(folder: Path) -> float:
    import keepstone.api

    start = time.perf_counter()
    store = keepstone.api.open(folder)
    seconds = time.perf_counter() - start
    store.close()
    return seconds
