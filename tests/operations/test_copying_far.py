"""Restoring, verifying and bundling from a store whose medium makes every request wait."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.slow import SlowStorage, await_no_reading_threads, slow_place

import keepstone
from keepstone.storage.local import LocalStorage

MIB = 1024 * 1024
_SMALL_FILES, _ITEMS = 600, 3_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local store with a large blob, a folder of many small files and a few large ones, and a snapshot."""
    tmp_path = tmp_path_factory.mktemp("made")
    source = random.Random(1)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(_SMALL_FILES):
        (folder / f"{number}.txt").write_bytes(source.randbytes(1_500))
    for number in range(4):
        (folder / f"large-{number}").write_bytes(source.randbytes(2_500_000))
    with keepstone.open(tmp_path / "near") as store:
        store.save("model", source.randbytes(30 * MIB))
        store.save("folder", folder)
        answers = store.collection("answers")
        answers.update({f"k{number}": source.randbytes(500) for number in range(_ITEMS)})
        answers.snapshot()
        store.pin(["model", "folder", "answers"], tmp_path / "lock")
    return tmp_path


@pytest.fixture
def near(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "near", tmp_path / "near")
    shutil.copyfile(made / "lock", tmp_path / "lock")
    return tmp_path


@pytest.fixture
def far(near: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, SlowStorage]]:
    """The same store, far away: its location and its storage."""
    yield slow_place(monkeypatch, LocalStorage(near / "near", writable=False))
    await_no_reading_threads()


def packs_read(slow: SlowStorage) -> int:
    return sum(key.startswith("packs/") for key, _, _ in slow.ranges)


def test_a_restore_costs_requests_by_8_mib(near: Path, far: tuple[str, SlowStorage]) -> None:
    place, slow = far
    with keepstone.open(near / "restored") as store:
        store.restore(near / "lock", source=place)
        assert len(store.load("model")) == 30 * MIB
        assert len(store.load("folder", type=dict)) == _SMALL_FILES + 4
        assert len(dict(store.collection("answers").items())) == _ITEMS
    # 42 MB, opened thrice for the three names; one request a blob were 3,600 and more.
    assert packs_read(slow) <= 42 / 8 + 40
    assert slow.at_once_max > 2
    assert slow.bytes_read <= 3 * 42 * MIB


def test_what_comes_is_the_same_as_from_near_by_and_in_the_same_order(
    near: Path, far: tuple[str, SlowStorage]
) -> None:
    place, _ = far
    with keepstone.open(near / "near") as store:
        store.bundle(near / "lock", near / "near.bundle")
        verified = store.verify(near / "lock")
    with keepstone.open(place, mode="r") as store:
        store.bundle(near / "lock", near / "far.bundle")
        assert store.verify(near / "lock") == verified

    assert (near / "far.bundle").read_bytes() == (near / "near.bundle").read_bytes()


def test_verifying_and_bundling_cost_requests_by_8_mib(near: Path, far: tuple[str, SlowStorage]) -> None:
    place, slow = far
    with keepstone.open(place, mode="r") as store:
        slow.forget()
        assert store.verify(near / "lock").ok
        assert packs_read(slow) <= 42 / 8 + 40
        slow.forget()
        store.bundle(near / "lock", near / "bundle")
        assert packs_read(slow) <= 42 / 8 + 40


def test_one_by_one_it_costs_a_request_for_each_blob(near: Path, far: tuple[str, SlowStorage]) -> None:
    place, slow = far
    slow.reads_at_once, slow.delay_seconds = 1, 0
    with keepstone.open(place, mode="r") as store:
        slow.forget()
        assert store.verify(near / "lock").ok
    assert packs_read(slow) > _SMALL_FILES + _ITEMS
    assert slow.at_once_max == 1


@pytest.mark.parametrize("what", ["verify", "restore"])
def test_damage_is_found_and_named_as_near_by(near: Path, far: tuple[str, SlowStorage], what: str) -> None:
    place, _ = far
    packs = sorted((near / "near" / "packs").rglob("*-*"), key=lambda path: path.stat().st_size)
    with packs[-1].open("r+b") as file:
        file.seek(20 * MIB + 100)
        file.write(b"damage")
    said: list[str] = []
    for source in (str(near / "near"), place):
        with keepstone.open(source, mode="r") as store, keepstone.open(near / f"to-{len(said)}") as target:
            if what == "verify":
                report = store.verify(near / "lock")
                said.append(repr((report.blobs, [(v.selector, v.condition) for v in report.verdicts])))
            else:
                with pytest.raises(keepstone.CorruptionError) as caught:
                    target.restore(near / "lock", source=store)
                said.append(f"{type(caught.value).__name__} {caught.value}")
    assert said[0] == said[1]


_PEAK = """
import sys, hashlib
import keepstone
from keepstone.storage import locate
from keepstone.storage.local import LocalStorage
from tests.peak import peak_bytes
from tests.storage.slow import SlowStorage
near, what = sys.argv[1:]
slow = SlowStorage(LocalStorage(near + "/near", writable=False), "slow://near")
locate._BACKENDS["slow"] = lambda scheme, rest, writable: slow
before = peak_bytes()
if what == "restore":
    with keepstone.open(near + "/to") as store:
        store.restore(near + "/lock", source="slow://near")
else:
    with keepstone.open("slow://near", mode="r") as store:
        for chunk in store.resolve("model").chunks():
            pass
print(sum(key.startswith("packs/") for key, _, _ in slow.ranges), peak_bytes() - before)
"""


@pytest.mark.parametrize("what", ["restore", pytest.param("chunks", marks=pytest.mark.thorough)])
def test_a_gigabyte_takes_a_bounded_memory_and_a_request_for_each_8_mib(
    request: pytest.FixtureRequest, tmp_path: Path, what: str
) -> None:
    size_mib = 1024 if request.config.getoption("--long") else 96
    block = random.Random(5).randbytes(MIB)
    with (tmp_path / "model").open("wb") as file:
        for number in range(size_mib):
            file.write(number.to_bytes(8, "big") + block[8:])
    with keepstone.open(tmp_path / "near") as store:
        store.save("model", tmp_path / "model")
        store.pin(["model"], tmp_path / "lock")
    program = [sys.executable, "-c", _PEAK, str(tmp_path), what]
    requests, peak = map(int, subprocess.run(program, check=True, capture_output=True).stdout.split())

    # Packs of 64 MiB end a request early, and the first ones are small.
    assert requests <= size_mib / 8 * 1.25 + 10
    # What was read ahead; a restore holds a pack of 64 MiB besides.
    assert peak <= (220 if what == "restore" else 150) * MIB


def test_a_restore_that_was_cut_off_does_not_fetch_again_what_it_had_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(6).randbytes(80 * MIB)
    with keepstone.open(tmp_path / "near") as store:
        store.save("model", content)
        store.pin(["model"], tmp_path / "lock")
    place, slow = slow_place(monkeypatch, LocalStorage(tmp_path / "near", writable=False))
    told: list[int] = []
    with keepstone.open(tmp_path / "to") as store:
        monkeypatch.setattr("keepstone.repository.staging.PACK_BYTES_TARGET", 16 * MIB)
        slow.on_read = lambda _, start: fail_within(start, 40 * MIB, 56 * MIB)
        with pytest.raises(keepstone.StorageError, match="the line is cut"):
            store.restore(tmp_path / "lock", source=place)
        assert list((tmp_path / "to" / "packs").rglob("*-*"))
        slow.on_read = lambda _, start: None
        slow.forget()
        store.restore(tmp_path / "lock", source=place, progress=lambda done, size: told.append(done))
        assert slow.bytes_read <= 64 * MIB
        assert store.load("model") == content
    assert told[-1] >= len(content)
    await_no_reading_threads()


def fail_within(start: int, first: int, last: int) -> None:
    """Fail reads of what lies in the middle of a pack; its footer can be read."""
    if first <= start < last:
        raise keepstone.StorageError("the line is cut")


def test_what_an_interrupted_restore_left_far_away_is_read_in_large_requests(
    near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, slow = slow_place(monkeypatch)
    slow.delay_seconds = 0
    with keepstone.open(place, create=True) as store:
        slow.on_write = cut_off
        with pytest.raises(keepstone.StorageError):
            store.restore(near / "lock", source=near / "near")
    slow.on_write = lambda key: None
    left = list(slow.inner.list("packs/"))
    assert left
    with keepstone.open(place) as store:
        slow.forget()
        store.restore(near / "lock", source=near / "near")
        assert packs_read(slow) <= sum(info.size for info in left) / (8 * MIB) + 3 * len(left) + 4
        assert len(store.load("model")) == 30 * MIB


def cut_off(key: str) -> None:
    """Fail the commits of a restore, not its packs."""
    if key.startswith("log/"):
        raise keepstone.StorageError("the line is cut")
