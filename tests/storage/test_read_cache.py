"""The read cache: right bytes or none, within its bound, whoever shares it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.cached_packs import PACK, cached, files_of
from tests.storage.faulty_calls import FaultyCalls

from keepstone.foundation.errors import ObjectNotFoundError
from keepstone.storage.cached import CachedStorage
from keepstone.storage.read_cache import ReadCache

KIB, MIB = 1024, 1024 * 1024


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- what is served ------------------------------------------------------------------------------------------------


def test_parts_and_joined_neighbours_of_what_is_kept_are_served(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=MIB)
    data = slow.inner.read(PACK)
    storage.read_range(PACK, 100, 200_000)
    storage.read_range(PACK, 200_000, 300_000)
    slow.forget()

    for start, end in [(100, 300_000), (150, 160), (199_999, 200_001), (65_635, 65_637), (299_999, 300_000)]:
        assert storage.read_range(PACK, start, end) == data[start:end]
    assert not slow.requests
    assert storage.read_range(PACK, 99, 101) == data[99:101]
    assert len(slow.requests) == 1


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=30), st.randoms())
def test_any_reads_in_any_order_give_the_object_s_bytes(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]], source: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    storage, slow = cached(folder, x=2000)
    data = slow.inner.read(PACK)
    for start, size in ranges:
        if source.random() < 0.2:
            storage = CachedStorage(slow, ReadCache(folder))
        assert storage.read_range(PACK, start, start + size) == data[start : start + size]
        assert storage.size(PACK) == 2000


def test_the_end_of_an_object_is_known_once_it_was_read(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=1000)
    assert storage.read_range(PACK, 0, 16 * KIB) == slow.inner.read(PACK)
    slow.forget()

    assert storage.read_range(PACK, 500, 99_999) == slow.inner.read(PACK)[500:]
    assert storage.read_range(PACK, 5_000, 6_000) == b""
    assert storage.read(PACK) == slow.inner.read(PACK)
    assert not slow.requests


def test_the_size_says_that_an_object_is_there_unless_one_is_offline(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=1000)
    assert len(storage.read(PACK)) == storage.size(PACK) == 1000

    slow.inner.delete(PACK)

    with pytest.raises(ObjectNotFoundError):
        storage.size(PACK)
    assert CachedStorage(slow, ReadCache(tmp_path), offline=True).size(PACK) == 1000


def test_last_and_absence_are_never_kept(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path)
    for _ in range(2):
        with pytest.raises(ObjectNotFoundError):
            storage.read_range("log/00000000000000000007", 0, 10)
    storage.write_hint("checkpoints/LAST", b"one")
    slow.inner.write_hint("checkpoints/LAST", b"two")
    assert storage.read("checkpoints/LAST") == b"two"
    slow.inner.write_new("log/00000000000000000007", b"a commit")

    assert storage.read("log/00000000000000000007") == b"a commit"


def test_a_trimmed_commit_stays_what_it_was(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path)
    key = "log/00000000000000000001"
    slow.inner.write_new(key, b"header" + b"inline" * 10_000)
    assert storage.read_range(key, 0, 16 * KIB)[:6] == b"header"
    slow.inner.write_hint(key, b"header")

    assert storage.read_range(key, 0, 16 * KIB)[6:12] == b"inline"
    assert storage.read_range(key, 16 * KIB, 20 * KIB) == b""
    assert storage.read_range(key, 0, 6) == b"header"


def test_what_is_written_and_small_is_kept_and_what_is_deleted_is_not(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path)
    storage.write_new(PACK, b"small")
    storage.write_new("packs/ab/large", bytes(2 * MIB))
    slow.forget()
    assert storage.read(PACK) == b"small"
    assert not slow.requests
    storage.read("packs/ab/large")
    assert slow.requests == [("read", "packs/ab/large")]
    storage.delete(PACK)

    with pytest.raises(ObjectNotFoundError):
        storage.read(PACK)


def test_what_is_forgotten_is_not_found_in_what_others_kept_of_it(tmp_path: Path) -> None:
    key = "log/00000000000000000007"
    ReadCache(tmp_path).put(key, 0, b"old commit", ends=True)
    other = ReadCache(tmp_path)
    other.put(key, 0, b"old", ends=False)
    (tmp_path / "2").mkdir()
    other = ReadCache(tmp_path)
    other.put(key, 0, b"old commit", ends=True)
    assert len(files_of(tmp_path)) == 3

    other.forget(key)

    assert files_of(tmp_path) == []
    assert ReadCache(tmp_path).get(key, 0, 3) is None


def test_what_is_larger_than_an_entry_is_kept_in_pieces(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=40 * MIB)
    data = storage.read(PACK)
    slow.forget()

    assert len(files_of(tmp_path)) == 3
    assert storage.read(PACK) == data
    assert not slow.requests


# ---- the bound -----------------------------------------------------------------------------------------------------


def test_the_bound_holds_and_what_is_used_stays(tmp_path: Path) -> None:
    bytes_max = 2 * MIB
    cache = ReadCache(tmp_path, bytes_max=bytes_max)
    block = random.Random(1).randbytes(12 * KIB)
    cache.put("packs/ab/used", 0, block, ends=True)
    for number in range(600):
        cache.put(f"packs/ab/{number}", 0, block, ends=True)
        assert cache.get("packs/ab/used", 5, 5_000) == block[5:5_000]
        if number % 50 == 0:
            assert bytes_in(tmp_path) <= bytes_max
    kept = [n for n in range(600) if ReadCache(tmp_path).get(f"packs/ab/{n}", 0, 10) is not None]

    # What came last, without a gap; a third of the bound, since 12 KiB are counted as 20 with header and folder.
    assert kept == list(range(kept[0], 600))
    assert len(kept) * 12 * KIB > bytes_max / 3
    assert bytes_in(tmp_path) <= bytes_max


def test_a_call_costs_the_same_however_much_is_kept(tmp_path: Path) -> None:
    calls = FaultyCalls()
    cache = ReadCache(tmp_path, bytes_max=6 * MIB, calls=calls)
    costs: list[int] = []
    for number in range(1_600):
        before = len(calls.made)
        cache.put(f"packs/ab/{number}", 0, b"x" * 100, ends=True)
        costs.append(len(calls.made) - before)

    # The worst: a generation begins.
    assert max(costs) <= 60
    assert sum(costs[-300:]) <= 1.5 * sum(costs[300:600])


def test_a_smaller_bound_takes_effect_with_what_comes(tmp_path: Path) -> None:
    large = ReadCache(tmp_path, bytes_max=4 * MIB)
    for number in range(200):
        large.put(f"packs/ab/{number}", 0, bytes(12 * KIB), ends=True)
    small = ReadCache(tmp_path, bytes_max=MIB)
    for number in range(200):
        small.put(f"packs/cd/{number}", 0, bytes(4 * KIB), ends=True)

    assert bytes_in(tmp_path) <= MIB


def test_without_room_nothing_is_kept(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path / "cache", bytes_max=0)
    cache.put(PACK, 0, b"bytes", ends=True)

    assert cache.get(PACK, 0, 5) is None
    assert not (tmp_path / "cache").exists()


# ---- many at once --------------------------------------------------------------------------------------------------

_WORK = """
import random, sys
from keepstone.storage.read_cache import ReadCache
folder, seed = sys.argv[1:]
source = random.Random(int(seed))
cache = ReadCache(folder, bytes_max=2 * 2**20)
print("ready", flush=True)
rounds = 0
while rounds < 600:
    rounds += 1
    name = source.randrange(60)
    start = source.randrange(50_000)
    end = start + source.randrange(1, 20_000)
    data = random.Random(name).randbytes(70_000)[start:end]
    found = cache.get(f"packs/ab/{name}", start, end)
    if found is None:
        cache.put(f"packs/ab/{name}", start, data, ends=False)
    elif found != data:
        sys.exit("wrong bytes")
print(cache.counts.hits, cache.counts.damaged, flush=True)
"""


def workers(folder: Path, count: int) -> list[subprocess.Popen[str]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WORK, str(folder), str(seed)], stdout=subprocess.PIPE, text=True
        )
        for seed in range(count)
    ]
    for worker in started:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    return started


def test_many_processes_share_it_and_some_are_killed(tmp_path: Path) -> None:
    shared = workers(tmp_path, 4)
    for worker in shared[:2]:
        time.sleep(0.2)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    hits = 0
    for worker in shared[2:]:
        assert worker.stdout is not None
        found, damaged = map(int, worker.stdout.read().split())
        assert worker.wait() == 0
        # Files get their names when they are whole.
        assert damaged == 0
        hits += found
    for worker in shared:
        assert worker.stdout is not None
        worker.stdout.close()

    assert hits > 0
    assert bytes_in(tmp_path) <= 2 * MIB


def test_many_threads_share_it(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=300 * KIB)
    data = slow.inner.read(PACK)
    wrong: list[int] = []

    def work(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(150):
            start, size = source.randrange(300 * KIB), source.randrange(30 * KIB)
            if storage.read_range(PACK, start, start + size) != data[start : start + size]:
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert storage.cache.counts.hits > 300
