from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepstone.foundation.errors import InvalidInputError
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import locate
from keepstone.storage.memory import MemoryStorage


@pytest.mark.parametrize(
    "write", [str, Path, lambda path: f"file://{path}", lambda path: f"file://localhost{path}"]
)
def test_a_folder_is_found_however_it_is_written(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    storage = locate(write(tmp_path / "runs"))

    assert isinstance(storage, LocalStorage)
    assert storage.location == str(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_relative_folder_becomes_absolute(tmp_path: Path) -> None:
    assert locate(os.path.relpath(tmp_path)).location == str(tmp_path)


def test_a_tilde_is_the_home_folder() -> None:
    assert locate("~/runs").location == os.path.expanduser("~") + "/runs"
    with pytest.raises(InvalidInputError, match="home folder '~nobody-of-that-name'"):
        locate("~nobody-of-that-name/runs")


def test_a_file_url_is_decoded() -> None:
    assert locate("file:///data/my%20runs").location == "/data/my runs"
    assert locate("FILE:///data/x").location == "/data/x"


def test_memory_is_found_by_name() -> None:
    storage = locate("memory://locate-test")

    assert isinstance(storage, MemoryStorage)
    assert storage.location == "memory://locate-test"
    assert locate("memory://").location != locate("memory://").location


def test_writable_is_passed_on(tmp_path: Path) -> None:
    assert not locate(tmp_path, writable=False).writable
    assert not locate("memory://locate-read-only", writable=False).writable
    assert locate(tmp_path).writable
    assert locate("memory://locate-read-only").writable


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/team", "s3://bucket/team"),
        ("gs://bucket", "gs://bucket"),
        ("az://container/x", "az://container/x"),
        ("https://user:pa/ss@host/x?token=abc#frag", "https://host/x"),
        ("s3://KEY:SECRET@bucket/p", "s3://bucket/p"),
        ("https://host?token=abc", "https://host"),
    ],
)
def test_remote_places_are_refused_without_showing_secrets(url: str, shown: str) -> None:
    with pytest.raises(InvalidInputError, match="this release") as caught:
        locate(url)

    assert str(caught.value).startswith(shown + " is remote")
    assert "come next" in caught.value.hint


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "not a location"),
        ("a\0b", "not a location"),
        (b"runs", "is a bytes"),
        ("ftp2://host/x", "no storage is known for ftp2://"),
        (Path("s3://bucket/x"), "one slash less"),
        ("file://host/x", "names a machine, 'host'"),
        ("file://runs", "names a machine, 'runs'"),
        ("file:///a%00b", "not a location"),
    ],
)
def test_what_is_no_place_is_refused(place: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        locate(place)
    assert caught.value.hint


def test_a_file_is_not_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(InvalidInputError, match=r"notes\.txt is a file, not a folder"):
        locate(tmp_path / "notes.txt")
    with pytest.raises(InvalidInputError, match="leads nowhere"):
        locate(tmp_path / "broken")
    assert locate(tmp_path / "link").location == str(tmp_path / "link")


def test_local_use_imports_nothing_heavy() -> None:
    code = (
        "import sys; from keepstone.storage.locate import locate; locate('/tmp'); "
        "print(sorted({'fsspec', 's3fs', 'numpy', 'asyncio', 'subprocess'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
