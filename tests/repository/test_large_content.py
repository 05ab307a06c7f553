"""Large content: what a next version adds, what reading it costs, and what is stored only once."""

from __future__ import annotations

import contextlib
import filecmp
import os
import random
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.blobs.cut_inputs import KIB, MIB, noise, rows, safetensors, zip_of
from tests.repository.conftest import newest_commit
from tests.storage.slow import SlowStorage

import keepstone
from keepstone.api import Store
from keepstone.blobs import fastcdc
from keepstone.blobs.blobstore import is_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import StorageFullError
from keepstone.foundation.format import CHUNK_BYTES


def stored_bytes(store: Store, folder: Path) -> int:
    """Return what lies on disk once nothing waits in journals."""
    store.flush()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def added(store: Store, folder: Path, name: str, value: object) -> int:
    before = stored_bytes(store, folder)
    store.save(name, value)
    return stored_bytes(store, folder) - before


def with_edits(content: bytes, count: int) -> bytes:
    """Return `content` with `count` scattered edits: bytes that were replaced, inserted or removed."""
    draw = random.Random(count)
    parts: list[bytes] = []
    last = 0
    for at in sorted(draw.randrange(len(content)) for _ in range(count)):
        if at >= last:
            parts += [content[last:at], draw.randbytes(draw.randrange(1, 40))]
            last = at + draw.choice((0, 20, 40))
    return b"".join([*parts, content[last:]])


def use_fixed_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an earlier release cut, or a machine without pyfastcdc does."""
    monkeypatch.setattr("keepstone.blobs.cutting.new_chopper", fastcdc.FixedChopper)


def test_scattered_edits_add_what_lies_around_them(store: Store, folder: Path) -> None:
    content = noise("content", 8 * MIB)
    store.save("data", content)

    grown = added(store, folder, "data", with_edits(content, 10))

    assert grown <= 10 * 256 * KIB
    assert store.load("data@v1") == content
    assert store.load("data") == with_edits(content, 10)


def test_lines_that_were_changed_add_what_lies_around_them(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    text = rows(60_000)
    path = tmp_path / "answers.jsonl"
    path.write_bytes(text)
    whole = added(store, folder, "answers", path)

    at = text.index(b'"id": 30000')
    path.write_bytes(text[:at] + b'"by": "hand", ' + text[at:] + b'{"id": 60000}\n')

    assert added(store, folder, "answers", path) < whole / 5


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_equal_tensors_of_two_checkpoints_are_stored_once(
    kind: str, store: Store, folder: Path, tmp_path: Path
) -> None:
    def checkpoint(head: bytes, step: int) -> Path:
        tensors = {
            "frozen": noise("frozen", 2 * MIB + 12_345),
            "head": head,
            "other": noise("other", 999_999),
        }
        if kind == "safetensors":
            content = safetensors(tensors, {"step": str(step)})
        else:
            members = {"m/data.pkl": str(step).encode()} | {f"m/data/{k}": v for k, v in tensors.items()}
            content = zip_of(members, size_follows=True, align=64)
        path = tmp_path / f"{step}"
        path.write_bytes(content)
        return path

    store.save("model", checkpoint(noise("head", 200_000), 1))
    # The head has grown, so that nothing behind it stands where it stood.
    head = noise("trained", 210_001)

    assert added(store, folder, "model", checkpoint(head, 123_456)) < len(head) + 20 * KIB
    assert b"".join(store.resolve("model").chunks()) == (tmp_path / "123456").read_bytes()


def test_content_that_was_cut_in_another_way_is_not_stored_again(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = noise("kept", 3 * MIB + 5)
    with monkeypatch.context() as patch:
        use_fixed_pieces(patch)
        store.save("begin", content[: 2 * MIB])
        holding = newest_commit(store).add
        store.save("old", content)
    holding += newest_commit(store).add
    assert len(holding) == 2

    grown = added(store, folder, "new", content)

    assert grown < 4 * KIB
    # What the recipe names lies in both packs, and whoever collects garbage has to know.
    assert {record.name for record in holding} <= set(newest_commit(store).needs)
    assert store.load("new") == content


def test_a_recipe_whose_pieces_are_gone_is_not_relied_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = noise("gone", 2 * MIB)
    with monkeypatch.context() as patch:
        use_fixed_pieces(patch)
        store.save("old", content)
    find_blob = store.repository.session.entries.find_blob
    lost = Digest.of(content[-CHUNK_BYTES:])
    monkeypatch.setattr(
        store.repository.session.entries,
        "find_blob",
        lambda digest: None if digest == lost else find_blob(digest),
    )

    store.save("new", content)

    assert [record.size > len(content) for record in newest_commit(store).add] == [True]


def test_equal_content_of_one_save_is_stored_once(store: Store, folder: Path, tmp_path: Path) -> None:
    content = noise("twice", 2 * MIB)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).write_bytes(content)

    assert added(store, folder, "both", tmp_path / "in") < len(content) + 8 * KIB
    store.resolve("both").checkout(tmp_path / "out")
    assert (tmp_path / "out" / "b").read_bytes() == content


def test_a_file_of_zeros_takes_no_room(store: Store, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 * MIB)

    # 36 bytes for each of 128 pieces, compressed; and the piece itself.
    assert added(store, folder, "zeros", path) < 4 * KIB
    store.resolve("zeros").checkout(tmp_path / "out")
    assert (tmp_path / "out" / "sparse").stat().st_size == 64 * MIB


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_what_is_a_piece_at_most_is_one_blob(size: int, store: Store) -> None:
    content = noise("border", size)
    version = store.save("border", content)
    place = store.repository.session.find_blob(version.parts[0].digest)

    assert is_recipe(place) == (size > CHUNK_BYTES)
    assert store.load("border") == content


def test_a_version_with_scattered_edits_is_read_in_large_requests(
    slow: SlowStorage, request: pytest.FixtureRequest
) -> None:
    megabytes, edits = (256, 50) if request.config.getoption("--long") else (16, 3)
    content = noise("fragments", megabytes * MIB)
    with keepstone.open(slow.location, create=True) as store:
        store.save("data", content)
        store.save("data", with_edits(content, edits))
    with keepstone.open(slow.location, mode="r") as store:
        pieces = store.repository.session.read_or_pieces(store.resolve("data").parts[0].digest)
        slow.forget()
        assert store.load("data") == with_edits(content, edits)
        requests = len([key for key, _, _ in slow.ranges if key.startswith("packs/")])
    # 8 MiB a request where nothing changed. Each edit ends one, and its own piece is in another pack.
    assert requests <= megabytes / 8 + 2 * edits + 8
    assert requests < len(pieces) / 4


def test_a_pack_that_cannot_be_written_ends_the_save_and_its_transaction(
    slow: SlowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.repository.staging.PACK_BYTES_TARGET", 4 * MIB)
    slow.reads_at_once = 1
    content = noise("much", 20 * MIB)
    packs: list[str] = []

    def save_both(store: Store) -> None:
        with store.transaction() as change:
            with contextlib.suppress(StorageFullError):
                change.save("large", content)
            change.save("small", 1)

    def full(key: str) -> None:
        if key.startswith("packs/"):
            packs.append(key)
            if len(packs) == 2:
                raise StorageFullError("there is no room", path=key, hint="make some")

    with keepstone.open(slow.location, create=True) as store:
        slow.on_write = full
        with pytest.raises(StorageFullError):
            store.save("large", content)
        packs.clear()
        with pytest.raises(StorageFullError):
            save_both(store)
        assert store.names() == []
        assert not [thread for thread in threading.enumerate() if thread.name == "keepstone-pack"]

        slow.on_write = lambda key: None
        store.save("large", content)
        assert store.load("large") == content


MEMORY = """
    import sys
    from pathlib import Path
    import keepstone
    from tests.peak import peak_bytes
    folder, source, out = sys.argv[1:]
    before = peak_bytes()
    with keepstone.open(folder, create=True) as store:
        store.save("large", Path(source))
    with keepstone.open(folder) as store:
        store.resolve("large").checkout(out)
    print(peak_bytes() - before, peak_bytes())
"""


def mixed_gigabyte(file: BinaryIO) -> None:
    for number in range(16):
        # Half of it shrinks.
        file.write(noise(f"part {number}", 32 * MIB) + rows(200_000))


def sparse_20_gigabytes(file: BinaryIO) -> None:
    # A little in it, here and there.
    for number in range(20):
        file.seek(number * 10**9 + 123_456)
        file.write(noise(f"island {number}", 3 * MIB))
    file.truncate(20 * 10**9)


def dense_5_gigabytes(file: BinaryIO) -> None:
    for number in range(500):
        file.write(noise(f"part {number}", 10**7))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("write", [mixed_gigabyte, sparse_20_gigabytes, dense_5_gigabytes])
def test_memory_does_not_grow_with_the_content(tmp_path: Path, write: Callable[[BinaryIO], None]) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        write(file)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), tmp_path / "store", source, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    added, whole = map(int, done.stdout.split())
    assert whole < 256 * MIB, f"{whole >> 20} MiB, of which {added >> 20} for this"
    assert filecmp.cmp(tmp_path / "out" / "source", source, shallow=False)
    # Twenty gigabytes need not stay until the whole run has ended.
    shutil.rmtree(tmp_path)
