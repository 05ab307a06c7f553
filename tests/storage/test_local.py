from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.permissions import only_readable
from tests.storage.contract import StorageContract
from tests.storage.faulty_calls import FaultyCalls
from tests.storage.local_kinds import DATA, KINDS, each_kind, litter, local

from keepstone.foundation.errors import (
    KeepstoneError,
    ObjectExistsError,
    StorageError,
    StoragePermissionError,
    UnsafeStorageError,
)
from keepstone.storage.base import Storage
from keepstone.storage.descriptors import Descriptors
from keepstone.storage.local import LocalStorage
from keepstone.storage.memory import MemoryStorage


class TestLocalStorage(StorageContract):
    @pytest.fixture(params=sorted(KINDS))
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
        return local(tmp_path / "store", request.param)


class TestLocalStorageAsItComes(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path)


# ---- races and models ----------------------------------------------------------------------------


def _race(root: Path, kind: str, number: int, barrier, results) -> None:  # type: ignore[no-untyped-def]
    storage = local(root, kind)
    won: list[int] = []
    for n in range(20):
        barrier.wait(60)
        try:
            storage.write_new(f"log/{n}", b"%d" % number * 1000)
            won.append(n)
        except ObjectExistsError:
            pass
    results.put((number, won))


@each_kind
def test_of_racing_processes_exactly_one_wins(tmp_path: Path, kind: str) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, kind, n, barrier, results)) for n in range(4)]
    for racer in racers:
        racer.start()
    won = dict(results.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join(60)

    assert sorted(n for rounds in won.values() for n in rounds) == list(range(20))
    for number, rounds in won.items():
        for n in rounds:
            assert LocalStorage(tmp_path).read(f"log/{n}") == b"%d" % number * 1000
    assert litter(tmp_path) == []


_KEYS = st.sampled_from(["store.json", "log/1", "log/2", "packs/ab/x", "packs/ab-c", "packs/b/y", "a/b/c/d"])
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write_new", "write_hint", "delete", "read", "range", "size"]),
        _KEYS,
        st.binary(max_size=9),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(steps=_STEPS, kind=st.sampled_from(sorted(KINDS)))
def test_a_folder_and_memory_answer_alike(steps: list[tuple[str, str, bytes]], kind: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        storages = [local(Path(root), kind), MemoryStorage()]
        for verb, key, data in steps:
            answers = [_answer(storage, verb, key, data) for storage in storages]
            assert answers[0] == answers[1]
            assert list(storages[0].list("")) == list(storages[1].list(""))


def _answer(storage: Storage, verb: str, key: str, data: bytes) -> object:
    try:
        if verb in ("write_new", "write_hint"):
            return getattr(storage, verb)(key, data)
        if verb == "range":
            return storage.read_range(key, len(data) % 3, 5)
        return getattr(storage, verb)(key)
    except KeepstoneError as error:
        return type(error)


# ---- folders and links ---------------------------------------------------------------------------


@each_kind
def test_no_write_follows_a_linked_folder_out_of_the_store(tmp_path: Path, kind: str) -> None:
    outside, store = tmp_path / "outside", tmp_path / "store"
    (outside / "ab").mkdir(parents=True)
    (outside / "ab" / "x").write_bytes(b"precious")
    store.mkdir()
    (store / "packs").symlink_to(outside)
    storage = local(store, kind)

    changes: tuple[Callable[[], None], ...] = (
        lambda: storage.write_new("packs/ab/y", DATA),
        lambda: storage.write_hint("packs/ab/x", DATA),
        lambda: storage.delete("packs/ab/x"),
        lambda: storage.settle("packs/"),
    )
    for change in changes:
        with pytest.raises(UnsafeStorageError, match=r"packs is a symbolic link"):
            change()

    assert [path.name for path in (outside / "ab").iterdir()] == ["x"]
    assert (outside / "ab" / "x").read_bytes() == b"precious"
    assert list(storage.list("")) == []


@each_kind
def test_a_link_in_the_place_of_an_object_is_neither_followed_nor_read(tmp_path: Path, kind: str) -> None:
    store = tmp_path / "store"
    (store / "log").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"outside")
    (store / "log" / "1").symlink_to(tmp_path / "outside")
    (store / "log" / "2").symlink_to(tmp_path / "new")
    storage = local(store, kind)

    with pytest.raises(ObjectExistsError):
        storage.write_new("log/2", DATA)
    for read in (storage.read, storage.size, lambda key: storage.read_range(key, 0, 1)):
        with pytest.raises(StorageError, match="is a symbolic link"):
            read("log/1")
    storage.write_hint("log/1", b"own")

    assert not (tmp_path / "new").exists()
    assert (tmp_path / "outside").read_bytes() == b"outside"
    assert [info.key for info in storage.list("")] == ["log/1"]


def test_the_root_may_be_a_link_and_is_shown_as_written(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "scratch")
    storage = LocalStorage(tmp_path / "runs")
    storage.write_new("store.json", b"{}")

    assert storage.location == str(tmp_path / "runs")
    assert (tmp_path / "scratch" / "store.json").read_bytes() == b"{}"


@each_kind
def test_new_folders_are_synced_into_their_parents_first(tmp_path: Path, kind: str) -> None:
    calls = FaultyCalls()
    local(tmp_path / "new" / "store", kind, calls).write_new("packs/ab/x", DATA)

    names = [name for name, _ in calls.made]
    before_link = names[: names.index("link" if kind == "named" else "link_open")]
    # new, store, packs, ab: each into the folder above it; then the file itself.
    assert before_link.count("fsync") == 5
    assert before_link.count("mkdir") >= 4


def test_a_store_whose_folders_vanish_is_written_anew(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")
    storage.write_new("packs/ab/x", DATA)
    (tmp_path / "store" / "packs" / "ab" / "x").unlink()
    for folder in ("packs/ab", "packs", ""):
        (tmp_path / "store" / folder).rmdir()

    storage.write_new("packs/ab/x", DATA)

    assert storage.read("packs/ab/x") == DATA


def test_foreign_and_temporary_files_are_no_objects(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write_new("log/1", b"x")
    for name in (".tmp-abc", "my file.txt", "ümlaut"):
        (tmp_path / "log" / name).write_bytes(b"x")

    assert [info.key for info in storage.list("")] == ["log/1"]


def test_litter_goes_away_once_it_is_old(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write_new("log/1", b"x")
    old, new = tmp_path / "log" / ".tmp-old", tmp_path / "log" / ".tmp-new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)

    assert storage.remove_litter("log/") == 1
    assert storage.remove_litter("absent/") == 0
    assert litter(tmp_path) == [new]
    assert storage.read("log/1") == b"x"


# ---- permission, pickle, fork --------------------------------------------------------------------


def test_a_read_only_storage_reads_and_refuses_every_change(tmp_path: Path) -> None:
    LocalStorage(tmp_path).write_new("log/1", b"x")
    storage = LocalStorage(tmp_path, writable=False)

    assert not storage.writable
    for change in (
        lambda: storage.write_new("log/2", b""),
        lambda: storage.write_hint("log/2", b""),
        lambda: storage.delete("log/1"),
        lambda: storage.remove_litter("log/"),
    ):
        with pytest.raises(StoragePermissionError, match="reading only"):
            change()
    storage.settle("log/")
    assert storage.read("log/1") == b"x"


def test_a_folder_of_somebody_else_is_not_writable(tmp_path: Path) -> None:
    with only_readable(tmp_path):
        assert not LocalStorage(tmp_path / "store").writable
        with pytest.raises(StoragePermissionError):
            LocalStorage(tmp_path / "store", writable=True).write_new("log/1", b"x")


def test_a_pickle_is_the_location_and_the_option(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, writable=False)
    storage.close()
    copy = pickle.loads(pickle.dumps(storage))

    assert (copy.location, copy.writable) == (storage.location, False)
    assert pickle.loads(pickle.dumps(LocalStorage(tmp_path))).writable


def test_a_forked_child_reads_on_and_does_not_move_the_parent(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write_new("packs/ab/x", DATA)
    assert storage.read_range("packs/ab/x", 0, 5) == b"01234"

    child = os.fork()
    if not child:
        os._exit(0 if storage.read_range("packs/ab/x", 5, 10) == b"56789" else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert storage.read_range("packs/ab/x", 3, 6) == b"345"


def test_a_lock_held_while_forking_does_not_hang_the_child() -> None:
    descriptors = Descriptors(4)
    with descriptors._lock:
        child = os.fork()
        if not child:
            signal.alarm(10)
            descriptors.drop("packs/ab/x")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
