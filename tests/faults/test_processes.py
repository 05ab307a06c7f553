"""Stores across forks, spawned workers, threads and event loops: nothing is lost, and no lock outlives its holder."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import select
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.faults.processes import dead, finished, forked, needs_fork

import keepstone
from keepstone.blobs import held as held_locks
from keepstone.repository import entries

pytestmark = needs_fork


def put_ten(collection: Any, name: str) -> str:
    """Work for a worker: ten items, and one through the store."""
    for i in range(10):
        collection[f"{name}/{i}"] = i
    return name


def put_and_save(store: keepstone.Store, name: str) -> int:
    put_ten(store.collection("items"), name)
    return store.save("model", {"by": name}).number


def assert_all_there(place: Path, names: list[str]) -> None:
    with keepstone.open(place) as store:
        store.recover()
        items = store.collection("items")
        assert {k: v for k, v in items.items() if "/" in k} == {
            f"{n}/{i}": i for n in names for i in range(10)
        }
        assert store.stats().journals == 0
        assert store.fsck(read_data=True).ok


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_get_a_store_and_lose_nothing(tmp_path: Path, method: str) -> None:
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.collection("items")["before"] = 1
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            numbers = list(pool.map(put_and_save, [store] * 4, ["a", "b", "c", "d"]))
            list(pool.map(put_ten, [store.collection("items")] * 2, ["e", "f"]))

        assert sorted(numbers) == [1, 2, 3, 4]
        assert len(store.collection("items")) == 61
    assert_all_there(place, list("abcdef"))


def test_workers_of_joblib_get_a_collection_and_lose_nothing(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        items = store.collection("items", durability="process")
        joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(put_ten)(items, name) for name in "abcd")
        assert len(items) == 40
        # Idle workers would keep their journals.
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    assert_all_there(place, list("abcd"))


def test_workers_of_a_data_loader_lose_nothing(tmp_path: Path) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        items = store.collection("items")

        class Names(torch_data.Dataset):  # type: ignore[name-defined,misc]
            def __len__(self) -> int:
                return 4

            def __getitem__(self, index: int) -> str:
                return put_ten(items, "abcd"[index])

        assert len(list(torch_data.DataLoader(Names(), num_workers=2, batch_size=1))) == 4
    assert_all_there(place, list("abcd"))


def test_workers_of_ray_lose_nothing(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    place = tmp_path / "store"
    ray.init(num_cpus=2)
    try:
        with keepstone.open(place) as store:
            work = ray.remote(put_ten)
            ray.get([work.remote(store.collection("items"), name) for name in "ab"])
    finally:
        ray.shutdown()
    assert_all_there(place, list("ab"))


def test_a_child_leaves_the_journal_of_its_parent_alone(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        items = store.collection("items")
        items["parent"] = 1
        (own,) = store.repository.session.spool.journals()
        size = os.path.getsize(store.repository.session.spool.folder / own.name)

        assert finished(forked(lambda: put_ten(items, "child")))

        assert os.path.getsize(store.repository.session.spool.folder / own.name) == size
        items["parent"] = 2
        assert items["child/9"] == 9
        assert store.recover().journals == 2
        assert items["parent"] == 2


def test_a_child_sees_at_once_what_its_parent_set_last(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        items = store.collection("items", durability="store")
        items.update(changed="old", removed="old")
        in_journal = store.collection("items", durability="process")
        in_journal["changed"] = "new"
        del in_journal["removed"]

        def look() -> None:
            assert items["changed"] == "new"
            assert "removed" not in items

        assert finished(forked(look))


def test_a_child_finds_what_its_parent_found_in_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "CATALOG_ENTRIES_MIN", 10)
    with keepstone.open(tmp_path / "store") as store:
        items = store.collection("items", durability="store")
        items.update({f"{n}": n for n in range(20)})
        held = store.repository.session.entries
        held.fold(lambda: False)
        assert held.uncovered_entries == 0

        def look() -> None:
            assert "3" in items
            assert items["7"] == 7
            assert held.uncovered_entries == 0

        assert finished(forked(look))
        assert items["9"] == 9


def test_a_child_that_outlives_its_killed_parent_goes_on(tmp_path: Path) -> None:
    place, done = tmp_path / "store", tmp_path / "done"
    ended, held = os.pipe()

    def parent() -> None:
        items = keepstone.open(place).collection("items")
        items["parent"] = 1

        parent_id = os.getpid()

        def child() -> None:
            while os.getppid() == parent_id:
                time.sleep(0.01)
            put_ten(items, "orphan")
            done.touch()

        forked(child)
        os.kill(os.getpid(), signal.SIGKILL)

    assert not finished(forked(parent))
    os.close(held)
    # It reads as ended once the orphan is gone too, with the locks that it held.
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    assert done.exists()
    with keepstone.open(place) as store:
        # The orphan holds no lock of its parent's journal.
        assert store.recover().journals >= 1
        assert store.collection("items")["parent"] == 1
    assert_all_there(place, ["orphan"])


def test_a_child_forked_while_a_journal_is_sealed_does_not_keep_the_locks(tmp_path: Path) -> None:
    place = tmp_path / "store"
    ready, go_on = os.pipe()
    with keepstone.open(place) as store:
        store.collection("items")["k"] = 1
        store.repository.session.spool.finish()
        from keepstone.repository.sealing import sealer_lock

        with sealer_lock(store.repository.session) as is_held:
            assert is_held
            adopting = store.repository.session.spool.adopt()
            adopted = next(adopting)
            child = forked(lambda: os.read(ready, 1))
            adopting.close()
            adopted.lock.close()
        try:
            # The child lives until the end: a lock that it kept would not come free.
            store.flush()
            assert store.stats().journals == 0
        finally:
            os.write(go_on, b"x")
            assert finished(child)


def test_forks_in_the_middle_of_puts_and_seals_hang_nobody(tmp_path: Path) -> None:
    place = tmp_path / "store"
    stop = threading.Event()
    with keepstone.open(place) as store:
        store.repository.session.spool.journal_bytes = 5_000
        items = store.collection("items", durability="process")

        def write() -> None:
            n = 0
            while not stop.is_set():
                items[f"thread {n}"] = n
                n += 1
            written.append(n)

        written: list[int] = []
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        names = [f"c{i}" for i in range(25)]
        children = [forked(lambda name=name: put_ten(items, name)) for name in names]
        assert all(finished(child) for child in children)
        stop.set()
        for thread in threads:
            thread.join()
        store.flush()
        assert len([key for key in items if key.startswith("thread")]) == max(written)
    assert_all_there(place, names)


def test_a_forked_child_hashes_large_packs_after_its_parent_did(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.save("large", os.urandom(3_000_000))

        child = forked(lambda: store.save("larger", os.urandom(3_000_000)))
        deadline = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        if not ended[0]:
            os.kill(child, signal.SIGKILL)
        assert ended[1] == 0
        assert store.load("larger") != store.load("large")


def put_megabytes(store: keepstone.Store) -> None:
    for i in range(3):
        store.collection("items", durability="process")[f"{i}"] = os.urandom(700_000)


def test_a_forked_worker_seals_much_when_it_ends(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        store.collection("items")
        worker = multiprocessing.get_context("fork").Process(target=put_megabytes, args=(store,))
        worker.start()
        worker.join()

        assert worker.exitcode == 0
        assert len(store.collection("items")) == 3
        assert store.stats().journals == 0


def test_inside_of_a_running_event_loop(tmp_path: Path) -> None:
    async def work() -> int:
        with keepstone.open(tmp_path / "store") as store:
            items = store.collection("items")
            await asyncio.gather(*(asyncio.to_thread(put_ten, items, name) for name in "abc"))
            put_ten(items, "loop")
            store.flush()
            return len(items)

    assert asyncio.run(work()) == 40


def test_two_openings_of_a_place_share_one_journal(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with keepstone.open(place) as one, keepstone.open(place) as two:
        one.collection("items")["a"] = 1
        two.collection("items")["b"] = 2

        assert len(os.listdir(place / "journals")) == 1
        one.close()
        assert dict(two.collection("items")) == {"a": 1, "b": 2}


def test_opening_and_closing_a_thousand_times_leaves_nothing_behind(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.save("model", 1)
    gc.collect()
    gc.disable()
    locks = held_locks.held_count()
    threads = threading.active_count()
    try:
        before = len(os.listdir("/dev/fd"))
        for n in range(1000):
            with keepstone.open(place) as store:
                if n % 50 == 0:
                    store.collection("items", durability="process")[f"{n}"] = n
        assert len(os.listdir("/dev/fd")) <= before + 8
    finally:
        gc.enable()
    assert threading.active_count() <= threads + 1
    assert held_locks.held_count() == locks
    assert len(os.listdir(place / "journals")) <= 8
    with keepstone.open(place) as store:
        assert len(store.collection("items")) == 20


def test_sealed_journals_are_let_go_without_the_collector(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        with keepstone.open(tmp_path / "store") as store:
            items = store.collection("items", durability="process")
            before = len(os.listdir("/dev/fd"))
            for n in range(30):
                items[f"{n}"] = n
                store.flush()
            assert len(os.listdir("/dev/fd")) <= before + 20
            assert not [path for path in open_files() if str(tmp_path) in path and "deleted" in path]
    finally:
        gc.enable()


def open_files() -> list[str]:
    found: list[str] = []
    for name in os.listdir("/dev/fd"):
        try:
            found.append(os.readlink(f"/dev/fd/{name}"))
        except OSError:
            continue
    return found


def test_a_dead_process_loses_nothing_that_returned(tmp_path: Path) -> None:
    place = tmp_path / "store"
    dead(lambda: put_and_save(keepstone.open(place), "a"))

    assert_all_there(place, ["a"])
