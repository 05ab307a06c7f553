from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.storage.faulty_calls import FaultyCalls
from tests.storage.local_kinds import DATA

from keepstone.storage.calls import Calls
from keepstone.storage.descriptors import Descriptors, OpenFile
from keepstone.storage.local import LocalStorage


def test_a_pack_is_opened_once_and_a_commit_every_time(tmp_path: Path) -> None:
    calls = FaultyCalls()
    storage = LocalStorage(tmp_path, calls=calls)
    for key in ("packs/ab/x", "log/1"):
        storage.write_new(key, DATA)
        calls.made.clear()
        for _ in range(5):
            assert storage.read_range(key, 10, 13) == b"012"
        assert [name for name, _ in calls.made].count("open") == (1 if key.startswith("packs/") else 5)
    storage.close()
    assert calls.open_fds == set()
    assert storage.read_range("packs/ab/x", 0, 1) == b"0"


def test_many_threads_read_many_packs_through_few_descriptors(tmp_path: Path) -> None:
    calls = FaultyCalls()
    storage = LocalStorage(tmp_path, calls=calls)
    for n in range(100):
        storage.write_hint(f"packs/ab/{n}", b"%03d" % n * 50)
    most = [0]

    def read(seed: int) -> None:
        numbers = random.Random(seed)
        for _ in range(500):
            n, start = numbers.randrange(100), numbers.randrange(50) * 3
            assert storage.read_range(f"packs/ab/{n}", start, start + 3) == b"%03d" % n
            most[0] = max(most[0], len(calls.open_fds))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))

    assert 32 < most[0] <= 64 + 2 * 8
    storage.close()
    assert calls.open_fds == set()


def test_what_was_used_lately_stays_open() -> None:
    files = Descriptors(2)
    for key in ("a", "b"):
        files.keep(key, OpenFile(Calls(), os.open(os.devnull, os.O_RDONLY)), files.generation)
    assert files.get("a") is not None

    files.keep("c", OpenFile(Calls(), os.open(os.devnull, os.O_RDONLY)), files.generation)

    assert files.get("b") is None
    assert files.get("a") is not None
    assert len(files) == 2


def test_a_file_opened_before_a_deletion_is_not_kept() -> None:
    files = Descriptors(2)
    before = files.generation
    files.drop("a")

    files.keep("a", OpenFile(Calls(), os.open(os.devnull, os.O_RDONLY)), before)

    assert files.get("a") is None
