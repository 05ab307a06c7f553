"""Parts that are read as they are touched: files, the items of a folder, memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.servers.bucket import Bucket
from tests.servers.fixtures import Machine
from tests.servers.proxy import Proxy
from tests.storage.slow import SlowStorage, await_no_reading_threads, slow_place

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import (
    CorruptionError,
    InvalidInputError,
    KeyNotFoundError,
    KindError,
)
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.serializer import Dumped, PartSource, ReadParts, Source
from keepstone.repository.past import Past
from keepstone.storage.local import LocalStorage

MIB = 1024 * 1024
LARGE = 24 * MIB


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


@pytest.fixture(scope="module")
def large() -> bytes:
    return b"".join(some_bytes(MIB, number) for number in range(LARGE // MIB))


def test_a_megabyte_from_the_middle_touches_less_than_two(slow: SlowStorage, large: bytes) -> None:
    with keepstone.open(slow.location, create=True) as store:
        store.save("large", large)
    # Where a read does not wait, each piece is one.
    for reads_at_once, requests_max in ((1, 40), (16, 6)):
        slow.reads_at_once = reads_at_once
        with keepstone.open(slow.location, mode="r") as store:
            version = store.resolve("large")
            with version.open() as file:
                slow.forget()
                file.seek(10 * MIB)
                assert file.read(1_000_000) == large[10 * MIB : 10 * MIB + 1_000_000]
                assert slow.bytes_read < 2_000_000
                assert len(slow.ranges) <= requests_max

                # And a little more of the same neighbourhood costs little more.
                slow.forget()
                assert file.read(100_000) == large[10 * MIB + 1_000_000 : 10 * MIB + 1_100_000]
                assert slow.bytes_read < 2_000_000


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("reads_at_once", [1, 16], ids=["a disk", "a bucket"])
def test_a_megabyte_of_two_gigabytes_touches_less_than_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reads_at_once: int
) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.writelines(some_bytes(4_000_000, number) for number in range(500))
    location, storage = slow_place(monkeypatch, LocalStorage(tmp_path / "store"))
    storage.delay_seconds, storage.reads_at_once = 0, reads_at_once
    with keepstone.open(location, create=True) as store:
        store.save("large", source)
    with keepstone.open(location, mode="r") as store:
        version = store.resolve("large")
        storage.forget()
        with version.open() as file, source.open("rb") as same:
            file.seek(1_000_000_000)
            same.seek(1_000_000_000)
            assert file.read(1_000_000) == same.read(1_000_000)
        assert storage.bytes_read < 2_000_000


def test_reading_on_and_on_over_a_slow_line_is_a_stream(slow: SlowStorage, large: bytes) -> None:
    with keepstone.open(slow.location, create=True) as store:
        store.save("large", large)
    slow.delay_seconds = 0.0005
    with keepstone.open(slow.location, mode="r") as store:
        with store.resolve("large").open() as file:
            slow.forget()
            assert b"".join(iter(lambda: file.read(50_000), b"")) == large
        assert len(slow.ranges) <= 25
        assert slow.bytes_read < LARGE * 1.01

        with store.resolve("large").open() as file:
            slow.forget()
            assert file.read() == large
        assert len(slow.ranges) <= 15

        # Left in the middle: nothing goes on behind it.
        file = store.resolve("large").open()
        file.read(10 * MIB)
        file.close()
        await_no_reading_threads()


def test_a_bucket_is_read_by_ranges_and_what_was_read_is_there_offline(
    bucket: Bucket, machine: Machine, proxy: Proxy, large: bytes
) -> None:
    url, content = f"{bucket.url}/team", large[: 12 * MIB]
    with keepstone.open(url, create=True) as store:
        store.save("large", content)
    proxy.seen.clear()
    with keepstone.open(url, mode="r") as store, store.resolve("large").open() as file:
        file.seek(5 * MIB)
        assert file.read(500_000) == content[5 * MIB : 5 * MIB + 500_000]
    packs = [request for request in proxy.seen if "/packs/" in request.key]
    assert 1 <= len(packs) <= 4
    with keepstone.open(url, mode="r", offline=True) as store, store.resolve("large").open() as file:
        file.seek(5 * MIB + 500)
        assert file.read(100) == content[5 * MIB + 500 : 5 * MIB + 600]


def test_damage_in_the_middle_is_an_error_of_who_touches_it(folder: Path, large: bytes) -> None:
    content = large[: 6 * MIB]
    with keepstone.open(folder) as store:
        store.save("large", content)
    (pack,) = (path for path in (folder / "packs").rglob("*") if path.is_file())
    data = bytearray(pack.read_bytes())
    place = data.index(content[3 * MIB + 7 : 3 * MIB + 27])
    data[place] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    with keepstone.open(folder, mode="r") as store, store.resolve("large").open() as file:
        assert file.read(MIB) == content[:MIB]
        file.seek(3 * MIB)
        with pytest.raises(CorruptionError):
            file.read(100)
        file.seek(5 * MIB)
        assert file.read() == content[5 * MIB :]


def test_a_part_opens_before_its_transaction_ends_and_not_without_a_commit(store: Store) -> None:
    content = some_bytes(3 * MIB)
    with store.transaction() as change:
        version = change.save("a", content)
        with version.open() as file:
            file.seek(2 * MIB)
            assert file.read() == content[2 * MIB :]
        with pytest.raises(InvalidInputError, match="has no number"):
            version.mmap()
    with version.open() as file:
        assert file.read() == content

    with contextlib.suppress(ZeroDivisionError), store.transaction() as change:
        lost = change.save("b", content)
        raise ZeroDivisionError
    with pytest.raises(InvalidInputError, match="ended without a commit"):
        lost.open()


def test_zip_files_read_their_members_alone(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(6):
            archive.writestr(f"{number}.bin", some_bytes(MIB, number))
    version = store.save("data", path)
    with version.open() as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == [f"{number}.bin" for number in range(6)]
        assert archive.read("4.bin") == some_bytes(MIB, 4)


def test_a_parquet_file_reads_the_columns_that_are_asked_for(store: Store, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    table = pa.table({name: list(range(20_000)) for name in ("a", "b", "c")})
    pq.write_table(table, path)
    with store.save("table", path).open() as file:
        assert pq.read_table(file, columns=["b"]).column("b").to_pylist() == list(range(20_000))


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "b.txt").write_text("b")
    (root / "a.txt").write_text("a")
    (root / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (root / "deep" / "run.sh").chmod(0o755)
    (root / "link").symlink_to("a.txt")
    (root / "large.bin").write_bytes(some_bytes(4 * MIB))
    return root


def test_a_folder_opens_as_a_mapping_of_its_files(store: Store, tree: Path) -> None:
    version = store.save("tree", tree)
    items = version.items()

    assert isinstance(items, Mapping)
    assert list(items) == ["a.txt", "b.txt", "deep/run.sh", "large.bin"]
    assert len(items) == 4
    assert items["a.txt"] == b"a"
    assert "b.txt" in items
    assert "link" not in items
    assert "empty" not in items
    assert items.get("absent") is None
    assert dict(items) == dict(items.items()) == version.load(type=dict)
    assert list(items.values()) == list(version.load(type=dict).values())
    assert repr(items) == "<tree@v1: a folder of 4 files>"
    assert pickle.loads(pickle.dumps(items)) == items
    with pytest.raises(KeyNotFoundError, match=r"tree@v1 has no file 'link'"):
        items["link"]
    with pytest.raises(InvalidInputError, match="not text"):
        items[3]  # type: ignore[index]


def test_of_a_folder_only_what_is_asked_for_is_read(slow: SlowStorage, tree: Path) -> None:
    with keepstone.open(slow.location, create=True) as store:
        store.save("tree", tree)
    with keepstone.open(slow.location, mode="r") as store:
        items: Any = store.resolve("tree").items()
        slow.forget()
        assert len(items) == 4
        assert items.size("large.bin") == 4 * MIB
        assert not slow.ranges
        assert items["b.txt"] == b"b"
        assert slow.bytes_read < 100_000
        with items.open("large.bin") as file:
            slow.forget()
            file.seek(-10, io.SEEK_END)
            assert file.read() == some_bytes(4 * MIB)[-10:]
        assert slow.bytes_read < 1.1 * MIB

        slow.forget()
        assert len(dict(items.items())) == 4
        assert len(slow.ranges) <= 8


def test_the_past_and_a_lock_open_the_same_mapping(store: Store, tree: Path, tmp_path: Path) -> None:
    version = store.save("tree", tree)
    store.pin(["tree"], tmp_path / "keepstone.lock")
    past: Past = store.at(0)
    with keepstone.locked(tmp_path / "keepstone.lock") as locked:
        assert past.resolve("tree").items() == locked.resolve("tree").items() == version.items()


def test_a_value_without_items_says_so(store: Store, tree: Path) -> None:
    with pytest.raises(KindError, match=r"a@v1 is one value of serializer 'json', and has no items"):
        store.save("a", {"x": 1}).items()
    with pytest.raises(
        InvalidInputError, match=r"tree@v1 is a folder: its items are what they were saved as"
    ):
        store.save("tree", tree).items(type=str)
    with pytest.raises(KindError, match="'tree' is an artifact, not a collection"):
        store.collection("tree@v1")


class Pages:
    """A text as its pages."""

    id = "pages"
    version = 1

    def matches(self, value: object) -> bool:
        return isinstance(value, tuple)

    def dump(self, value: Any) -> Dumped:
        parts = tuple(PartSource(f"{n:03}", Source.of_bytes(page.encode())) for n, page in enumerate(value))
        return Dumped(parts, "pages", {}, {})

    def load(self, manifest: Manifest, read: Any, type: Any = None) -> Any:  # noqa: A002
        return tuple(read(part).decode() for part in manifest.parts)

    def open(self, manifest: Manifest, read: ReadParts) -> Mapping[str, Any]:
        class Opened(Mapping[str, str]):
            parts: dict[str, Part] = {part.path: part for part in manifest.parts}  # noqa: RUF012

            def __getitem__(self, key: str) -> str:
                return read(self.parts[key]).decode()

            def __iter__(self) -> Iterator[str]:
                return iter(self.parts)

            def __len__(self) -> int:
                return len(self.parts)

        return Opened()


def test_a_serializer_that_opens_items_is_asked_for_them(store: Store) -> None:
    store.register(Pages())
    version = store.save("book", ("one", "two"))

    assert version.items() == {"000": "one", "001": "two"}
    assert version.load() == ("one", "two")


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_what_lies_whole_and_as_it_is_can_be_mapped(store: Store) -> None:
    content = some_bytes(700_000)
    for filler in range(3):
        store.save(f"filler {filler}", some_bytes(300_000, filler + 1))
    view = store.save("a", content).mmap()

    assert view == content
    assert view.readonly
    store.close()
    assert bytes(view[-3:]) == content[-3:]


def test_an_inlined_blob_can_be_mapped_too(store: Store) -> None:
    assert store.save("a", some_bytes(5000)).mmap() == some_bytes(5000)
    assert store.save("empty", b"").mmap() == b""


@pytest.mark.parametrize("content", [b"x" * 100_000, some_bytes(3 * MIB)], ids=["compressed", "pieces"])
def test_what_lies_otherwise_cannot_be_mapped_and_says_what_to_do(store: Store, content: bytes) -> None:
    with pytest.raises(InvalidInputError, match="stored in pieces, or compressed") as raised:
        store.save("a", content).mmap()
    assert "open()" in raised.value.hint


def test_memory_cannot_be_mapped_from_elsewhere(slow: SlowStorage) -> None:
    with (
        keepstone.open(slow.location, create=True) as store,
        pytest.raises(InvalidInputError, match="is no folder of this machine"),
    ):
        store.save("a", some_bytes(1000)).mmap()


def test_what_is_damaged_is_not_mapped(folder: Path) -> None:
    content = some_bytes(400_000)
    with keepstone.open(folder) as store:
        store.save("a", content)
    (pack,) = (path for path in (folder / "packs").rglob("*") if path.is_file())
    pack.chmod(0o644)
    with open(pack, "r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    with keepstone.open(folder, mode="r") as store, pytest.raises(CorruptionError):
        store.resolve("a").mmap()


def test_mapping_beyond_the_end_of_an_object_is_short(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write_new("a", os.urandom(9000))

    assert storage.mapped("a", 8999, 20_000) == storage.read_range("a", 8999, 20_000)
    assert storage.mapped("a", 9000, 20_000) == b""
    assert storage.mapped("a", 5000, 6000) == storage.read_range("a", 5000, 6000)
