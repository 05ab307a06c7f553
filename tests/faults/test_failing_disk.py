"""A disk that is full or fails for a while: nothing acknowledged is lost, and what could not be read is not absent."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone.api import Store
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import StorageError, StorageFullError
from keepstone.repository import opening

FAILING = ("write", "fsync", "fdatasync", "link", "link_open", "rename", "mkdir", "ftruncate", "open")


class Disk:
    """Gives one calls object to whoever opens the store, so that it can begin to fail later."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = FaultyCalls()
        self.failing = FAILING
        monkeypatch.setattr("keepstone.storage.local.Calls", lambda: self.calls)

    def fail(self, nth: int, *, forever: bool, error: int) -> None:
        self.calls.arm(nth, forever=forever, error=error, only=self.failing)

    def heal(self) -> bool:
        """Work again; return whether anything had failed."""
        return self.calls.heal()


def prepared(place: Path) -> Store:
    """An open store with acknowledged items at each level, some published, some in the open journal."""
    store = keepstone.open(place)
    store.save("model", {"old": 0})
    store.collection("items", durability="store")["at store"] = 1
    store.collection("items", durability="disk")["at disk"] = 2
    store.collection("items", durability="process")["at process"] = 3
    return store


def require_acknowledged(store: Store) -> None:
    items = store.collection("items")
    assert (items["at store"], items["at disk"], items["at process"]) == (1, 2, 3)
    assert store.load("model@v1") == {"old": 0}


def test_opening_on_a_failing_disk_is_an_error_of_the_medium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "store"
    prepared(place).close()
    disk = Disk(monkeypatch)
    disk.failing = ("open", "pread", "lstat", "fstat", "scandir")
    for nth in range(1, 200):
        disk.fail(nth, forever=False, error=errno.EIO)
        try:
            store = keepstone.open(place)
        except StorageError:
            assert disk.heal()
        else:
            failed = disk.heal()
            require_acknowledged(store)
            store.close()
            if not failed:
                return
    pytest.fail("more calls than expected")


def test_a_journal_that_cannot_be_opened_for_now_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "store"
    disk = Disk(monkeypatch)
    with keepstone.open(place) as store:
        store.collection("items")["k"] = 1
    with keepstone.open(place, mode="r") as reader:
        reader.repository.session.spool.close_files()
        disk.fail(1, forever=True, error=errno.EMFILE)
        with pytest.raises(StorageError, match="Too many open files"):
            reader.repository.session.refresh()
        disk.heal()
        assert reader.collection("items")["k"] == 1


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MiB, where this user may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "keepstone-test", str(place)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("no permission to mount a small file system")
    yield place
    opening._close_all()  # pyright: ignore[reportPrivateUsage]
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_file_system_loses_nothing_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    store = keepstone.open(small_disk / "store")
    items = store.collection("items", durability="disk")
    acknowledged = 0

    def fill() -> None:
        nonlocal acknowledged
        for n in range(10_000):
            items[f"{n}"] = os.urandom(5_000)
            acknowledged = n + 1

    with pytest.raises(StorageFullError) as caught:
        fill()
    assert str(small_disk) in caught.value.path
    assert acknowledged > 100
    values = {f"{n}": len(items[f"{n}"]) for n in range(acknowledged)}
    assert set(values.values()) == {5_000}
    ballast.unlink()
    items["after"] = 1
    assert items["after"] == 1
    assert all(f"{n}" in items for n in range(acknowledged))
    assert store.fsck().ok


@pytest.mark.parametrize("what", ["items", "artifacts"])
def test_a_footer_that_cannot_be_read_for_now_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place = tmp_path / "store"
    disk = Disk(monkeypatch)
    prepared(place).close()
    with keepstone.open(place, mode="r") as reader:
        disk.calls._only = ("open", "pread")  # pyright: ignore[reportPrivateUsage]
        disk.fail(1, forever=True, error=errno.EMFILE)
        with pytest.raises(StorageError, match="Too many open files"):
            reader.repository.session.entries.find("items", "at store")
        with pytest.raises(StorageError, match="Too many open files"):
            reader.repository.session.entries.find_blob(Digest.of(b'{"old":0}'))
        disk.heal()
        if what == "items":
            assert reader.collection("items")["at store"] == 1
        else:
            assert reader.load("model@v1") == {"old": 0}


def test_a_catalog_that_has_no_room_costs_nothing_but_speed(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A threshold, not behaviour: from how many entries on a catalog is worth its while.
    monkeypatch.setattr("keepstone.repository.entries.CATALOG_ENTRIES_MIN", 10)
    with keepstone.open(small_disk / "store") as store:
        items = store.collection("items", durability="process")
        items.add_many((f"{n}", n) for n in range(500))
        items.flush()
        (small_disk / "ballast").write_bytes(bytes(left_on(small_disk) - 40_000))
        entries = store.repository.session.entries

        entries.fold(lambda: False)

        assert entries.uncovered_entries == 500
        assert dict(items) == {f"{n}": n for n in range(500)}
        (small_disk / "ballast").unlink()
        entries.fold(lambda: False)
        assert entries.uncovered_entries == 0
        assert dict(items) == {f"{n}": n for n in range(500)}
        assert store.fsck(read_data=True).ok


def left_on(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("hindrance", ["a file", "a link that leads nowhere", "a folder in its place"])
def test_where_no_catalog_can_be_made_all_works_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hindrance: str
) -> None:
    monkeypatch.setattr("keepstone.repository.entries.CATALOG_ENTRIES_MIN", 10)
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.collection("items").add_many((f"{n}", n) for n in range(50))
        store.collection("items").flush()
    shutil.rmtree(place / "cache", ignore_errors=True)
    if hindrance == "a file":
        (place / "cache").write_bytes(b"")
    elif hindrance == "a link that leads nowhere":
        (place / "cache").symlink_to(tmp_path / "nowhere" / "at" / "all")
    else:
        (place / "cache" / "0" / "catalog.sqlite").mkdir(parents=True)
    with keepstone.open(place) as store:
        store.repository.session.entries.fold(lambda: False)
        items = store.collection("items")
        assert dict(items) == {f"{n}": n for n in range(50)}
        items["new"] = 1
        items.flush()
        assert items["new"] == 1
        assert store.fsck().ok
