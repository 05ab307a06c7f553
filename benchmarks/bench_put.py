"""One put: what a single save costs at each level, with one worker, 8 processes and 8 threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

from benchmarks.peers import DISKCACHE, JOBLIB, JSON_FILES, JSONL, SQLITE, Level, available
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import Crew, CrewAtWork


class _Plan(NamedTuple):
    level: Level
    processes: int
    threads: int
    turns: int
    counts: dict[str, int]
    """Puts of each worker in a turn; slower contenders do fewer. Keepstone's fit into one journal (no sealing)."""


_ALL: Final = {KEEPSTONE: 2000, JSONL: 2000, SQLITE: 1000, DISKCACHE: 300, JSON_FILES: 300, JOBLIB: 50}
_MANY: Final = {KEEPSTONE: 400, JSONL: 400, SQLITE: 100, DISKCACHE: 40}
_SYNCED: Final = {KEEPSTONE: 50, JSONL: 50, SQLITE: 50, DISKCACHE: 20, JSON_FILES: 50}
_SYNCED_MANY: Final = {KEEPSTONE: 25, JSONL: 25, SQLITE: 15, JSON_FILES: 15}
_PUBLISHED: Final = {KEEPSTONE: 20, SQLITE: 20, JSON_FILES: 20}
_PUBLISHED_MANY: Final = {KEEPSTONE: 5, SQLITE: 10, JSON_FILES: 10}
_PLANS: Final = (
    _Plan("process", 1, 1, 12, _ALL),
    _Plan("process", 8, 1, 9, _MANY),
    _Plan("process", 1, 8, 9, _MANY),
    _Plan("disk", 1, 1, 9, _SYNCED),
    _Plan("disk", 8, 1, 9, _SYNCED_MANY),
    _Plan("disk", 1, 8, 9, _SYNCED_MANY),
    _Plan("store", 1, 1, 7, _PUBLISHED),
    _Plan("store", 8, 1, 5, _PUBLISHED_MANY),
    _Plan("store", 1, 8, 5, _PUBLISHED_MANY),
)
_LEFT_OUT: Final = (_PLANS[1], _PLANS[2], _PLANS[4], *_PLANS[7:])
"""Not in a quick run: starting many processes takes most of its time."""
_PEERS_DO: Final = {
    "process": "a write; SQLite and diskcache WAL with synchronous=NORMAL",
    "disk": "fsync; SQLite and diskcache synchronous=FULL; files fsync + rename",
    "store": "SQLite synchronous=FULL; files fsync + rename + fsync of the folder",
}


def run(settings: Settings) -> list[Case]:
    """Return a case for each level and kind of crew."""
    plans = [plan for plan in _PLANS if not (settings.is_quick and plan in _LEFT_OUT)]
    return [_case(settings, plan) for plan in plans]


def _case(settings: Settings, plan: _Plan) -> Case:
    workers = plan.processes * plan.threads
    crew_name = {(1, 1): "1 worker", (8, 1): "8 processes", (1, 8): "8 threads"}[plan.processes, plan.threads]
    name = f"put.{plan.level}.{plan.processes}x{plan.threads}"
    folder = settings.new_folder(name)
    contenders: dict[str, Callable[[int], float]] = {}
    with ExitStack() as stack:
        for contender in available(*plan.counts):
            crew = Crew(contender, folder / contender, plan.level, plan.processes, plan.threads)
            crew_at_work = stack.enter_context(CrewAtWork(crew))
            # What only writes is over in milliseconds; fewer puts would measure how they begin.
            full = plan.counts[contender]
            count = full if plan.level == "process" else settings.scaled(full, 5)

            def turn(number: int, at_work: CrewAtWork = crew_at_work, count: int = count) -> float:
                return at_work.seconds("put", number, count) / (count * workers) * 1e6

            contenders[contender] = turn
        samples = alternate(contenders, settings.turns(plan.turns))
    settings.new_folder(name).rmdir()
    return Case(
        name,
        f"put one result of 1.5 KB, `{plan.level}`, {crew_name}",
        "µs",
        samples,
        notes=(f"time of all workers together divided by their puts; peers: {_PEERS_DO[plan.level]}",),
    )
