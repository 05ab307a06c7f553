"""Loading results at random out of a million, in a process that has the store open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from benchmarks.peers import DISKCACHE, JSON_FILES, SQLITE, available
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import Crew, CrewAtWork

_COUNTS: Final = {KEEPSTONE: 2000, DISKCACHE: 2000, SQLITE: 2000, JSON_FILES: 2000}
_TURNS: Final = 11


def run(settings: Settings) -> list[Case]:
    """Return the time of one load, with one worker and with 8 threads."""
    return [_case(settings, threads) for threads in ((1,) if settings.is_quick else (1, 8))]


def _case(settings: Settings, threads: int) -> Case:
    names = [name for name in available(*_COUNTS) if not (settings.is_quick and name == JSON_FILES)]
    contenders: dict[str, Callable[[int], float]] = {}
    with ExitStack() as stack:
        for name in names:
            keys = settings.count_of(name)
            crew = Crew(name, settings.filled(name), threads=threads, keys=keys)
            crew_at_work = stack.enter_context(CrewAtWork(crew))
            count = _COUNTS[name] // threads

            def turn(number: int, at_work: CrewAtWork = crew_at_work, count: int = count) -> float:
                return at_work.seconds("get", number, count) / (count * threads) * 1e6

            contenders[name] = turn
        samples = alternate(contenders, settings.turns(_TURNS), warm_up=2)
    return Case(
        f"load.random.1x{threads}",
        f"load one of {settings.many:,} at random, {'1 worker' if threads == 1 else f'{threads} threads'}",
        "µs",
        samples,
        notes=(
            "page cache warm; Keepstone verifies the digest of every load, the peers verify nothing",
            *(f"{name}: out of {settings.count_of(name):,}" for name in names if name == JSON_FILES),
        ),
    )
