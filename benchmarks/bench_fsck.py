"""Checking: `fsck --read-data` on packs that the page cache holds, against hashing the same bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh


def run(settings: Settings) -> list[Case]:
    """Return bytes of packs checked a second."""
    store = settings.filled(KEEPSTONE)
    size = sum(path.stat().st_size for path in (store / "packs").rglob("*") if path.is_file())
    calls: dict[str, Callable[[int], float]] = {
        KEEPSTONE: lambda _: size / fresh(_check, store) / 1e9,
        "BLAKE3 alone": lambda _: size / fresh(_hash, store) / 1e9,
    }
    samples = alternate(calls, settings.turns(5))
    note = f"{size / 1e6:.0f} MB of packs, {settings.many:,} results; page cache warm; BLAKE3 with one thread"
    return [
        Case("fsck.read_data", "`fsck --read-data`", "GB/s", samples, less_is_better=False, notes=(note,))
    ]


def _check(folder: Path) -> float:
    from keepstone.operations.fsck import fsck_location

    start = time.perf_counter()
    report = fsck_location(str(folder), read_data=True)
    seconds = time.perf_counter() - start
    if report.damage:
        raise AssertionError(f"fsck finds {report.damage[0]}")
    return seconds


def _hash(folder: Path) -> float:
    from blake3 import blake3

    start = time.perf_counter()
    for path in (folder / "packs").rglob("*"):
        if path.is_file():
            blake3(path.read_bytes()).digest()
    return time.perf_counter() - start
