"""A million puts one after the other, with everything that they entail: sealing, merging, closing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.peak import peak_bytes

from benchmarks.payloads import pool, results
from benchmarks.peers import DISKCACHE, JSON_FILES, JSONL, SQLITE, available, open_contender
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh

_MANY: Final = 1_000_000
_TURNS: Final = 3
_SHARES: Final = {KEEPSTONE: 1, JSONL: 1, SQLITE: 10, DISKCACHE: 50, JSON_FILES: 100}
"""Peers whose cost a put does not change with their number do a part of the puts."""


def run(settings: Settings) -> list[Case]:
    """Return time a put, and memory."""
    memory: dict[str, list[float]] = {}
    contenders: dict[str, Callable[[int], float]] = {}
    # Below three journals there would be hardly any sealing in it.
    many = settings.scaled(_MANY, 120_000)
    for contender in available(*_SHARES):
        count = many // _SHARES[contender]
        memory[contender] = []

        def turn(number: int, contender: str = contender, count: int = count) -> float:
            folder = settings.new_folder(f"sustained-{contender}")
            seconds, peak = fresh(_sustain, contender, folder, count, settings.pool_size)
            shutil.rmtree(folder)
            memory[contender].append(peak)
            return seconds / count * 1e6

        contenders[contender] = turn
    samples = alternate(contenders, 1 if settings.is_quick else _TURNS, warm_up=0)
    note = f"{many:,} puts; " + ", ".join(
        f"{name} {many // share:,}" for name, share in _SHARES.items() if share > 1 and name in samples
    )
    return [
        Case(
            "sustained.process",
            f"{many:,} puts and close, `process`",
            "µs",
            samples,
            notes=(
                "time of a whole process from its first put until close returned, divided by its puts",
                note,
            ),
        ),
        Case("sustained.memory", f"peak memory of {many:,} puts", "MiB", memory),
    ]


def _sustain(contender: str, folder: Path, count: int, pool_size: int) -> tuple[float, float]:
    drawn = pool(pool_size)
    opened = open_contender(contender, folder)
    put = opened.put
    start = time.perf_counter()
    for key, value in results(0, count, drawn):
        put(key, value)
    opened.close()
    return time.perf_counter() - start, peak_bytes() / 2**20
