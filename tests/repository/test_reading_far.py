"""A store whose medium makes every request wait: reading in bulk costs requests by the megabyte, not by the item."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.storage.slow import SlowStorage, await_no_reading_threads, slow_place

import keepstone
from keepstone.api import Store
from keepstone.blobs.footer import Entry
from keepstone.blobs.pack import PackBuilder
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError, KeyNotFoundError, StorageError
from keepstone.foundation.format import Form, Origin
from keepstone.history.commit import Draft
from keepstone.repository.merging import merge
from keepstone.repository.pack_writing import write_pack

MIB = 1024 * 1024


class Far:
    """A slow store, made by hand so that it has as many packs as a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.slow = slow_place(monkeypatch)
        self.slow.delay_seconds = 0
        self.writer = keepstone.open(self.place, create=True)
        self._stamp = 1

    def open(self, *, reads_at_once: int = 16) -> Store:
        """The store, opened for reading by somebody who has nothing of it in memory."""
        self.slow.reads_at_once = reads_at_once
        self.slow.delay_seconds = 0.0005
        store = keepstone.open(self.place, mode="r")
        self.slow.forget()
        return store

    def add_pack(self, collection: str, items: dict[str, bytes], origin: Origin = Origin.JOURNAL) -> None:
        """Publish one pack with these items."""
        self.slow.delay_seconds = 0
        session = self.writer.repository.session
        if self._stamp == 1:
            self.writer.collection(collection).create()
        builder = PackBuilder(origin)
        builder.add_many([(Digest.of(raw), raw) for raw in items.values()])
        for key, raw in items.items():
            self._stamp += 1
            builder.add_entry(collection, Entry(key, self._stamp, b"w" * 8, Digest.of(raw), Form.BYTES))
        record = write_pack(session, builder.finish(), session.log.state.length)
        session.log.append(lambda state: Draft(add=(record,)))


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    made = Far(monkeypatch)
    yield made
    made.writer.close()
    await_no_reading_threads()


def some_items(count: int, prefix: str = "", size: int = 1000) -> dict[str, bytes]:
    source = random.Random(prefix)
    return {f"{prefix}{number:05d}": source.randbytes(size) for number in range(count)}


def packs_read(slow: SlowStorage) -> list[tuple[str, int, int]]:
    return [found for found in slow.ranges if found[0].startswith("packs/")]


def test_iterating_10_000_items_in_20_packs_costs_requests_by_runs_not_by_items(far: Far) -> None:
    items: dict[str, bytes] = {}
    for number in range(20):
        fresh = some_items(500, f"{number:02d}-")
        far.add_pack("answers", fresh)
        items |= fresh
    with far.open() as store:
        # 20 footers; 10 MB in 20 objects, and windows that begin small.
        assert dict(store.collection("answers").items()) == items
        assert len(far.slow.ranges) <= 20 + 20 + 8
        assert far.slow.at_once_max > 4

        far.slow.forget()
        assert list(store.collection("answers").values()) == list(items.values())
        assert len(packs_read(far.slow)) <= 20 + 4


def test_a_snapshot_in_the_order_of_its_keys_is_read_by_runs_too(far: Far) -> None:
    for number in range(8):
        far.add_pack(
            "answers",
            {
                f"{n:05d}": raw
                for n, raw in zip(
                    range(number, 8_000, 8), some_items(1_000, str(number), 300).values(), strict=True
                )
            },
        )
    with keepstone.open(far.place) as store:
        store.collection("answers").snapshot()
        items = dict(store.collection("answers").items())
    with far.open() as store:
        frozen = store.collection("answers@v1")
        assert list(frozen.items()) == sorted(items.items())
        assert len(far.slow.ranges) <= 150

        far.slow.forget()
        assert store.load("answers@v1") == items
        assert len(far.slow.ranges) <= 130


def test_where_reading_does_not_wait_nothing_is_read_ahead(far: Far) -> None:
    items = some_items(300)
    far.add_pack("answers", items)
    with far.open(reads_at_once=1) as store:
        assert dict(store.collection("answers").items()) == items
        assert len(packs_read(far.slow)) == 1 + 300
        assert far.slow.at_once_max == 1


@pytest.mark.parametrize("asked", ["find", "keys", "missing", "len", "load"])
def test_the_footers_of_200_packs_are_read_in_parallel(far: Far, asked: str) -> None:
    origin = Origin.SAVE if asked == "load" else Origin.JOURNAL
    for number in range(200):
        far.add_pack("answers", {f"k{number}": b"%d" % number}, origin)
    questions: dict[str, Callable[[Store], object]] = {
        "find": lambda store: store.collection("answers")["k7"],
        "keys": lambda store: list(store.collection("answers")),
        "missing": lambda store: list(store.collection("answers").missing(["k1", "absent"])),
        "len": lambda store: len(store.collection("answers")),
        "load": lambda store: store.repository.session.read_blob(Digest.of(b"199")),
    }
    with far.open() as store:
        questions[asked](store)
        assert 200 <= len(packs_read(far.slow)) <= 202
        assert far.slow.at_once_max > 4


def test_what_is_superseded_or_removed_while_it_is_read_reads_as_ever(far: Far) -> None:
    far.add_pack("answers", some_items(3_000))
    with far.open():
        pass
    with keepstone.open(far.place) as store:
        answers = store.collection("answers")
        seen = iter(answers.items())
        next(seen)
        answers["00005"] = b"anew"
        read = {key: value for _, (key, value) in zip(range(10), seen, strict=False)}
        assert read["00005"] == b"anew"
        del answers["00100"]
        with pytest.raises(KeyNotFoundError, match="00100"):
            list(seen)


def test_a_pack_that_was_merged_away_while_it_is_read_is_looked_up_again(far: Far) -> None:
    parts = [some_items(500, f"{number}-") for number in range(16)]
    for part in parts:
        far.add_pack("answers", part)
    with far.open() as reader:
        seen = iter(reader.collection("answers").items())
        read = dict([next(seen)])
        old = list(reader.repository.session.log.state.packs.values())
        with keepstone.open(far.place) as writer:
            assert merge(writer.repository.session) == 16
            assert len(writer.repository.session.log.state.packs) == 1
            for pack in old:
                writer.repository.session.storage.delete(pack.key)
        far.slow.forget()
        read.update(seen)

    assert read == {key: raw for part in parts for key, raw in part.items()}
    assert len(far.slow.ranges) < 200


def test_a_pack_that_is_gone_for_good_is_named_by_the_same_error(far: Far) -> None:
    far.add_pack("answers", some_items(3_000))
    with far.open() as store:
        answers = store.collection("answers")
        assert answers["00001"]
        (pack,) = store.repository.session.log.state.packs.values()
        far.slow.inner.delete(pack.key)
        with pytest.raises(BlobNotFoundError) as single:
            answers["00000"]
        with pytest.raises(BlobNotFoundError) as bulk:
            list(answers.items())
    assert str(bulk.value) == str(single.value)


def test_a_failing_medium_fails_who_reads_and_leaves_no_thread(far: Far) -> None:
    far.add_pack("answers", some_items(12_000))
    with far.open() as store:
        seen = iter(store.collection("answers").items())
        next(seen)

        def fail(key: str, start: int) -> None:
            raise StorageError("the line is cut")

        far.slow.on_read = fail
        with pytest.raises(StorageError, match="the line is cut"):
            list(seen)
        await_no_reading_threads()


def test_a_large_blob_and_a_folder_of_many_files_cost_requests_by_8_mib(far: Far, tmp_path: Path) -> None:
    source = random.Random(3)
    folder = tmp_path / "model"
    folder.mkdir()
    content = {f"{number:03d}.txt": source.randbytes(2_000) for number in range(400)}
    content |= {f"big-{number}.bin": source.randbytes(3 * MIB) for number in range(6)}
    for name, raw in content.items():
        (folder / name).write_bytes(raw)
    large = source.randbytes(40 * MIB)
    with keepstone.open(far.place) as store:
        store.save("large", large)
        store.save("model", folder)
    with far.open() as store:
        assert store.load("large") == large
        assert len(packs_read(far.slow)) <= 40 / 8 + 8

        far.slow.forget()
        assert store.load("model", type=dict) == content
        assert len(packs_read(far.slow)) <= 19 / 8 + 12

        far.slow.forget()
        store.resolve("model").checkout(tmp_path / "out")
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == content
        assert len(packs_read(far.slow)) <= 19 / 8 + 12

        far.slow.forget()
        assert sum(map(len, store.resolve("large").chunks())) == len(large)
        assert len(packs_read(far.slow)) <= 40 / 8 + 8


def test_merging_packs_of_a_far_store_reads_each_in_a_few_requests(far: Far) -> None:
    for number in range(16):
        far.add_pack("answers", some_items(200, f"{number}-"))
    with keepstone.open(far.place) as store:
        far.slow.forget()
        assert merge(store.repository.session) == 16
        assert len(packs_read(far.slow)) <= 16 * 3


def test_a_snapshot_of_a_far_store_reads_footers_and_leaves_values_alone(far: Far) -> None:
    for number in range(20):
        far.add_pack("answers", some_items(100, f"{number}-"))
    with keepstone.open(far.place) as store:
        far.slow.forget()
        store.collection("answers").snapshot()
        assert len(packs_read(far.slow)) <= 22
        assert far.slow.at_once_max > 1 or far.slow.delay_seconds == 0


def test_two_threads_may_read_the_same_far_store(far: Far) -> None:
    from concurrent.futures import ThreadPoolExecutor

    items = some_items(2_000)
    far.add_pack("answers", items)
    with far.open() as store, ThreadPoolExecutor(4) as pool:
        answers = store.collection("answers")
        assert all(found == items for found in pool.map(lambda _: dict(answers.items()), range(8)))
        assert len(far.slow.ranges) < 200
