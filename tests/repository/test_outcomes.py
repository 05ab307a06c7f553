"""What an error says about what was asked for is so, and what has happened is never reported as an error."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import Store

LARGE = b"x" * 9_000_000
"""Too large for a journal, so it gets a commit of its own."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> FaultyCalls:
    faulty = FaultyCalls(durable=False)
    monkeypatch.setattr("keepstone.storage.local.Calls", lambda: faulty)
    return faulty


@pytest.fixture
def store(folder: Path, calls: FaultyCalls) -> Iterator[Store]:
    with keepstone.open(folder) as opened:
        opened.save("a", 1)
        opened.save("b", 1)
        opened.collection("items", durability="store")["k"] = 1
        yield opened


def fail_behind_the_commit(calls: FaultyCalls) -> None:
    """Let every look at the medium fail once the next commit stands."""
    real = calls.link_open

    def link_open(fd: int, target: str, **options: Any) -> None:
        real(fd, target, **options)
        if target.isdigit():
            calls.link_open = real
            calls.arm(1, error=errno.EIO, forever=True, only=("scandir", "pread", "open", "lstat"))

    calls.link_open = link_open


def nothing_could_be_read(store: Store, calls: FaultyCalls) -> bool:
    """Whether the medium fails by now; it works again afterwards."""
    with pytest.raises(OSError):
        store.repository.session.refresh()
    return calls.heal()


@pytest.mark.parametrize(
    ("act", "happened"),
    [
        (lambda s: s.save("a", 2), lambda s: s.load("a") == 2),
        (lambda s: s.alias("a", "prod"), lambda s: s.aliases("a") == {"prod": 1}),
        (lambda s: s.unalias("b", "old"), lambda s: s.aliases("b") == {}),
        (lambda s: s.undo(0), lambda s: not s.exists("a")),
        (
            lambda s: s.collection("items").__setitem__("k", LARGE),
            lambda s: s.collection("items")["k"] == LARGE,
        ),
        (lambda s: s.collection("items").snapshot(), lambda s: s.exists("items@v1")),
        (lambda s: s.collection("more").create(), lambda s: s.kind("more") == "collection"),
    ],
    ids=["save", "alias", "unalias", "undo", "put", "snapshot", "create"],
)
def test_what_stands_is_no_error_though_nothing_can_be_read_any_more(
    store: Store,
    calls: FaultyCalls,
    act: Callable[[Store], object],
    happened: Callable[[Store], bool],
) -> None:
    store.alias("b", "old")
    fail_behind_the_commit(calls)
    act(store)

    assert nothing_could_be_read(store, calls)
    assert happened(store)


def test_a_transaction_and_a_restore_that_stand_are_no_error(
    store: Store, calls: FaultyCalls, tmp_path: Path
) -> None:
    store.pin(["a"], tmp_path / "keepstone.lock")
    with keepstone.open(tmp_path / "other") as other:
        other.save("begun", 1)
        fail_behind_the_commit(calls)
        report = other.restore(tmp_path / "keepstone.lock", source=store)
        assert nothing_could_be_read(other, calls)
        assert report.commit is not None
        assert other.load("a") == 1
    fail_behind_the_commit(calls)
    with store.transaction() as change:
        saved = change.save("a", 2)

    assert nothing_could_be_read(store, calls)
    assert saved.number == 2


def test_an_alias_is_refused_before_it_is_set_where_its_version_cannot_be_read(
    store: Store, folder: Path
) -> None:
    store.save("large", os.urandom(400_000))
    (pack,) = (path for path in (folder / "packs").rglob("*-*") if path.stat().st_size > 400_000)
    pack.write_bytes(bytes(pack.stat().st_size))
    with keepstone.open(folder, mode="r") as fresh, pytest.raises(keepstone.CorruptionError):
        fresh.resolve("large")
    with pytest.raises(keepstone.CorruptionError):
        store.alias("large", "prod")

    assert store.aliases("large") == {}


def landed(act: Callable[[], object]) -> bool:
    """Return what an act says of itself: whether it has happened."""
    try:
        act()
    except keepstone.StorageError as error:
        return error.landed
    return True


@pytest.mark.parametrize("nth", range(1, 14))
def test_a_pin_has_not_landed_because_its_snapshot_did(
    store: Store, calls: FaultyCalls, tmp_path: Path, nth: int
) -> None:
    lock = tmp_path / "keepstone.lock"
    calls.arm(nth, error=errno.EIO, only=("fsync",))
    said = landed(lambda: store.pin(["items"], lock))
    calls.heal()

    assert said == lock.exists()


def test_a_pin_that_is_refused_leaves_no_snapshot(store: Store, tmp_path: Path) -> None:
    with pytest.raises(keepstone.ArtifactNotFoundError):
        store.pin(["items", "nothing"], tmp_path / "keepstone.lock")
    (tmp_path / "text").write_text("no lock")
    with pytest.raises(keepstone.ConflictError):
        store.pin(["items"], tmp_path / "text")

    assert store.versions("items") == []


@pytest.mark.parametrize("nth", range(1, 8))
def test_many_items_have_not_landed_because_the_first_one_did(
    store: Store, calls: FaultyCalls, nth: int
) -> None:
    items = store.collection("items")
    calls.arm(nth, error=errno.EIO, only=("fsync",))
    said = landed(lambda: items.add_many([("x", LARGE), ("y", LARGE[1:])]))
    calls.heal()

    assert not said or {"x", "y"} <= set(items)


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_store_is_not_open_because_it_was_made(folder: Path, calls: FaultyCalls, nth: int) -> None:
    opened: list[Store] = []
    calls.arm(nth, error=errno.EIO, only=("fsync",))
    said = landed(lambda: opened.append(keepstone.open(folder)))
    calls.heal()
    for each in opened or [keepstone.open(folder)]:
        each.close()

    assert said == bool(opened)


LEFT_BEHIND = """
import os, sys, keepstone
keepstone.open(sys.argv[1]).collection("items", durability="process")["left"] = sys.argv[2]
os._exit(0)
"""


def test_recovery_has_not_landed_because_its_first_commit_did(
    store: Store, folder: Path, calls: FaultyCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        subprocess.run([sys.executable, "-c", LEFT_BEHIND, str(folder), str(number)], check=True, timeout=60)
    monkeypatch.setattr("keepstone.repository.sealing._ADOPT_BYTES_MAX", 1)
    real = calls.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) and store.repository.session.log.state.number < standing():
            raise OSError(errno.EIO, "as a failing disk says")
        real(fd)

    def standing() -> int:
        return len(list((folder / "log").iterdir())) - 1

    calls.fsync = fsync
    said = landed(store.recover)
    calls.fsync = real

    assert not said
    assert store.recover().journals == 2


def test_closing_lets_go_of_everything_though_it_cannot_publish(folder: Path, calls: FaultyCalls) -> None:
    store = keepstone.open(folder)
    store.save("a", os.urandom(400_000))
    store.load("a")
    store.collection("items", durability="process")["k"] = b"x" * 2_000_000
    calls.arm(1, error=errno.EIO, forever=True, only=("fsync", "fdatasync"))
    with pytest.raises(keepstone.StorageError):
        store.close()

    kept = [os.readlink(f"/proc/self/fd/{fd}") for fd in calls.open_fds]
    assert [path for path in kept if "/packs/" in path] == []


def test_what_is_saved_stands_where_no_thread_can_be_started(folder: Path) -> None:
    program = """
import sys, threading, keepstone
from keepstone.repository import repository, sealer
sealer.CROWDED_PACKS_MIN = 16
with keepstone.open(sys.argv[1]) as store:
    for i in range(15):
        store.save("a", i)
    threading.stack_size(2 ** 46 * 2)
    for i in range(15, 20):
        store.save("a", i)
    items = store.collection("items", durability="process")
    store.repository.session.spool.journal_bytes = 1000
    for i in range(300):
        items[str(i)] = i
    threading.stack_size(0)
    assert len(store.versions("a")) == 20
    assert len(items) == 300
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], check=False, timeout=60, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
