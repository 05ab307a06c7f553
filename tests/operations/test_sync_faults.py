"""Syncs whose requests or calls fail, or that are killed: nothing half there, nothing twice, once more is enough."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.operations.bucket import BUCKET, Requests, bucket, buckets
from tests.operations.handing import fill_small
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import KeepstoneError, StorageError, Store
from keepstone.operations import sync as sync_module
from keepstone.operations import sync_outbox
from keepstone.operations.sync import SyncOptions, sync
from keepstone.repository.opening import close_repository, open_repository
from keepstone.storage.local import LocalStorage

WAYS: Final = [(False, False), (True, False), (False, True)]
"""(for ever, the request takes effect and its answer is lost)."""
NAMES: Final = ["a", "b", "c", "d"]


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    # So that a store of some kilobytes takes several packs, and a note.
    monkeypatch.setattr(sync_outbox, "NEW_PACK_BYTES", 1_000)
    monkeypatch.setattr(sync_outbox, "_RIDE_BYTES_MAX", 200)
    monkeypatch.setattr(sync_module, "NOTE_BYTES_MIN", 1_000)
    with buckets() as requests:
        yield requests


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    fill_small(folder / "store")
    with keepstone.open(folder / "store") as store:
        store.save("d", random.Random(9).randbytes(1_500_000))
        store.flush()
    return folder / "store"


def content(store: Store) -> dict[str, Any]:
    return {
        "versions": {v.selector: v.digest for name in store.names() for v in store.versions(name)},
        "aliases": {name: store.aliases(name) for name in store.names()},
        "items": dict(store.collection("c")) if "c" in store.names() else {},
    }


def check(store: Store, wanted: dict[str, Any], *, whole: bool) -> None:
    """All of it or nothing."""
    now = content(store)
    assert now == wanted or (not whole and now["versions"] == {} and now["items"] == {})


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("verb", ["push", "pull", pytest.param("sync", marks=pytest.mark.thorough)])
def test_whatever_request_fails_all_or_nothing_came(
    verb: str,
    original: Path,
    tmp_path: Path,
    net: Requests,
    long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    stride = 1 if long else 7
    count = 0
    for way, (forever, after) in enumerate(WAYS):
        for k in range(1 + way if stride > 1 else 1, 1_000, stride):
            here, name = tmp_path / f"{way}-{k}", f"{tmp_path.name}-{way}-{k}"
            if verb == "pull":
                with keepstone.open(original) as store:
                    store.push(BUCKET + name, create=True, afresh=True)
            else:
                shutil.copytree(original, here)
                keepstone.open(BUCKET + name, create=True).close()
            with keepstone.open(here) as store, keepstone.open(original, mode="r") as source:
                wanted = content(source)
                net.arm(k, forever=forever, after=after)
                raised: KeepstoneError | None = None
                try:
                    getattr(store, verb)(BUCKET + name)
                except StorageError as error:
                    raised = error
                failed = net.heal()
                count += failed
                target = BUCKET + name if verb != "pull" else here
                with keepstone.open(target) as other:
                    check(other, wanted, whole=raised is None or bool(getattr(raised, "landed", False)))
                getattr(store, verb)(BUCKET + name)
                with keepstone.open(target) as other:
                    check(other, wanted, whole=True)
                    assert other.fsck(read_data=True).damage == ()
                assert getattr(store, verb)(BUCKET + name).is_nothing
            bucket(name).objects.clear()
            shutil.rmtree(here)
            if not failed:
                break
    record_property("failing requests", count)
    assert count > (20 if long else 4)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("ways", [("push",), ("pull",)])
def test_whatever_call_fails_all_or_nothing_came(
    ways: Any,
    original: Path,
    tmp_path: Path,
    net: Requests,
    long: bool,
    record_property: Callable[[str, object], None],
) -> None:
    with keepstone.open(original, mode="r") as source:
        wanted = content(source)
    count = 0
    for error, forever, after in [
        (errno.EIO, False, False),
        (errno.ENOSPC, True, False),
        (errno.EIO, False, True),
    ]:
        for k in range(1 if long else 7, 4_000, 1 if long else 97):
            folder = tmp_path / f"{error}-{forever}-{after}-{k}"
            shutil.copytree(original, folder / "full")
            keepstone.open(folder / "empty").close()
            mine, other = ("full", "empty") if ways == ("push",) else ("empty", "full")
            calls = FaultyCalls(error=error, forever=forever, after=after, durable=False)
            here = open_repository(LocalStorage(folder / mine, calls=calls), create=False, writable=True)
            there = open_repository(LocalStorage(folder / other, calls=calls), create=False, writable=True)
            calls._count, calls._fail_at = 0, k
            raised: KeepstoneError | None = None
            try:
                sync(here, there, ways, SyncOptions())
            except KeepstoneError as caught:
                raised = caught
            calls._fail_at = 0
            for repository in (here, there):
                close_repository(repository)
            if raised is not None:
                assert isinstance(raised, StorageError), repr(raised)
                assert raised.hint
            with keepstone.open(folder / "empty") as store:
                check(store, wanted, whole=raised is None or raised.landed)
            with keepstone.open(folder / mine) as store:
                getattr(store, ways[0])(folder / other)
                assert getattr(store, ways[0])(folder / other).is_nothing
            with keepstone.open(folder / "empty") as store:
                check(store, wanted, whole=True)
                assert store.fsck(read_data=True).damage == ()
            shutil.rmtree(folder)
            if not calls.failed:
                break
            count += 1
    record_property("failing calls", count)
    assert count > 4


PROGRAM: Final = """
import sys
import keepstone
from keepstone.operations import sync, sync_outbox
sync_outbox.NEW_PACK_BYTES = 200_000
sync.NOTE_BYTES_MIN = 1
here = keepstone.open(sys.argv[1])
print("begins", flush=True)
getattr(here, sys.argv[3])(sys.argv[2])
"""


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_killed_at_any_moment_it_is_whole_after_the_next(
    verb: str,
    tmp_path: Path,
    is_thorough: bool,
    long: bool,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As in the program: other packs could not be used.
    monkeypatch.setattr(sync_outbox, "NEW_PACK_BYTES", 200_000)
    monkeypatch.setattr(sync_module, "NOTE_BYTES_MIN", 1)
    with keepstone.open(tmp_path / "original") as store:
        for number in range(20):
            store.save(f"m{number}", random.Random(number).randbytes(300_000), aliases=["prod"])
        store.collection("c").update({str(i): {"n": i, "text": f"word {i} " * 20} for i in range(3_000)})
        store.flush()
        wanted = content(store)
    kills = 0
    turns = range(50 if long else 2)
    for turn in turns if is_thorough else turns[1:]:
        folder = tmp_path / str(turn)
        shutil.copytree(tmp_path / "original", folder / "full")
        keepstone.open(folder / "empty").close()
        here, other = ("full", "empty") if verb == "push" else ("empty", "full")
        for attempt in range(3 if long else 2):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder / here), str(folder / other), verb],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": ":".join(p for p in sys.path if p)},
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.Random(3 * turn + attempt).random() * 0.2)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.stdout.close()
            with keepstone.open(folder / "empty", mode="r") as store:
                check(store, wanted, whole=False)
        with keepstone.open(folder / here) as store:
            getattr(store, verb)(folder / other)
            assert getattr(store, verb)(folder / other).is_nothing
        with keepstone.open(folder / "empty") as store:
            check(store, wanted, whole=True)
            assert store.fsck(read_data=True).damage == ()
            bytes_there = sum(pack.record.size for pack in store.repository.session.log.state.packs.values())
            # What a killed one wrote is used by the next.
            assert store.stats().pack_bytes <= bytes_there
        shutil.rmtree(folder)
    record_property("kills", kills)
    assert kills
