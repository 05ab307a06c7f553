"""A folder becomes another version in place: what is equal stays, and nothing is lost unless that is asked for."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.processes import forked
from tests.objects.test_trees import Shelf, manifest_of, snapshot
from tests.permissions import only_readable

import keepstone
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    ConflictError,
    DigestMismatchError,
    SerializerError,
    StorageBusyError,
    StoragePermissionError,
)
from keepstone.objects.manifest import Manifest, Part, PartMode
from keepstone.objects.tree_updates import update_tree
from keepstone.objects.trees import FOLDER_FLAGS, walk_folder, write_tree
from keepstone.storage.platform import try_lock


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


def update(shelf: Shelf, manifest: Manifest, target: Path, *, overwrite: bool = False) -> list[str]:
    """Update `target`; return the paths that were read."""
    read: list[str] = []

    def read_chunks(part: Part) -> Iterator[bytes]:
        read.append(part.path)
        return shelf.read(part)

    update_tree(
        manifest,
        read_chunks,
        target,
        is_kept=lambda digest: digest in shelf.blobs,
        ahead=lambda parts: nullcontext(),
        overwrite=overwrite,
    )
    return read


def checked_out(shelf: Shelf, manifest: Manifest, folder: Path) -> dict[str, object]:
    write_tree(manifest, shelf.read, folder)
    return snapshot(folder)


def facts(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if not path.is_dir()
    }


def first(shelf: Shelf) -> Manifest:
    return manifest_of(
        shelf.put("a.txt", b"a"),
        shelf.put("b.txt", b"b"),
        shelf.put("deep/c.txt", b"c"),
        shelf.put("empty", b"", PartMode.FOLDER),
        shelf.put("gone/d.txt", b"d"),
        shelf.put("link", b"a.txt", PartMode.SYMLINK),
        shelf.put("run.sh", b"run", PartMode.FILE),
        shelf.put("swap", b"a file"),
    )


def second(shelf: Shelf) -> Manifest:
    return manifest_of(
        shelf.put("a.txt", b"a"),
        shelf.put("b.txt", b"B"),
        shelf.put("deep/c.txt", b"longer"),
        shelf.put("deep/new.txt", b"new"),
        shelf.put("empty/full.txt", b"full"),
        shelf.put("link", b"b.txt", PartMode.SYMLINK),
        shelf.put("run.sh", b"run", PartMode.EXECUTABLE),
        shelf.put("swap/inner.txt", b"inner"),
    )


def test_only_what_differs_is_read_and_what_is_equal_is_not_touched(
    shelf: Shelf, target: Path, tmp_path: Path
) -> None:
    old, new = first(shelf), second(shelf)
    write_tree(old, shelf.read, target)
    before = facts(target)

    read = update(shelf, new, target)

    assert snapshot(target) == checked_out(shelf, new, tmp_path / "fresh")
    assert sorted(read) == [
        "b.txt",
        "deep/c.txt",
        "deep/new.txt",
        "empty/full.txt",
        "link",
        "swap/inner.txt",
    ]
    after = facts(target)
    assert after["a.txt"] == before["a.txt"]
    assert after["run.sh"] == before["run.sh"]

    assert update(shelf, new, target) == []
    assert facts(target) == after
    update(shelf, old, target)
    assert snapshot(target) == checked_out(shelf, old, tmp_path / "again")


def test_a_folder_that_is_not_there_is_made(shelf: Shelf, target: Path, tmp_path: Path) -> None:
    update(shelf, first(shelf), target)
    assert snapshot(target) == checked_out(shelf, first(shelf), tmp_path / "fresh")


@pytest.mark.parametrize("change", ["edited", "extra", "extra link", "socket", "in the way"])
def test_what_would_be_lost_is_refused_and_given_up_on_request(
    shelf: Shelf, target: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = first(shelf), second(shelf)
    write_tree(old, shelf.read, target)
    name = {"edited": "b.txt", "in the way": "deep/new.txt/mine"}.get(change, "mine")
    mine = target / name
    if change == "extra link":
        mine.symlink_to("b.txt~")
    elif change == "socket":
        monkeypatch.chdir(target)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("mine")
    else:
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("my own work")
    before = snapshot(target)

    with pytest.raises(ConflictError, match="has 1 file that this store does not hold") as raised:
        update(shelf, new, target)
    assert name in str(raised.value)
    assert snapshot(target) == before

    update(shelf, new, target, overwrite=True)
    assert snapshot(target) == checked_out(shelf, new, tmp_path / "fresh")


def test_many_files_that_would_be_lost_are_counted(shelf: Shelf, target: Path) -> None:
    target.mkdir()
    for number in range(8):
        (target / f"{number}.txt").write_text(f"mine {number}")
    with pytest.raises(ConflictError, match=r"has 8 files that .* '4\.txt' and 3 more"):
        update(shelf, first(shelf), target)


def test_damage_changes_nothing(shelf: Shelf, target: Path) -> None:
    write_tree(first(shelf), shelf.read, target)
    before = snapshot(target), facts(target)

    def read_chunks(part: Part) -> Iterable[bytes]:
        if part.path == "deep/new.txt":
            raise DigestMismatchError("it is damaged", expected="", actual="")
        return shelf.read(part)

    with pytest.raises(DigestMismatchError):
        update_tree(
            second(shelf), read_chunks, target, is_kept=lambda _: True, ahead=lambda parts: nullcontext()
        )
    assert (snapshot(target), facts(target)) == before


def test_what_is_changed_while_files_are_fetched_is_not_replaced(shelf: Shelf, target: Path) -> None:
    write_tree(first(shelf), shelf.read, target)

    def read_chunks(part: Part) -> Iterable[bytes]:
        (target / "b.txt").write_text("just now")
        return shelf.read(part)

    with pytest.raises(ConflictError, match=r"b\.txt' was changed while"):
        update_tree(
            second(shelf), read_chunks, target, is_kept=lambda _: True, ahead=lambda parts: nullcontext()
        )
    assert (target / "b.txt").read_text() == "just now"
    assert (target / "gone/d.txt").read_text() == "d"
    assert not list(target.glob(".keepstone-*"))


def test_links_that_lead_outside_together_are_refused(shelf: Shelf, target: Path, tmp_path: Path) -> None:
    # The first is harmless, and there already; with the second one it is not.
    harmless = shelf.put("d/up", b"..", PartMode.SYMLINK)
    write_tree(manifest_of(harmless, shelf.put("x", b"x")), shelf.read, target)
    before = snapshot(target)
    with pytest.raises(SerializerError, match="outside the folder"):
        update(shelf, manifest_of(harmless, shelf.put("out", b"d/up/..", PartMode.SYMLINK)), target)
    assert snapshot(target) == before


def test_nothing_is_written_through_a_link_that_took_a_folder_s_place(
    shelf: Shelf, target: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c.txt").write_text("theirs")
    new = manifest_of(shelf.put("deep/c.txt", b"c"), shelf.put("deep/e.txt", b"e"))
    target.mkdir()
    (target / "deep").symlink_to(outside)

    with pytest.raises(ConflictError):
        update(shelf, new, target)
    update(shelf, new, target, overwrite=True)

    assert snapshot(target) == checked_out(shelf, new, tmp_path / "fresh")
    assert snapshot(outside) == {"c.txt": (b"theirs", False)}


def test_a_target_that_is_a_file_or_a_link_is_refused(shelf: Shelf, target: Path, tmp_path: Path) -> None:
    target.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    for place in (target, tmp_path / "link"):
        with pytest.raises(ConflictError, match="is no folder"):
            update(shelf, first(shelf), place, overwrite=True)
    assert target.read_text() == "mine"


def test_two_at_once_are_refused_and_what_a_killed_one_left_is_removed(
    shelf: Shelf, target: Path, tmp_path: Path
) -> None:
    write_tree(first(shelf), shelf.read, target)
    left = target / (".keepstone-" + "0" * 32 + ".tmp")
    left.mkdir()
    (left / "half").write_text("half a fi")
    handle = os.open(target, FOLDER_FLAGS)
    assert try_lock(handle)
    with pytest.raises(StorageBusyError, match="is being updated by another"):
        update(shelf, second(shelf), target)
    os.close(handle)

    update(shelf, second(shelf), target)
    assert snapshot(target) == checked_out(shelf, second(shelf), tmp_path / "fresh")


@pytest.mark.parametrize("renames", [0, 1, 4])
def test_killed_in_between_every_file_is_old_or_new_and_the_next_update_ends_it(
    shelf: Shelf, target: Path, tmp_path: Path, renames: int
) -> None:
    old, new = first(shelf), second(shelf)
    write_tree(old, shelf.read, target)
    fresh, before = checked_out(shelf, new, tmp_path / "fresh"), snapshot(target)

    def killed() -> None:
        real, left = os.rename, [renames]

        def rename(*args: object, **kwargs: object) -> None:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            real(*args, **kwargs)  # type: ignore[arg-type]

        os.rename = rename  # type: ignore[assignment]
        update(shelf, new, target)

    assert os.waitpid(forked(killed), 0)[1] == signal.SIGKILL
    found = {path: shown for path, shown in snapshot(target).items() if not path.startswith(".keepstone-")}
    assert all(shown in (before.get(path), fresh.get(path)) for path, shown in found.items())
    assert found != fresh

    update(shelf, new, target)
    assert snapshot(target) == fresh


def test_a_folder_that_may_not_be_written_is_named(shelf: Shelf, target: Path) -> None:
    write_tree(first(shelf), shelf.read, target)
    with only_readable(target), pytest.raises(StoragePermissionError, match="out"):
        update(shelf, second(shelf), target)


NAMES = st.sampled_from(["a", "b", "c"])
CONTENT = st.sampled_from([b"", b"x", b"y", b"longer"])
TREES = st.recursive(CONTENT, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


def make(tree: object, place: Path) -> None:
    if isinstance(tree, bytes):
        place.write_bytes(tree)
        place.chmod(0o755 if tree == b"x" else 0o644)
        return
    place.mkdir()
    assert isinstance(tree, dict)
    for name, inner in tree.items():
        make(inner, place / name)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=3), st.dictionaries(NAMES, TREES, max_size=3))
def test_any_tree_becomes_any_other(old: object, new: object) -> None:
    shelf = Shelf()
    with tempfile.TemporaryDirectory() as folder:
        make(old, Path(folder, "old"))
        make(new, Path(folder, "new"))
        shelf.keep(walk_folder(Path(folder, "old")))
        manifest = shelf.keep(walk_folder(Path(folder, "new")))
        update(shelf, manifest, Path(folder, "old"))
        assert snapshot(Path(folder, "old")) == snapshot(Path(folder, "new"))
        assert all(Digest.of(raw) == digest for digest, raw in shelf.blobs.items())


def test_a_store_in_the_folder_stays_and_is_never_in_the_way(shelf: Shelf, target: Path) -> None:
    (target / "work" / "gone").mkdir(parents=True)
    (target / "work" / "gone" / "old.txt").write_text("old")
    keepstone.open(target / "work" / ".keepstone", create=True).close()
    held = snapshot(target / "work" / ".keepstone")
    manifest = manifest_of(shelf.put("a.txt", b"new"), shelf.put("work/b.txt", b"b"))

    update(shelf, manifest, target, overwrite=True)

    assert snapshot(target / "work" / ".keepstone") == held
    assert {path.name for path in target.iterdir()} == {"a.txt", "work"}
    assert {path.name for path in (target / "work").iterdir()} == {"b.txt", ".keepstone"}


@pytest.mark.parametrize("path", ["work/.keepstone/store.json", "work/.keepstone", "work"])
def test_a_version_with_a_file_where_a_store_is_is_refused(shelf: Shelf, target: Path, path: str) -> None:
    keepstone.open(target / "work" / ".keepstone", create=True).close()
    before = snapshot(target)

    with pytest.raises(ConflictError, match="is a store"):
        update(shelf, manifest_of(shelf.put(path, b"x")), target, overwrite=True)

    assert snapshot(target) == before


def test_a_store_itself_becomes_no_version(shelf: Shelf, target: Path) -> None:
    keepstone.open(target, create=True).close()
    before = snapshot(target)

    for manifest in (manifest_of(), manifest_of(shelf.put("a.txt", b"x"))):
        with pytest.raises(ConflictError, match=r"/out' is a store"):
            update(shelf, manifest, target, overwrite=True)

    assert snapshot(target) == before
