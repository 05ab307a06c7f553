"""The suite that every storage passes.

Subclass `StorageContract` in a test module and give it its fixture, to hold any medium to the port:

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage(tmp_path)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from keepstone.foundation.errors import (
    DigestMismatchError,
    InvalidInputError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from keepstone.storage.base import ObjectInfo, Storage

THREADS = 8
ROUNDS = 20
BAD_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "log/../../x",
    "log/..",
    "./x",
    ".",
    "log//x",
    "log/",
    "log\\x",
    "nul\0byte",
    "line\n",
    "log/x\n",
    "sp ace",
    "ümlaut",
    "x" * 300,
)


class StorageContract:
    """What every storage must do. The fixture `storage`, a new one, is the subclass's."""

    def test_reads_back_what_was_written(self, storage: Storage) -> None:
        storage.write_new("log/00000000000000000001", b"a commit")

        assert storage.read("log/00000000000000000001") == b"a commit"
        assert storage.size("log/00000000000000000001") == 8

    def test_an_object_may_be_empty(self, storage: Storage) -> None:
        storage.write_new("packs/ab/empty", b"")

        assert storage.read("packs/ab/empty") == b""
        assert storage.size("packs/ab/empty") == 0
        assert storage.read_range("packs/ab/empty", 0, 10) == b""
        with pytest.raises(ObjectExistsError):
            storage.write_new("packs/ab/empty", b"")

    def test_five_mebibytes_come_back_whole(self, storage: Storage) -> None:
        data = bytes(range(256)) * (5 * 4096)
        storage.write_new("packs/cd/large", data)

        assert storage.read("packs/cd/large") == data
        assert storage.read_range("packs/cd/large", 5 * 2**20 - 3, 5 * 2**20) == data[-3:]
        assert storage.read_range("packs/cd/large", 7, len(data)) == data[7:]

    @pytest.mark.parametrize("count", [0, 1, 5, 41])
    def test_parts_of_any_size_become_one_object(self, storage: Storage, count: int) -> None:
        chunks = [bytes([number]) * (1 + number * 37 % 11 * 50_000) for number in range(count)]
        data = b"".join(chunks)

        storage.write_parts("packs/ab/parts", len(data), lambda: (chunk for chunk in chunks))

        assert storage.read("packs/ab/parts") == data
        with pytest.raises(ObjectExistsError):
            storage.write_parts("packs/ab/parts", len(data), lambda: (chunk for chunk in chunks))
        assert storage.read("packs/ab/parts") == data

    def test_what_the_parts_raise_is_raised_and_nothing_is_there(self, storage: Storage) -> None:
        def parts() -> Generator[bytes]:
            yield bytes(9 * 2**20)
            yield bytes(9 * 2**20)
            raise DigestMismatchError("another object", expected="a", actual="b")

        with pytest.raises(DigestMismatchError):
            storage.write_parts("packs/ab/parts", 20 * 2**20, parts)

        assert list(storage.list("")) == []
        storage.write_new("packs/ab/parts", b"free")

    @pytest.mark.parametrize("key", ["packs/ab/ranges", "log/ranges"])
    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (0, 10, b"0123456789"),
            (2, 5, b"234"),
            (9, 10, b"9"),
            (4, 4, b""),
            (8, 99, b"89"),
            (10, 12, b""),
            (50, 60, b""),
            (3, 2**62, b"3456789"),
            (2**62, 2**62 + 5, b""),
            (2**70, 2**71, b""),
        ],
    )
    def test_ranges_end_where_the_object_ends(
        self, storage: Storage, key: str, start: int, end: int, expected: bytes
    ) -> None:
        storage.write_new(key, b"0123456789")

        assert storage.read_range(key, start, end) == expected
        assert storage.read_range(key, start, end) == expected

    @pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 2), (-2, -1)])
    def test_what_is_no_range_is_refused(self, storage: Storage, start: int, end: int) -> None:
        storage.write_new("log/1", b"0123456789")

        with pytest.raises(InvalidInputError):
            storage.read_range("log/1", start, end)

    @pytest.mark.parametrize("key", ["log/absent", "packs/ab/absent", "absent/folder/x", "absent"])
    def test_what_is_absent_is_not_found(self, storage: Storage, key: str) -> None:
        for call in (storage.read, storage.size, lambda k: storage.read_range(k, 0, 0)):
            with pytest.raises(ObjectNotFoundError) as caught:
                call(key)
            assert caught.value.key == key

    def test_a_folder_is_no_object(self, storage: Storage) -> None:
        storage.write_new("packs/ab/x", b"x")

        for call in (storage.read, storage.size, lambda k: storage.read_range(k, 0, 1)):
            with pytest.raises(ObjectNotFoundError):
                call("packs/ab")
        storage.delete("packs/ab")
        assert storage.read("packs/ab/x") == b"x"

    def test_a_taken_key_keeps_its_bytes(self, storage: Storage) -> None:
        storage.write_new("log/1", b"first")

        with pytest.raises(ObjectExistsError) as caught:
            storage.write_new("log/1", b"second, and longer")

        assert caught.value.key == "log/1"
        assert storage.read("log/1") == b"first"

    def test_of_racing_writers_exactly_one_wins(self, storage: Storage) -> None:
        barrier = threading.Barrier(THREADS)

        def race(number: int) -> list[bool]:
            won: list[bool] = []
            for round_number in range(ROUNDS):
                barrier.wait(60)
                won.append(_wins(lambda n=round_number: storage.write_new(f"log/{n}", b"%d" % number * 100)))
            return won

        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(race, range(THREADS)))

        for round_number in range(ROUNDS):
            winners = [number for number in range(THREADS) if results[number][round_number]]
            assert len(winners) == 1
            assert storage.read(f"log/{round_number}") == b"%d" % winners[0] * 100

    def test_lists_are_sorted_by_key_and_cut_by_prefix(self, storage: Storage) -> None:
        keys = ["a-b", "a.b", "a/b", "a/c/d", "a/c-d", "a0", "b", "packs/00/x", "packs/0a/x", "packs/a0/y"]
        for key in reversed(keys):
            storage.write_new(key, key.encode())

        assert list(storage.list("")) == [ObjectInfo(key, len(key)) for key in sorted(keys)]
        assert [info.key for info in storage.list("a/")] == ["a/b", "a/c-d", "a/c/d"]
        assert [info.key for info in storage.list("packs/0a/")] == ["packs/0a/x"]
        assert list(storage.list("nothing/here/")) == []
        assert list(storage.list("b/")) == []

    @pytest.mark.parametrize("prefix", ["log", "/", "../", "log/../", "log\\", "log//", "\0/"])
    def test_what_is_no_prefix_is_refused_at_once(self, storage: Storage, prefix: str) -> None:
        with pytest.raises(InvalidInputError):
            storage.list(prefix)
        with pytest.raises(InvalidInputError):
            storage.settle(prefix)

    @pytest.mark.parametrize("key", ["packs/ab/gone", "log/gone"])
    def test_what_was_deleted_is_absent_and_may_be_deleted_again(self, storage: Storage, key: str) -> None:
        storage.write_new(key, b"bytes")
        assert storage.read_range(key, 0, 2) == b"by"

        storage.delete(key)
        storage.delete(key)
        storage.delete("never/was/here")

        assert list(storage.list("")) == []
        for call in (storage.read, storage.size, lambda k: storage.read_range(k, 0, 2)):
            with pytest.raises(ObjectNotFoundError):
                call(key)
        storage.write_new(key, b"anew")
        assert storage.read_range(key, 0, 9) == b"anew"

    def test_a_hint_is_replaced(self, storage: Storage) -> None:
        storage.write_hint("checkpoints/LAST", b"one, and long")
        storage.write_hint("checkpoints/LAST", b"two")

        assert storage.read("checkpoints/LAST") == b"two"
        assert storage.read_range("checkpoints/LAST", 0, 99) == b"two"
        assert list(storage.list("checkpoints/")) == [ObjectInfo("checkpoints/LAST", 3)]

    def test_readers_see_the_old_hint_or_the_new_one(self, storage: Storage) -> None:
        values = [bytes([65 + n]) * (1 + 4000 * n) for n in range(4)]
        storage.write_hint("checkpoints/LAST", values[0])
        done = threading.Event()

        def write() -> None:
            for n in range(60):
                storage.write_hint("checkpoints/LAST", values[n % 4])
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            seen = {storage.read("checkpoints/LAST")}
            while not done.is_set() and not writing.done():
                seen.add(storage.read("checkpoints/LAST"))
            writing.result()

        assert seen <= set(values)

    def test_settling_changes_nothing_that_is_visible(self, storage: Storage) -> None:
        storage.write_new("log/1", b"x")

        storage.settle("log/")
        storage.settle("")
        storage.settle("absent/")

        assert [info.key for info in storage.list("")] == ["log/1"]

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys_are_refused(self, storage: Storage, key: str) -> None:
        calls: tuple[Callable[[], object], ...] = (
            lambda: storage.read(key),
            lambda: storage.read_range(key, 0, 1),
            lambda: storage.write_new(key, b"x"),
            lambda: storage.write_hint(key, b"x"),
            lambda: storage.delete(key),
            lambda: storage.size(key),
        )
        for call in calls:
            with pytest.raises(InvalidInputError):
                call()
        assert list(storage.list("")) == []

    def test_the_location_shows_no_credentials(self, storage: Storage) -> None:
        assert storage.location
        assert "@" not in storage.location
        assert "?" not in storage.location

    def test_a_storage_that_can_be_written_says_so(self, storage: Storage) -> None:
        assert storage.writable


def _wins(write: Callable[[], None]) -> bool:
    try:
        write()
    except ObjectExistsError:
        return False
    return True
