"""A cached storage with packs of random bytes, over one that counts what is asked of it."""

from __future__ import annotations

import random
from pathlib import Path

from tests.storage.slow import SlowStorage

from keepstone.storage.cached import CachedStorage
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.read_cache import ReadCache

PACK = "packs/ab/x"


def cached(folder: Path, **objects: int) -> tuple[CachedStorage, SlowStorage]:
    """A cached storage over one that counts, with packs of so many random bytes."""
    inner = MemoryStorage()
    for name, size in objects.items():
        inner.write_new(f"packs/ab/{name}", random.Random(name).randbytes(size))
    slow = SlowStorage(inner, delay_seconds=0)
    return CachedStorage(slow, ReadCache(folder)), slow


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
