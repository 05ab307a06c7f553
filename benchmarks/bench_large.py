"""Large content: a file of new, incompressible bytes, against a synced `cp` and tools that keep versions."""

from __future__ import annotations

import functools
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.peak import peak_bytes

from benchmarks.keepers import KEEPERS, available, saved
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh

_BYTES: Final = 2 * 10**9
_BLOCK: Final = 4 * 2**20


def run(settings: Settings) -> list[Case]:
    """Return speed and memory; every turn writes into a new store."""
    folder = settings.new_folder("large")
    source = folder / "made" / "source.bin"
    source.parent.mkdir()
    size = settings.scaled(_BYTES)
    draw = random.Random(3)
    with source.open("wb") as file:
        for _ in range(size // _BLOCK):
            file.write(draw.randbytes(_BLOCK))
        file.write(draw.randbytes(size % _BLOCK))
        file.flush()
        os.fsync(file.fileno())
    memory: dict[str, list[float]] = {KEEPSTONE: []}

    def ingest(_: int) -> float:
        seconds, peak = fresh(_ingest, settings.new_folder("large/store"), source)
        memory[KEEPSTONE].append(peak)
        settings.new_folder("large/store").rmdir()
        return size / seconds / 1e6

    def keep(name: str, _: int) -> float:
        keeper = KEEPERS[name](settings.new_folder("large/keeper"))
        keeper.prepare()
        cost = saved(keeper, source.parent)
        if cost.peak is not None:
            memory.setdefault(name, []).append(cost.peak)
        shutil.rmtree(keeper.folder)
        return size / cost.seconds / 1e6

    calls: dict[str, Callable[[int], float]] = {name: functools.partial(keep, name) for name in available()}
    calls[KEEPSTONE] = ingest
    samples = alternate(calls, settings.turns(4), warm_up=1)
    settings.new_folder("large").rmdir()
    title = f"save a file of {size / 1e9:g} GB of random bytes"
    return [
        Case(
            "large.ingest",
            title,
            "MB/s",
            samples,
            less_is_better=False,
            notes=(
                "source in the page cache; Keepstone in a process that has begun, the others as whole processes",
            ),
        ),
        Case("large.memory", f"{title}, peak memory", "MiB", memory),
    ]


def _ingest(folder: Path, source: Path) -> tuple[float, float]:
    import keepstone.api

    start = time.perf_counter()
    with keepstone.api.open(folder) as store:
        store.save("large", source)
    return time.perf_counter() - start, peak_bytes() / 2**20
