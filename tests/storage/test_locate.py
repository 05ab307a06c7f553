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
from keepstone.storage.retrying import Retrying


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
    ("url", "location"),
    [
        ("s3://bucket/team/", "s3://bucket/team"),
        ("S3A://bucket", "s3://bucket"),
        ("https://host/stores/team", "https://host/stores/team"),
        ("http://localhost:8000", "http://localhost:8000"),
    ],
)
def test_a_bucket_is_found_and_asked_patiently(url: str, location: str) -> None:
    storage = locate(url)

    assert isinstance(storage, Retrying)
    assert storage.location == location
    assert storage.writable == (not url.startswith("http"))
    assert not locate(url, writable=False).writable
    assert storage.reads_at_once == 16


@pytest.mark.parametrize(
    ("url", "package", "extra"), [("gs://bucket/x", "gcsfs", "gcs"), ("az://bucket/x", "adlfs", "azure")]
)
def test_a_cloud_whose_package_is_missing_names_it(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str
) -> None:
    # None in its place is how Python marks a module that must not be found.
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(InvalidInputError, match=f"needs the package {package}") as caught:
        locate(url)
    assert caught.value.hint == f'pip install "keepstone[{extra}]"'


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "not a location"),
        ("a\0b", "not a location"),
        (b"runs", "is a bytes"),
        ("ftp2://host/x", "no storage is known for ftp2://"),
        ("r2://bucket/x", "no storage is known for r2://"),
        (Path("s3://bucket/x"), "one slash less"),
        ("s3:bucket/x", "s3://bucket/x was written with two slashes less"),
        (" s3://bucket/x", "a space or a line end before or behind s3://bucket/x$"),
        ("s3://key:secret@bucket/x\n", "a space or a line end before or behind s3://bucket/x$"),
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
