"""Checking: `fsck --read-data` on packs that the page cache holds, against hashing the same bytes.

Seconds are those of the processor, so that what else runs on the machine does not count: bytes a second of one core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.peak import peak_bytes

from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh

LARGE_BYTES = 64_000_000
"""Of each artifact in the store of large content."""


def run(settings: Settings) -> list[Case]:
    """Return bytes of packs checked a second of one core, and the memory that it takes."""
    large = settings.new_folder("fsck-large")
    fresh(_save_large, large, settings.scaled(10, 2))
    records = settings.filled(KEEPSTONE)
    cases = [
        _speed(settings, "fsck.read_data", "`fsck --read-data`, records of 1.5 KB", records),
        _speed(settings, "fsck.large", "`fsck --read-data`, large content", large),
    ]
    memory = {KEEPSTONE: [fresh(_peak, folder) for folder in (records, large)]}
    return [*cases, Case("fsck.memory", "`fsck --read-data`: peak memory of the process", "MiB", memory)]


def _speed(settings: Settings, case: str, title: str, store: Path) -> Case:
    size = sum(path.stat().st_size for path in (store / "packs").rglob("*") if path.is_file())
    calls: dict[str, Callable[[int], float]] = {
        KEEPSTONE: lambda _: size / fresh(_check, store) / 1e9,
        "BLAKE3 alone": lambda _: size / fresh(_hash, store) / 1e9,
    }
    samples = alternate(calls, settings.turns(5))
    note = f"{size / 1e6:.0f} MB of packs, page cache warm; seconds of the processor, one thread"
    return Case(case, title, "GB/s", samples, less_is_better=False, notes=(note,))


def _save_large(folder: Path, count: int) -> None:
    import keepstone

    with keepstone.open(folder) as store:
        for i in range(count):
            store.save(f"large/{i}", os.urandom(LARGE_BYTES))


def _check(folder: Path) -> float:
    from keepstone.operations.fsck import fsck_location

    start = time.process_time()
    report = fsck_location(str(folder), read_data=True)
    seconds = time.process_time() - start
    if report.damage:
        raise AssertionError(f"fsck finds {report.damage[0]}")
    return seconds


def _peak(folder: Path) -> float:
    _check(folder)
    return peak_bytes() / 2**20


def _hash(folder: Path) -> float:
    from blake3 import blake3

    start = time.process_time()
    for path in (folder / "packs").rglob("*"):
        if path.is_file():
            hasher = blake3()
            with path.open("rb", buffering=0) as file:
                while data := file.read(256 * 1024):
                    hasher.update(data)
            hasher.digest()
    return time.process_time() - start
