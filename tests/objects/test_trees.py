"""Folders to parts and back; nothing is ever written outside the target."""

from __future__ import annotations

import os
import socket
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    ConflictError,
    InvalidInputError,
    KeepstoneError,
    MalformedError,
    SerializerError,
    StorageError,
)
from keepstone.objects.manifest import Manifest, Part, PartMode, decode_manifest, encode_manifest
from keepstone.objects.serializer import PartSource
from keepstone.objects.trees import walk_file, walk_folder, write_tree

ODD_NAMES = ["a\nb", "back\\slash", " space ", "-rf", "*", "ü", "u\u0308", "A", "a", ".hidden", "x" * 255]


class Shelf:
    """Blobs in a dict, in place of a store."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}

    def put(self, path: str, content: bytes, mode: int = PartMode.FILE) -> Part:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return Part(path, digest, len(content), mode)

    def keep(self, sources: list[PartSource]) -> Manifest:
        return manifest_of(*(self.put(s.path, b"".join(s.source.chunks(7)), s.mode) for s in sources))

    def read(self, part: Part) -> Iterator[bytes]:
        content = self.blobs[part.digest]
        yield from (content[i : i + 3] for i in range(0, len(content), 3))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def manifest_of(*parts: Part) -> Manifest:
    return Manifest(serializer="folder", serializer_version=1, type_name="folder", parts=parts)


def snapshot(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = Path(folder, name)
            facts = path.lstat()
            shown: Any = "folder"
            if path.is_symlink():
                shown = ("link", os.readlink(path))
            elif path.is_file():
                shown = (path.read_bytes(), bool(facts.st_mode & stat.S_IXUSR))
            found[str(path.relative_to(root))] = shown
    return found


def test_a_folder_comes_back_with_names_modes_links_and_empty_folders(tmp_path: Path, shelf: Shelf) -> None:
    root = tmp_path / "root"
    (root / "deep/er").mkdir(parents=True)
    (root / "empty/inner").mkdir(parents=True)
    (root / "deep/er/data.bin").write_bytes(bytes(range(256)))
    (root / "empty.txt").touch()
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("deep/er/data.bin")
    (root / "deep/up").symlink_to("..")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    for name in ODD_NAMES:
        (root / name).write_text(name)

    manifest = shelf.keep(walk_folder(root))
    write_tree(decode_manifest(encode_manifest(manifest)), shelf.read, tmp_path / "new/copy")

    assert snapshot(tmp_path / "new/copy") == snapshot(root)
    assert [p.path for p in manifest.parts] == sorted(p.path for p in manifest.parts)
    assert sorted(os.listdir(tmp_path / "new")) == ["copy"]


def test_an_empty_folder_comes_back(tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / "root").mkdir()

    write_tree(shelf.keep(walk_folder(tmp_path / "root")), shelf.read, tmp_path / "copy")

    assert snapshot(tmp_path / "copy") == {}


def test_links_are_not_followed_when_reading(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path)

    assert [(p.path, p.mode) for p in walk_folder(tmp_path / "root")] == [("out", PartMode.SYMLINK)]


def test_sockets_and_pipes_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a/pipe")
    with pytest.raises(SerializerError, match=r"cannot save named pipe '.*a/pipe'"):
        walk_folder(tmp_path / "a")
    with pytest.raises(SerializerError, match="named pipe"):
        walk_file(tmp_path / "a/pipe")

    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("b.sock")
        with pytest.raises(SerializerError, match="cannot save socket"):
            walk_folder(tmp_path)


def test_a_file_that_was_found_takes_less_than_a_kilobyte_of_memory(tmp_path: Path) -> None:
    # docs/how-to-large.md says a KB a file; a folder may have a million of them.
    for number in range(1000):
        (tmp_path / str(number)).touch()
    tracemalloc.start()
    try:
        parts = walk_folder(tmp_path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(parts) == 1000
    assert held < 800 * len(parts)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    except OSError:
        pytest.skip("this file system takes Unicode names only")

    with pytest.raises(SerializerError, match=r"\\udcff.* is not Unicode text"):
        walk_folder(tmp_path)


def test_a_file_named_through_a_link_is_saved_under_the_name_given(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_bytes(b"abc")
    (tmp_path / "alias.txt").symlink_to("real.txt")

    found = walk_file(tmp_path / "alias.txt")

    assert (found.path, found.mode, b"".join(found.source.chunks(2))) == ("alias.txt", PartMode.FILE, b"abc")
    with pytest.raises(InvalidInputError, match="no file or folder"):
        walk_file(tmp_path / "absent")


@pytest.mark.parametrize("path", ["../x", "/tmp/keepstone-escape", "a/../../x", "..", "nul\0", "a//x"])
def test_hostile_paths_write_nothing_anywhere(tmp_path: Path, shelf: Shelf, path: str) -> None:
    (tmp_path / "in").mkdir()
    hostile = manifest_of(shelf.put("fine", b"1"), shelf.put(path, b"evil"))

    with pytest.raises(KeepstoneError):
        write_tree(hostile, shelf.read, tmp_path / "in/target")

    assert snapshot(tmp_path) == {"in": "folder"}
    assert not os.path.lexists("/tmp/keepstone-escape")


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_part_below_a_link_does_not_follow_it(
    tmp_path: Path, shelf: Shelf, allow: bool, reverse: bool
) -> None:
    (tmp_path / "outside").mkdir()
    parts = [
        shelf.put("a", str(tmp_path / "outside").encode(), PartMode.SYMLINK),
        shelf.put("a/evil", b"evil"),
    ]
    hostile = manifest_of(*(reversed(parts) if reverse else parts))

    with pytest.raises(KeepstoneError):
        write_tree(hostile, shelf.read, tmp_path / "target", outside_links=allow)

    assert snapshot(tmp_path) == {"outside": "folder"}


@pytest.mark.parametrize(
    "links",
    [
        {"a": "/etc/passwd"},
        {"a": ".."},
        {"a": "../target/b"},
        {"d/up": "..", "b": "d/up/.."},
        {"a": "missing/../.."},
        {"d/x": "../..", "e": "d/x"},
    ],
)
def test_links_that_lead_outside_are_refused_unless_allowed(
    tmp_path: Path, shelf: Shelf, links: dict[str, str]
) -> None:
    parts = [shelf.put(path, to.encode(), PartMode.SYMLINK) for path, to in links.items()]
    manifest = manifest_of(*parts, shelf.put("z/file", b"1"))

    with pytest.raises(SerializerError, match="outside the folder"):
        write_tree(manifest, shelf.read, tmp_path / "target")
    assert snapshot(tmp_path) == {}

    write_tree(manifest, shelf.read, tmp_path / "target", outside_links=True)
    assert {path: os.readlink(tmp_path / "target" / path) for path in links} == links


def test_a_link_planted_while_writing_is_not_followed(tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / "outside").mkdir()
    parts = [shelf.put("a/one", b"1"), shelf.put("b/two", b"2")]

    def plant(part: Part) -> Iterator[bytes]:
        if part.path == "a/one":
            (draft,) = tmp_path.glob(".keepstone-*.tmp")
            (draft / "b").symlink_to(tmp_path / "outside")
        return shelf.read(part)

    with pytest.raises(StorageError):
        write_tree(manifest_of(*parts), plant, tmp_path / "target")

    assert snapshot(tmp_path) == {"outside": "folder"}


def test_only_an_empty_folder_may_be_there_already(tmp_path: Path, shelf: Shelf) -> None:
    manifest = manifest_of(shelf.put("f", b"1"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")

    for taken in ("full", "file", "link"):
        with pytest.raises(ConflictError, match="exists already and is no empty folder"):
            write_tree(manifest, shelf.read, tmp_path / taken)
    write_tree(manifest, shelf.read, tmp_path / "empty")

    assert (tmp_path / "empty/f").read_bytes() == b"1"
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "full", "link"]


@pytest.mark.parametrize("size", [0, 2, 4])
def test_a_part_of_another_size_leaves_nothing(tmp_path: Path, shelf: Shelf, size: int) -> None:
    right = shelf.put("f", b"123")

    with pytest.raises(MalformedError, match="is not of the"):
        write_tree(manifest_of(Part("f", right.digest, size)), shelf.read, tmp_path / "target")

    assert snapshot(tmp_path) == {}


def test_a_failing_read_leaves_nothing(tmp_path: Path, shelf: Shelf) -> None:
    def broken(part: Part) -> Iterator[bytes]:
        yield b"1"
        raise MalformedError("damaged")

    with pytest.raises(MalformedError, match="damaged"):
        write_tree(manifest_of(shelf.put("d/f", b"123")), broken, tmp_path / "target")

    assert snapshot(tmp_path) == {}


def test_values_without_a_file_name_get_one(tmp_path: Path, shelf: Shelf) -> None:
    value = Manifest(
        serializer="json", serializer_version=1, type_name="dict", parts=(shelf.put("", b'{"a":1}'),)
    )

    write_tree(value, shelf.read, tmp_path / "target")

    assert (tmp_path / "target/value.json").read_bytes() == b'{"a":1}'
