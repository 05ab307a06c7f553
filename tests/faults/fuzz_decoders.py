"""Every decoder of stored bytes, fed with what `fuzz_mutations` makes of valid bytes.

Runs in a process of its own, which may take only so much memory: `python -m tests.faults.fuzz_decoders SEED COUNT`.
What comes out is a value or an error of ours; anything else is told as a crash, with the input that made it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.faults import fuzz_frames, fuzz_handed_on, fuzz_journals, fuzz_log, fuzz_packs, fuzz_values
from tests.faults.fuzz_mutations import bomb, noise
from tests.faults.fuzz_target import Target
from tests.peak import peak_bytes

from keepstone.foundation.errors import KeepstoneError

MEMORY_BYTES = 640 * 1024 * 1024
"""On top of what the process has when it begins: twice the largest size that one footer may have, and some."""
SECONDS_MAX = 5.0
"""One input that takes longer counts as a crash."""


def targets() -> list[Target]:
    """Return every decoder."""
    modules = (fuzz_frames, fuzz_packs, fuzz_log, fuzz_values, fuzz_journals, fuzz_handed_on)
    return [target for module in modules for target in module.targets()]


class Crash(NamedTuple):
    """What must not come out of a decoder."""

    target: str
    error: str
    input: str
    """In hex, its beginning."""


def inputs(target: Target, seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` inputs for a decoder: the valid ones, noise, and above all mutations."""
    chance = random.Random(f"{target.name} {seed}")
    yield from target.seeds
    yield b""
    for _ in range(count - len(target.seeds) - 1):
        share = chance.random()
        if share < 0.03:
            yield noise(chance)
        elif share < 0.05:
            yield bomb(chance)
        else:
            yield target.make(chance, chance.choice(target.seeds), target.seeds)


def fuzz(target: Target, seed: int, count: int) -> tuple[int, int, list[Crash]]:
    """Return how many inputs were decoded, how many refused, and what else happened."""
    decoded = refused = 0
    crashes: list[Crash] = []
    for data in inputs(target, seed, count):
        begun = time.process_time()
        try:
            target.decode(data)
            decoded += 1
        except KeepstoneError:
            refused += 1
        except BaseException as error:
            crashes.append(Crash(target.name, f"{type(error).__name__}: {error}"[:200], data[:4_000].hex()))
        if time.process_time() - begun > SECONDS_MAX:
            crashes.append(Crash(target.name, "took too long", data[:4_000].hex()))
        if len(crashes) >= 20:
            break
    return decoded, refused, crashes


def main(seed: int, count: int, names: list[str]) -> None:
    """Fuzz every decoder (or those of `names`) `count` times, and print what happened as JSON."""
    chosen = [target for target in targets() if not names or target.name in names]
    with open("/proc/self/statm") as file:
        begun = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (begun + MEMORY_BYTES, begun + MEMORY_BYTES))
    results: dict[str, Any] = {}
    crashes: list[Crash] = []
    for target in chosen:
        decoded, refused, found = fuzz(target, seed, count)
        results[target.name] = {"decoded": decoded, "refused": refused, "peak_bytes": peak_bytes()}
        crashes += found
    report = {
        "targets": results,
        "executions": sum(counts["decoded"] + counts["refused"] for counts in results.values())
        + len(crashes),
        "crashes": [crash._asdict() for crash in crashes],
        "peak_bytes": peak_bytes(),
        "cpu_seconds": time.process_time(),
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
