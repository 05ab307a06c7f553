"""The filesystem `keepstone://`, writing: a file becomes a version when it is closed, a transaction one commit."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.faults.processes import finished, forked, needs_fork

import keepstone
from keepstone import InvalidInputError, PathExistsError, PathReadOnlyError


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; none may stay behind."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert [path.name for path in folder.iterdir() if path.name.startswith("keepstone-")] == []


def write(opened: Any, content: Any) -> None:
    with opened as file:
        file.write(content)


def break_off(opened: Any, content: Any) -> None:
    """Write, and fail."""
    with opened as file:
        file.write(content)
        raise ZeroDivisionError


def write_all(fs: Any, *paths: str) -> None:
    """Write some files in one transaction."""
    with fs.transaction:
        for path in paths:
            fs.pipe_file(path, b"x")


def commits(store: keepstone.Store) -> int:
    return sum(1 for _ in store.history())


def test_a_file_becomes_the_next_version_when_it_is_closed(store: keepstone.Store, fs: Any) -> None:
    with fs.open("data/rows.csv", "wb") as file:
        file.write(b"a,b\n")
        assert not store.exists("data/rows.csv")
        file.write(b"1,2\n")
    with fs.open("data/rows.csv", "w") as file:
        print("other", file=file)

    assert store.load("data/rows.csv@v1") == b"a,b\n1,2\n"
    assert store.load("data/rows.csv", type=str) == "other\n"
    assert [part.path for part in store.resolve("data/rows.csv").parts] == ["rows.csv"]
    assert store.resolve("data/rows.csv").serializer == "file"


def test_what_equals_the_newest_version_makes_none(store: keepstone.Store, fs: Any) -> None:
    for _ in range(3):
        fs.pipe_file("same", b"bytes")

    assert [version.number for version in store.versions("same")] == [1]


def test_a_file_may_be_written_out_of_order(store: keepstone.Store, fs: Any) -> None:
    with fs.open("a", "wb") as file:
        file.write(b"....")
        file.seek(1)
        file.write(b"x")
        assert file.tell() == 2

    assert store.load("a") == b".x.."


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_an_exception_while_it_is_written_leaves_nothing(store: keepstone.Store, fs: Any, mode: str) -> None:
    text: Any = "half" if mode == "w" else b"half"
    with pytest.raises(ZeroDivisionError):
        break_off(fs.open("a", mode), text)
    with pytest.raises(ZeroDivisionError):
        break_off(fsspec.open("keepstone://a", mode, store=store.location), text)
    opened = fs.open("a", mode)
    try:
        opened.write(text)
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        opened.close()

    assert store.names() == []


@pytest.mark.parametrize("mode", ["wb", "wt"])
@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "zip"])
def test_what_is_compressed_is_kept_when_it_is_closed(
    store: keepstone.Store, fs: Any, mode: str, compression: str
) -> None:
    content: Any = "text" if mode == "wt" else b"text"
    write(fs.open("one", mode, compression=compression), content)
    with fs.transaction:
        write(fs.open("two.gz", mode, compression="infer"), content)
        write(fs.open("set@latest/plain", mode, compression="infer"), content)

    with fs.open("one", "rb", compression=compression) as file:
        assert file.read() == b"text"
    assert gzip.decompress(fs.cat_file("two.gz")) == fs.cat_file("set@v1/plain") == b"text"
    assert commits(store) == 2


def test_what_is_compressed_and_not_finished_is_not_kept(store: keepstone.Store, fs: Any) -> None:
    def forget() -> None:
        fs.open("a", "wb", compression="gzip").write(b"half")
        gc.collect()

    with pytest.raises(ZeroDivisionError):
        break_off(fs.open("a", "w", compression="gzip"), "half")
    with pytest.warns(ResourceWarning, match="'a' was not closed, and not kept"):
        forget()
    with pytest.raises(InvalidInputError, match="unknown compression 'zap'"):
        fs.open("a", "wb", compression="zap")

    assert store.names() == []


def test_a_file_that_is_committed_by_hand_is_kept_whole_and_once(store: keepstone.Store, fs: Any) -> None:
    file = fs.open("a", "wb", autocommit=False)
    file.write(b"all of it")
    file.commit()
    with pytest.raises(InvalidInputError, match="'a' was kept or discarded already"):
        file.commit()

    assert store.load("a@v1") == b"all of it"


def test_a_file_may_be_written_while_another_exception_is_handled(store: keepstone.Store, fs: Any) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        with fs.open("report.txt", "w") as file:
            file.write(str(error))

    assert store.load("report.txt") == b"division by zero"


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_file_that_nobody_closes_is_not_kept_and_this_is_said(
    store: keepstone.Store, fs: Any, mode: str
) -> None:
    def forget() -> None:
        fs.open("a", mode).write("half" if mode == "w" else b"half")
        gc.collect()

    with pytest.warns(ResourceWarning, match="'a' was not closed, and not kept"):
        forget()

    assert store.names() == []


def test_exclusive_creation_finds_what_is_there(store: keepstone.Store, fs: Any) -> None:
    first, second = fs.open("a", "xb"), fs.open("a", "xb")
    first.write(b"first")
    first.close()
    with pytest.raises(FileExistsError):
        fs.open("a", "xb")
    second.write(b"second")
    with pytest.raises(PathExistsError, match="'a' exists already"):
        second.close()

    assert store.load("a") == b"first"


@pytest.mark.parametrize(
    ("path", "mode", "error", "message"),
    [
        ("a@v1", "wb", PathReadOnlyError, "versions never change"),
        ("a@prod/x", "wb", PathReadOnlyError, "versions never change"),
        ("a", "ab", PathReadOnlyError, "with mode 'ab'"),
        ("a", "r+b", PathReadOnlyError, "with mode 'r\\+b'"),
        ("a@latest/x.csv", "wb", PathReadOnlyError, "a folder is saved as a whole"),
        ("", "wb", InvalidInputError, "name '' is empty"),
        ("a//b", "wb", InvalidInputError, "has an empty"),
        ("a@latest/../b", "wb", InvalidInputError, "cannot write to 'a@latest/../b'"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    store: keepstone.Store, fs: Any, path: str, mode: str, error: type[Exception], message: str
) -> None:
    store.save("a", "old", aliases=["prod"])
    with pytest.raises(error, match=message) as raised:
        fs.open(path, mode)

    assert isinstance(raised.value, keepstone.KeepstoneError)
    assert raised.value.hint
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert commits(store) == 1


def test_nothing_is_removed_or_moved(store: keepstone.Store, fs: Any) -> None:
    store.save("a", "x")
    refused = [
        lambda: fs.rm("a"),
        lambda: fs.rm(["a"], recursive=True),
        lambda: fs.rm_file("a"),
        lambda: fs.rmdir("a"),
        lambda: fs.delete("a"),
        lambda: fs.mv("a", "b"),
        lambda: fs.rename("a", "b"),
        lambda: fs.move("a", "b"),
    ]
    for ask in refused:
        with pytest.raises(PermissionError, match="versions never change"):
            ask()

    assert store.names() == ["a"]
    assert commits(store) == 1


def test_a_collection_stays_one(store: keepstone.Store, fs: Any) -> None:
    store.collection("answers")["q"] = 1
    store.flush()
    with pytest.raises(keepstone.KindError), fs.open("answers", "w") as file:
        file.write("x")


def test_files_and_folders_are_put_and_copied(store: keepstone.Store, fs: Any, folder: Path) -> None:
    fs.put_file(str(folder / "rows.csv"), "up/rows.csv")
    fs.copy("up/rows.csv", "again/rows.csv")

    assert store.load("again/rows.csv") == (folder / "rows.csv").read_bytes()
    assert store.resolve("again/rows.csv").parts == store.resolve("up/rows.csv").parts


# ---- transactions --------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_commit_with_one_version_of_each_name(store: keepstone.Store, fs: Any) -> None:
    store.save("set", "an older version")
    before = commits(store)
    with fs.transaction:
        for inner in ("a.txt", "sub/b.txt", "sub/a@b.txt"):
            fs.pipe_file(f"set@latest/{inner}", inner.encode())
        fs.pipe_file("single.txt", b"once")
        fs.pipe_file("single.txt", b"twice")
        assert store.names() == ["set"]

    assert commits(store) == before + 1
    assert fs.find("set@v2") == ["set@v2/a.txt", "set@v2/sub/a@b.txt", "set@v2/sub/b.txt"]
    assert store.load("set", type=dict)["sub/b.txt"] == b"sub/b.txt"
    assert [version.number for version in store.versions("single.txt")] == [1]
    assert store.load("single.txt") == b"twice"
    fs.pipe_file("after", b"not in a transaction any more")
    assert store.load("after") == b"not in a transaction any more"


def test_a_transaction_that_fails_keeps_nothing(store: keepstone.Store, fs: Any) -> None:
    def fail() -> None:
        with fs.transaction:
            fs.pipe_file("a", b"x")
            fs.pipe_file("set@latest/x", b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    fs.pipe_file("b", b"y")

    assert store.names() == ["b"]


def test_an_empty_transaction_makes_no_commit(store: keepstone.Store, fs: Any) -> None:
    with fs.transaction:
        pass

    assert commits(store) == 0


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        (["a", "a@latest/x"], InvalidInputError, "as a file, and as a folder"),
        (["a@latest/x", "a@latest/x/y"], keepstone.ConflictError, "cannot both be"),
        (["good", "answers"], keepstone.KindError, "answers"),
    ],
)
def test_what_does_not_fit_together_fails_the_whole_transaction(
    store: keepstone.Store, fs: Any, paths: list[str], error: type[Exception], message: str
) -> None:
    store.collection("answers")["q"] = 1
    store.flush()
    before = commits(store)
    with pytest.raises(error, match=message):
        write_all(fs, *paths)

    assert commits(store) == before
    write_all(fs, "later")
    assert store.exists("later")


def test_a_file_that_is_still_open_fails_the_transaction(store: keepstone.Store, fs: Any) -> None:
    def leave_open() -> None:
        with fs.transaction:
            fs.pipe_file("b", b"x")
            kept.append(fs.open("a", "wb"))

    kept: list[Any] = []
    with pytest.raises(InvalidInputError, match="'a' is still open"):
        leave_open()

    assert store.names() == []


def test_a_file_whose_writing_failed_is_left_out(store: keepstone.Store, fs: Any) -> None:
    with fs.transaction:
        fs.pipe_file("good", b"x")
        with pytest.raises(ZeroDivisionError):
            break_off(fs.open("bad", "wb"), b"half")

    assert store.names() == ["good"]


def test_one_transaction_at_a_time(store: keepstone.Store, fs: Any) -> None:
    def begin_another() -> None:
        with fs.transaction:
            fs.pipe_file("a", b"x")
            write_all(fs, "b")

    with pytest.raises(InvalidInputError, match="in a transaction already"):
        begin_another()

    assert store.names() == []


def test_exclusive_creation_in_a_transaction_is_checked_when_it_ends(store: keepstone.Store, fs: Any) -> None:
    def be_late() -> None:
        with fs.transaction:
            write(fs.open("a", "xb"), b"x")
            store.save("a", "somebody was first")

    with pytest.raises(keepstone.RefConflictError):
        be_late()

    assert store.load("a") == "somebody was first"


def test_urls_that_name_the_same_store_write_into_its_transaction(store: keepstone.Store, fs: Any) -> None:
    with fs.transaction:
        for number, url in enumerate(
            ("keepstone://set@latest/{}", f"keepstone://set@latest/{{}}::{store.location}")
        ):
            options = {} if "::" in url else {"store": store.location}
            with fsspec.open(url.format(number), "w", **options) as file:
                file.write(str(number))

    assert store.load("set", type=dict) == {"0": b"0", "1": b"1"}


def test_what_the_temporary_folder_refuses_is_said(store: keepstone.Store, fs: Any, scratch: Path) -> None:
    name = "n" * 300
    with pytest.raises(keepstone.StorageError, match="to a temporary file: File name too long"):
        fs.open(name, "wb")
    assert os.listdir(scratch) == []


def test_no_temporary_folder_is_said(
    store: keepstone.Store, fs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nosuch"))
    with pytest.raises(keepstone.StorageError, match="cannot write 'a' to a temporary file") as raised:
        fs.open("a", "wb")
    assert "TMPDIR" in str(raised.value.hint)


@needs_fork
def test_a_forked_child_keeps_nothing_of_what_its_parent_writes(store: keepstone.Store, fs: Any) -> None:
    def close() -> None:
        with pytest.raises(InvalidInputError, match="'a' was opened by the process that forked this one"):
            file.close()

    def end() -> None:
        with pytest.raises(InvalidInputError, match="'set' was opened by the process that forked this one"):
            fs.end_transaction()

    file = fs.open("a", "wb")
    file.write(b"once")
    assert finished(forked(close))
    file.close()
    fs.start_transaction()
    fs.pipe_file("set@latest/x", b"once")
    assert finished(forked(end))
    assert store.names() == ["a"]
    fs.end_transaction()

    assert store.load("a@v1") == fs.cat_file("set@v1/x") == b"once"
    assert commits(store) == 2
