"""The read cache on damaged files, a failing disk and folders that cannot be written: reads go on, with right bytes."""

from __future__ import annotations

import errno
import itertools
import random
from pathlib import Path

import pytest
from tests.permissions import only_readable
from tests.storage.cached_packs import PACK, cached, files_of
from tests.storage.faulty_calls import NAMES, FaultyCalls

from keepstone.foundation.errors import StorageError
from keepstone.storage.cached import CachedStorage
from keepstone.storage.memory import MemoryStorage
from keepstone.storage.read_cache import ReadCache

KIB = 1024


def test_any_damaged_byte_is_noticed_dropped_counted_and_read_again(tmp_path: Path) -> None:
    size = 3_000
    storage, slow = cached(tmp_path, x=size)
    data = storage.read_range(PACK, 0, size)
    (entry,) = files_of(tmp_path)
    content = entry.read_bytes()
    damaged = 0
    for offset in [*range(120), *range(120, len(content), 37), len(content) - 1]:
        changed = bytearray(content)
        changed[offset] ^= 1 << offset % 8
        entry.write_bytes(changed)
        fresh = CachedStorage(slow, ReadCache(tmp_path))
        assert fresh.read_range(PACK, 0, size) == data
        damaged += fresh.cache.counts.damaged
        assert entry.read_bytes() == content, "read again, and kept"
    assert damaged == len([*range(120), *range(120, len(content), 37)]) + 1


def test_a_torn_entry_another_s_entry_and_one_of_another_place_are_no_entries(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=200 * KIB, y=200 * KIB)
    wanted = slow.inner.read(PACK)
    storage.read_range(PACK, 0, 100 * KIB)
    storage.read_range("packs/ab/y", 0, 100 * KIB)
    storage.read_range(PACK, 100 * KIB, 200 * KIB)
    entries = {path: path.read_bytes() for path in files_of(tmp_path)}
    for path, content in entries.items():
        others = [other for place, other in entries.items() if place != path]
        for wrong in (content[:-1], content[: len(content) // 2], b"", bytes(len(content)), *others):
            path.write_bytes(wrong)
            fresh = CachedStorage(slow, ReadCache(tmp_path))
            assert fresh.read_range(PACK, 0, 200 * KIB) == wanted
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def script(folder: Path, calls: FaultyCalls) -> ReadCache:
    """Read, keep, turn generations over and read again; every answer is compared."""
    inner = MemoryStorage()
    for number in range(12):
        inner.write_new(f"packs/ab/{number}", random.Random(number).randbytes(20 * KIB))
    inner.write_new("log/00000000000000000001", b"a commit")
    inner.write_hint("checkpoints/LAST", b"one")
    storage = CachedStorage(inner, ReadCache(folder, bytes_max=400 * KIB, calls=calls))
    for number in itertools.chain(range(12), range(12), [0] * 3):
        key = f"packs/ab/{number}"
        assert storage.read_range(key, 10, 15 * KIB) == inner.read(key)[10 : 15 * KIB]
        assert storage.read("checkpoints/LAST") == b"one"
    assert storage.read("log/00000000000000000001") == b"a commit"
    storage.delete("packs/ab/0")
    offline = CachedStorage(inner, storage.cache, offline=True)
    try:
        assert offline.read_range("packs/ab/11", 10, 20) == inner.read("packs/ab/11")[10:20]
        assert offline.read("checkpoints/LAST") == b"one"
    except StorageError:
        pass
    return storage.cache


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_no_failing_call_ever_fails_a_read(
    request: pytest.FixtureRequest, tmp_path: Path, error: int, forever: bool
) -> None:
    calls = FaultyCalls()
    script(tmp_path / "0", calls)
    step = 1 if request.config.getoption("--long") else 23
    for number in range(1, len(calls.made), step):
        faulty = FaultyCalls(fail_at=number, error=error, forever=forever, torn=True, only=NAMES)
        script(tmp_path / str(number), faulty)
        assert not faulty.open_fds or forever


def test_after_a_failure_the_disk_is_left_alone_for_a_while(tmp_path: Path) -> None:
    now = [0.0]
    calls = FaultyCalls(fail_at=1, error=errno.ENOSPC, forever=True, only=("write",))
    cache = ReadCache(tmp_path, calls=calls, monotonic=lambda: now[0])
    for _ in range(5):
        cache.put(PACK, 0, b"bytes", ends=True)
    assert len(calls.failed) == 1
    assert cache.counts.unkept == 5
    calls.heal()
    now[0] = 31.0
    cache.put(PACK, 0, b"bytes", ends=True)

    assert cache.get(PACK, 0, 5) == b"bytes"


def test_a_read_only_folder_serves_what_it_has(tmp_path: Path) -> None:
    storage, slow = cached(tmp_path, x=1000, y=1000)
    storage.read(PACK)
    fresh = CachedStorage(slow, ReadCache(tmp_path))
    slow.forget()

    with only_readable(tmp_path):
        assert fresh.read(PACK)
        assert not slow.requests
        assert fresh.read("packs/ab/y")
    assert fresh.cache.counts.unkept == 1


def test_a_file_where_the_folder_should_be_keeps_nothing_and_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage, slow = cached(tmp_path / "file" / "cache", x=1000)

    assert storage.read(PACK) == storage.read(PACK) == slow.inner.read(PACK)
    assert storage.cache.counts.unkept == 2
