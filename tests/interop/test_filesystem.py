"""The filesystem `keepstone://`, reading: which paths there are, what they mean, and which instance serves them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.interop.folders import make_folder
from tests.servers.bucket import Bucket
from tests.servers.fixtures import Machine
from tests.servers.proxy import Proxy

import keepstone
from keepstone import PathIsFolderError, PathNotFoundError
from keepstone.interop.filesystem import KeepstoneFileSystem
from keepstone.repository import session


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[keepstone.Store]:
    """A store that no test changes."""
    place = tmp_path_factory.mktemp("filled")
    folder = make_folder(place / "folder")
    store = keepstone.open(place / "runs")
    store.save("models/email", {"a": 1}, aliases=["prod"])
    store.save("models/email", {"a": 2})
    store.save("data", b"a file, and the beginning of other names")
    store.save("data/set", folder)
    store.save("data/set/below", "a name that begins with another one")
    store.save("data/rows", folder / "rows.csv")
    store.collection("answers")["q"] = 1
    store.collection("answers").snapshot()
    yield store
    store.close()


@pytest.fixture
def fs(filled: keepstone.Store) -> Any:
    return fsspec.filesystem("keepstone", store=filled.location)


def test_the_installed_package_offers_it_to_fsspec() -> None:
    (offered,) = importlib.metadata.entry_points(group="fsspec.specs", name="keepstone")

    assert offered.value == "keepstone.interop.filesystem:KeepstoneFileSystem"
    assert fsspec.get_filesystem_class("keepstone") is KeepstoneFileSystem


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        ("", ["data", "data", "models"]),
        ("models", ["models/email"]),
        ("models/email", ["models/email"]),
        ("models/email@", ["models/email@prod", "models/email@v1", "models/email@v2"]),
        ("data", ["data/rows", "data/set"]),
        ("data@v1", ["data@v1"]),
        ("data/rows@v1", ["data/rows@v1"]),
        (
            "data/set",
            [f"data/set/{name}" for name in ("below", "circle", "inside", "outside", "rows.csv", "sub")],
        ),
        (
            "data/set@v1",
            [f"data/set@v1/{name}" for name in ("circle", "inside", "outside", "rows.csv", "sub")],
        ),
        ("data/set@latest/sub", ["data/set@latest/sub/empty", "data/set@latest/sub/part@1.txt"]),
        ("data/set/sub", ["data/set/sub/empty", "data/set/sub/part@1.txt"]),
        ("data/set/sub/empty", []),
    ],
)
def test_folders_list_names_versions_and_parts(
    filled: keepstone.Store, fs: Any, path: str, listed: list[str]
) -> None:
    assert [info["name"] for info in fs.ls(path)] == listed
    assert fs.ls("keepstone://" + path + "/", detail=False) == list(dict.fromkeys(listed))


def test_whatever_is_found_can_be_opened_or_listed(filled: keepstone.Store, fs: Any) -> None:
    found = fs.find("", withdirs=False, detail=True)

    assert set(found) == {
        "data",
        "data/rows",
        "data/set/below",
        *(f"data/set/{name}" for name in ("circle", "inside", "outside", "rows.csv", "sub/part@1.txt")),
        "models/email",
    }
    for path, info in found.items():
        assert fs.exists(path)
        if info["type"] == "file":
            assert len(fs.cat_file(path)) == info["size"] == fs.size(path)
    assert fs.glob("data/**/*.csv") == ["data/set/rows.csv"]
    assert fs.glob("data/set@v1/s*/*") == ["data/set@v1/sub/empty", "data/set@v1/sub/part@1.txt"]


def test_what_is_said_of_a_file(filled: keepstone.Store, fs: Any) -> None:
    version = filled.resolve("data/set@v1")
    (part,) = [part for part in version.parts if part.path == "rows.csv"]
    info = fs.info("data/set/rows.csv")

    assert info["type"] == "file"
    assert info["size"] == 12
    assert info["version"] == "data/set@v1"
    assert info["digest"] == fs.ukey("data/set@v1/rows.csv") == "b3:" + part.digest.hex()
    assert fs.created("data/set/rows.csv") == fs.modified("data/set") == info["created"] == version.created
    assert fs.checksum("data/set/rows.csv") == int(part.digest.hex(), 16)
    assert fs.ukey("data/set") == version.digest
    with pytest.raises(PathIsFolderError, match="has no created"):
        fs.created("models")


def test_links_inside_are_followed_and_others_are_only_shown(filled: keepstone.Store, fs: Any) -> None:
    assert fs.cat_file("data/set/inside") == b"0123456789"
    assert fs.isfile("data/set/inside")
    for name in ("outside", "circle"):
        assert fs.info(f"data/set/{name}")["type"] == "link"
        assert not fs.isfile(f"data/set/{name}")
        with pytest.raises(PathNotFoundError, match="link that leads to no file"):
            fs.open(f"data/set/{name}")


def test_a_value_is_a_file_under_its_name_and_under_the_name_that_checkout_gives_it(
    filled: keepstone.Store, fs: Any
) -> None:
    assert fs.cat_file("models/email@prod") == fs.cat_file("models/email@v1/value.json") == b'{"a":1}'
    assert fs.cat_file("data/rows") == fs.cat_file("data/rows@v1/rows.csv")
    assert fs.isfile("models/email@2200-01-01")
    assert fs.isfile(filled.resolve("models/email").name + "@" + filled.resolve("models/email").digest[:20])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(start=st.none() | st.integers(-15, 15), end=st.none() | st.integers(-15, 15))
def test_ranges_are_those_of_a_slice(
    filled: keepstone.Store, fs: Any, start: int | None, end: int | None
) -> None:
    assert fs.cat_file("data/set/inside", start, end) == b"0123456789"[start:end]


def test_an_open_file_is_read_anywhere(filled: keepstone.Store, fs: Any) -> None:
    with fs.open("data/set@v1/sub/part@1.txt") as file:
        assert file.seekable()
        assert file.seek(-4, os.SEEK_END) == 6
        assert file.read(2) == b"67"
        assert file.tell() == 8
        assert file.size == 10
    with fs.open("data/set/rows.csv", "r") as file:
        assert file.readlines() == ["a,b\n", "1,2\n", "3,4\n"]
    assert fs.head("data/rows", 3) == b"a,b"
    assert fs.tail("data/rows", 4) == b"3,4\n"
    assert fs.read_block("data/rows", 4, 4) == b"1,2\n"
    assert fs.cat_ranges(["data/rows", "data"], [0, 2], [3, 6]) == [b"a,b", b"file"]


def test_files_and_folders_whose_names_end_as_a_list_of_versions_does(
    store: keepstone.Store, options: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "odd" / "folder@").mkdir(parents=True)
    (tmp_path / "odd" / "file@").write_text("a")
    (tmp_path / "odd" / "folder@" / "file").write_text("b")
    store.save("odd", tmp_path / "odd")
    fs = fsspec.filesystem("keepstone", **options)

    for root in ("odd", "odd@v1"):
        assert fs.ls(root, detail=False) == [f"{root}/file@", f"{root}/folder@"]
        assert fs.ls(f"{root}/folder@", detail=False) == [f"{root}/folder@/file"]
        assert fs.isfile(f"{root}/file@")
        assert fs.find(root) == [f"{root}/file@", f"{root}/folder@/file"]
    assert fs.ls("odd@", detail=False) == ["odd@v1"]


def test_to_look_is_not_to_read(filled: keepstone.Store, fs: Any, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "own") as own, own.track("job") as job:
        fs.ls("data/set")
        fs.info("data/set/inside")
        assert job.inputs == ()
        fs.cat_file("data/set/inside")
        assert job.inputs == (filled.resolve("data/set").digest,)


def test_files_of_one_version_are_read_without_reading_its_manifest_each_time(
    filled: keepstone.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = KeepstoneFileSystem(filled, skip_instance_cache=True)
    decoded: list[Any] = []
    read_manifest = session.Session.read_manifest

    def counted(self: session.Session, digest: Any) -> Any:
        decoded.append(digest)
        return read_manifest(self, digest)

    monkeypatch.setattr(session.Session, "read_manifest", counted)
    for _ in range(5):
        for path in ("data/set@v1/rows.csv", "data/set/sub/part@1.txt"):
            assert fs.info(path)["size"] == len(fs.cat_file(path))

    assert len(decoded) == 1


@pytest.mark.parametrize("path", [5, None, b"data/rows"])
def test_a_path_that_is_no_text_is_said(filled: keepstone.Store, fs: Any, path: Any) -> None:
    for ask in (fs.info, fs.open, fs.ls, fs.exists):
        with pytest.raises(keepstone.InvalidInputError, match="path"):
            ask(path)


def test_a_folder_is_fetched_with_all_its_files(filled: keepstone.Store, fs: Any, tmp_path: Path) -> None:
    fs.get("data/set@v1/sub", str(tmp_path / "got"), recursive=True)
    fs.get_file("data/rows", str(tmp_path / "rows"))

    assert (tmp_path / "got" / "part@1.txt").read_bytes() == b"0123456789"
    assert (tmp_path / "got" / "empty").is_dir()
    assert (tmp_path / "rows").read_bytes() == b"a,b\n1,2\n3,4\n"


@pytest.mark.parametrize(
    "path",
    [
        "nosuch",
        "a//b",
        "../a",
        "answers",
        "answers@v1",
        "models/email@v9",
        "models/email@%",
        "data/set@v1/no",
        "models@v1",
        "@v1",
    ],
)
def test_what_is_not_there_is_told_as_a_filesystem_does(filled: keepstone.Store, fs: Any, path: str) -> None:
    assert not fs.exists(path)
    assert not fs.isfile(path)
    assert not fs.isdir(path)
    for ask in (fs.info, fs.ls, fs.open, fs.cat_file, fs.ukey):
        with pytest.raises(FileNotFoundError) as raised:
            ask(path)
        assert isinstance(raised.value, keepstone.ArtifactNotFoundError)
        assert raised.value.hint
        assert pickle.loads(pickle.dumps(raised.value)).selector == raised.value.selector


@pytest.mark.parametrize("path", ["", "models", "data/set", "data/set@v1/sub"])
def test_a_folder_cannot_be_opened(filled: keepstone.Store, fs: Any, path: str) -> None:
    assert fs.isdir(path)
    for ask in (fs.open, fs.cat_file):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            ask(path)


def test_damage_is_an_error_and_never_absence(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "runs") as store:
        store.save("a", os.urandom(2_000_000))
    (pack,) = (path for path in (tmp_path / "runs" / "packs").rglob("*") if path.is_file())
    data = bytearray(pack.read_bytes())
    data[1_000_000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    fs = fsspec.filesystem("keepstone", store=tmp_path / "runs")

    assert fs.exists("a")
    with pytest.raises(keepstone.CorruptionError):
        fs.cat_file("a")


def test_looking_around_in_a_bucket_takes_few_requests_however_much_is_there(
    bucket: Bucket, proxy: Proxy, machine: Machine, folder: Path
) -> None:
    url = f"{bucket.url}/team"
    with keepstone.open(url, create=True) as store:
        for number in range(8):
            store.save(f"many/{number}", number)
        store.save("set", folder)
    fs = fsspec.filesystem("keepstone", store=url)
    fs.ls("many")
    counted: list[int] = []
    for look in (
        lambda: fs.ls("many"),
        lambda: fs.cat_file("set@v1/rows.csv"),
        lambda: fs.info("set@v1/sub"),
    ):
        proxy.seen.clear()
        look()
        counted.append(len(proxy.seen))

    assert counted == [3, 1, 1]


# ---- which store, and which instance -------------------------------------------------------------------------------


def test_a_store_is_named_in_any_way_and_is_one_instance(
    filled: keepstone.Store, fs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = filled.location
    monkeypatch.chdir(Path(location).parent)
    named = [
        fsspec.filesystem("keepstone", store="runs"),
        fsspec.filesystem("keepstone", store=Path("runs")),
        fsspec.filesystem("keepstone", store=filled),
        KeepstoneFileSystem("runs"),
        fsspec.url_to_fs("keepstone://data/rows", store=location)[0],
        fsspec.url_to_fs(f"keepstone://data/rows::{location}")[0],
        fsspec.url_to_fs(f"keepstone://data/rows::file://{location}")[0],
        fsspec.url_to_fs("keepstone://data/rows::./runs")[0],
    ]
    monkeypatch.setitem(fsspec.config.conf, "keepstone", {"store": "runs"})
    named.append(fsspec.url_to_fs("keepstone://data/rows")[0])

    assert all(each is fs for each in named)
    assert pickle.loads(pickle.dumps(fs)) is fs
    with fsspec.open(f"keepstone://data/set@v1/rows.csv::{location}", "rt") as file:
        assert file.readline() == "a,b\n"
    with fsspec.open("keepstone://models/email@prod") as file:
        assert file.read() == b'{"a":1}'


def test_the_current_folder_decides_when_the_store_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances: list[Any] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with keepstone.open("runs") as store:
            store.save("which", name)
        instances.append(fsspec.filesystem("keepstone", store="runs"))

    assert [fs.cat_file("which") for fs in instances] == [b"one", b"two"]


def test_a_chained_url_names_a_store_in_a_bucket() -> None:
    fs = KeepstoneFileSystem(
        fo="our-bucket/team", target_protocol="s3", target_options={}, skip_instance_cache=True
    )

    assert fs.location == "s3://our-bucket/team"


def test_a_store_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    fs = fsspec.filesystem("keepstone", store=tmp_path / "nosuch")
    with pytest.raises(keepstone.StoreNotFoundError):
        fs.ls("")
    with pytest.raises(keepstone.StoreNotFoundError), fs.open("a", "w") as file:
        file.write("a")
    assert not (tmp_path / "nosuch").exists()


def test_new_versions_of_others_are_seen(store: keepstone.Store, options: dict[str, str]) -> None:
    fs = fsspec.filesystem("keepstone", **options)
    for number in range(3):
        store.save("a", f"{number}")
        assert fs.cat_file("a") == f"{number}".encode()
        assert fs.info("a")["version"] == f"a@v{number + 1}"


def _read(fs: Any, path: str) -> bytes:
    return fs.cat_file(path)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_through_what_was_pickled_or_inherited(
    filled: keepstone.Store, fs: Any, method: Any
) -> None:
    assert fs.cat_file("data/rows")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert set(pool.starmap(_read, [(fs, "data/rows")] * 4)) == {b"a,b\n1,2\n3,4\n"}


def test_threads_and_a_running_event_loop_use_it(filled: keepstone.Store, fs: Any) -> None:
    async def within() -> bytes:
        return fs.cat_file("data/rows")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: fs.cat_file("data/rows"), range(64))) == {b"a,b\n1,2\n3,4\n"}
    assert asyncio.run(within()) == b"a,b\n1,2\n3,4\n"


def test_a_fresh_process_needs_only_fsspec(filled: keepstone.Store) -> None:
    code = f"""
import fsspec, sys
assert "keepstone" not in sys.modules
with fsspec.open("keepstone://models/email@prod", "rb", store={filled.location!r}) as file:
    print(file.read().decode(), sorted({{"pandas", "pyarrow", "s3fs"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == '{"a":1} []\n'
