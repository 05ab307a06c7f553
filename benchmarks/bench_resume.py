"""Resuming: a fresh process opens a store of a million results and finds out what is missing."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.payloads import pool, results
from benchmarks.peers import DISKCACHE, JSONL, SQLITE, Keepstone, available, open_contender
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh, run_until_killed

_JOURNAL_BYTES: Final = 60 * 2**20
"""What each killed worker leaves; just below what is sealed."""
_KILLED: Final = 2
_NO_CATALOG, _UNSEALED = "without catalog", "with journals"
_MODULES: Final = {KEEPSTONE: "keepstone.api", DISKCACHE: "diskcache"}


def run(settings: Settings) -> list[Case]:
    """Return what is missing (all contenders; without catalog; with journals of killed workers) and membership."""
    return [*_missing(settings), *_member(settings)]


def _missing(settings: Settings) -> list[Case]:
    store = settings.filled(KEEPSTONE)
    journals = _left_by_killed_workers(settings, store)
    journal_bytes = sum(path.stat().st_size for path in journals.iterdir())
    many = settings.many

    def ask(name: str) -> float:
        return fresh(_resume, name, settings.filled(name), many)

    contenders: dict[str, Callable[[int], float]] = {
        name: lambda _, name=name: ask(name) for name in available(KEEPSTONE, DISKCACHE, SQLITE, JSONL)
    }
    contenders[_NO_CATALOG] = lambda _: _exchanged(store / "cache", None, lambda: ask(KEEPSTONE))
    contenders[_UNSEALED] = lambda _: _exchanged(store / "journals", journals, lambda: ask(KEEPSTONE))
    samples = alternate(contenders, settings.turns(5))
    without, unsealed = samples.pop(_NO_CATALOG), samples.pop(_UNSEALED)
    share = journal_bytes / (64 * 2**20)
    extra = [(more - less) / share for more, less in zip(unsealed, samples[KEEPSTONE], strict=True)]
    title = f"open {many:,} results, ask for {many:,} keys"
    return [
        Case("resume.missing", title, "s", samples, notes=("fresh process, half of the keys are there",)),
        Case("resume.no_catalog", f"{title}, cache/ deleted", "s", {KEEPSTONE: without}),
        Case(
            "resume.unsealed",
            "the same, more for 64 MiB of unsealed journals",
            "s",
            {KEEPSTONE: extra},
            notes=(f"{_KILLED} workers killed with SIGKILL left {journal_bytes / 2**20:.0f} MiB",),
        ),
    ]


def _resume(contender: str, folder: Path, many: int) -> float:
    asked = [f"q{number:08d}" for number in range(many // 2, many // 2 + many)]
    if contender in _MODULES:
        importlib.import_module(_MODULES[contender])
    start = time.perf_counter()
    opened = open_contender(contender, folder)
    if isinstance(opened, Keepstone):
        missing = list(opened.collection.missing(asked))
    else:
        present = set(opened.keys())
        missing = [key for key in asked if key not in present]
    seconds = time.perf_counter() - start
    opened.close()
    if len(missing) != many // 2:
        raise AssertionError(f"{contender} misses {len(missing):,} of {many:,} keys")
    return seconds


def _left_by_killed_workers(settings: Settings, store: Path) -> Path:
    """Return a folder of journals that workers of `store` left when they were killed; the store is as before."""
    size = settings.scaled(_JOURNAL_BYTES)
    kept, aside = settings.folder / "killed-journals", settings.folder / "journals-before"
    (store / "journals").rename(aside)
    for number in range(_KILLED):
        run_until_killed(_write_and_die, store, (number + 1) * 100_000_000, size, settings.pool_size)
    (store / "journals").rename(kept)
    aside.rename(store / "journals")
    return kept


def _write_and_die(store: Path, first: int, size: int, pool_size: int) -> None:
    known: set[str] = set(os.listdir(store / "journals")) if (store / "journals").exists() else set()
    opened = Keepstone(store, "process")
    for key, value in results(first, first + 1_000_000, pool(pool_size)):
        opened.put(key, value)
        if (int(key[1:]) - first) % 100 == 0:
            own = [path for path in (store / "journals").iterdir() if path.name not in known]
            if sum(path.stat().st_size for path in own) >= size:
                os.kill(os.getpid(), signal.SIGKILL)


def _exchanged(place: Path, instead: Path | None, call: Callable[[], float]) -> float:
    """Return what `call` gives while `instead` (nothing) stands at `place`."""
    aside = place.with_name(f".{place.name}-aside")
    place.rename(aside)
    try:
        if instead:
            instead.rename(place)
        return call()
    finally:
        if instead:
            place.rename(instead)
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)


def _member(settings: Settings) -> list[Case]:
    names = available(KEEPSTONE, DISKCACHE, SQLITE)
    asked: dict[str, list[float]] = {name: [] for name in names}
    is_cold = hasattr(os, "posix_fadvise")

    def turn(name: str, number: int) -> float:
        folder = settings.filled(name)
        if is_cold:
            _drop_from_page_cache(folder)
        opening, asking = fresh(_ask_one, name, folder, f"q{number * 7919 % settings.many:08d}")
        if number:
            asked[name].append(asking * 1e3)
        return (opening + asking) * 1e3

    turns: dict[str, Callable[[int], float]] = {
        name: lambda number, name=name: turn(name, number) for name in names
    }
    both = alternate(turns, settings.turns(15))
    cold = "page cache dropped by posix_fadvise" if is_cold else "page cache warm"
    notes = (f"fresh process, {cold}",)
    title = f"one key among {settings.many:,}"
    return [
        Case("resume.member", f"{title}: is it there, after a cold open", "ms", asked, notes=notes),
        Case("resume.open_member", f"{title}: open and is it there", "ms", both, notes=notes),
    ]


def _ask_one(contender: str, folder: Path, key: str) -> tuple[float, float]:
    if contender in _MODULES:
        importlib.import_module(_MODULES[contender])
    start = time.perf_counter()
    opened = open_contender(contender, folder)
    middle = time.perf_counter()
    if isinstance(opened, Keepstone):
        is_there = key in opened.collection
    else:
        is_there = opened.get(key) is not None
    end = time.perf_counter()
    opened.close()
    if not is_there:
        raise AssertionError(f"{contender} lost {key}")
    return middle - start, end - middle


def _drop_from_page_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            # Only clean pages can be dropped.
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
