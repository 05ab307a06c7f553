"""A bundle brings back what went into it, or says what it cannot bring."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.operations.handing import content_of, fill, fill_small

import keepstone
from keepstone import (
    ConflictError,
    CorruptionError,
    InvalidInputError,
    KeepstoneError,
    MalformedError,
    NotFoundError,
)
from keepstone.operations.bundle import BundleTable
from keepstone.operations.verify import verify_bundle

EVERYDAY_STRIDE = 43


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small store, its lock and its bundle."""
    folder = tmp_path_factory.mktemp("made")
    fill_small(folder / "store")
    with keepstone.open(folder / "store") as store:
        store.pin(["a", "b@v1", "b@prod", "c"], folder / "x.lock")
        store.bundle(folder / "x.lock", folder / "x.bundle")
    return folder


@pytest.fixture
def stride(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--long") else EVERYDAY_STRIDE


def test_the_same_lock_over_the_same_content_gives_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    fill(tmp_path / "store", tmp_path)
    with keepstone.open(tmp_path / "store") as store:
        store.pin(["json", "large", "folder", "answers"], tmp_path / "x.lock")
        store.bundle(tmp_path / "x.lock", tmp_path / "one")
        store.bundle(tmp_path / "x.lock", tmp_path / "two")
    with keepstone.open(tmp_path / "other") as other:
        # Another order of saving, and packs of another kind.
        other.save("large", os.urandom(100))
        other.restore(tmp_path / "x.lock", source=tmp_path / "store")
        other.bundle(tmp_path / "x.lock", tmp_path / "three")

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "three").read_bytes()


def test_what_is_at_its_path_is_replaced_only_when_that_is_asked_for(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.bundle"
    target.write_text("mine")
    with keepstone.open(made / "store", mode="r") as store:
        with pytest.raises(ConflictError, match="exists already"):
            store.bundle(made / "x.lock", target)
        assert target.read_text() == "mine"
        store.bundle(made / "x.lock", target, replace=True)

    assert target.read_bytes() == (made / "x.bundle").read_bytes()


@pytest.mark.parametrize("name", ["x.lock", "sub/../x.lock", "folder"])
def test_neither_the_lock_itself_nor_a_folder_is_written_over(made: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "sub").mkdir()
    shutil.copy(made / "x.lock", tmp_path)
    with (
        keepstone.open(made / "store", mode="r") as store,
        pytest.raises(InvalidInputError, match=r"is the lock itself|is a folder"),
    ):
        store.bundle(tmp_path / "x.lock", tmp_path / name, replace=True)

    assert (tmp_path / "x.lock").read_bytes() == (made / "x.lock").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "sub", "x.lock"]


def flip_outcome(damaged: Path, folder: Path) -> list[str]:
    """Verify and restore a damaged bundle; return what both said, after checking that nothing came of it."""
    said: list[str] = []
    try:
        report = verify_bundle(damaged)
        assert not report.ok
        said += [f"{v.selector} {v.problem}" for v in report.damaged] or [report.problem]
    except KeepstoneError as error:
        said.append(str(error))
    with keepstone.open(f"memory://{folder.name}-{damaged.name}-{random.getrandbits(64)}") as store:
        with pytest.raises(KeepstoneError) as raised:
            store.restore(damaged)
        said.append(str(raised.value))
        assert store.names() == []
        assert store.repository.session.log.state.number == -1
    return said


@pytest.mark.timeout(3_600)
def test_one_flipped_byte_anywhere_is_an_error_that_names_what_it_touches(
    made: Path, tmp_path: Path, stride: int, record_property: Callable[[str, object], None]
) -> None:
    data = (made / "x.bundle").read_bytes()
    named = index = 0
    for offset in [*range(0, len(data), stride), *range(len(data) - 20, len(data))]:
        damaged = tmp_path / "damaged"
        damaged.write_bytes(data[:offset] + bytes([data[offset] ^ (1 << offset % 8)]) + data[offset + 1 :])
        for said in flip_outcome(damaged, tmp_path):
            by_name = any(f"{selector} " in said for selector in ("a@v1", "b@v1", "b@v2", "c@v1"))
            by_index = "index of the bundle" in said or f"pack at byte 0 of {damaged}" in said
            assert by_name or by_index, (offset, said)
            named, index = named + by_name, index + by_index
    record_property("flips, each verified and restored", (named + index) // 2)
    assert named
    assert index


@pytest.mark.timeout(3_600)
def test_cut_at_any_length_it_is_an_error(made: Path, tmp_path: Path, stride: int) -> None:
    data = (made / "x.bundle").read_bytes()
    for length in range(0, len(data), stride):
        damaged = tmp_path / "damaged"
        damaged.write_bytes(data[:length])
        with pytest.raises(CorruptionError, match="index of the bundle"):
            verify_bundle(damaged)
        with keepstone.open("memory://cut") as store, pytest.raises(KeepstoneError):
            store.restore(damaged)


def test_bytes_behind_its_end_are_noticed(made: Path, tmp_path: Path) -> None:
    (tmp_path / "longer").write_bytes((made / "x.bundle").read_bytes() + b"\0")

    with pytest.raises(MalformedError, match="does not end as a bundle does"):
        verify_bundle(tmp_path / "longer")


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"Kf" + bytes(500), os.urandom(5000)])
def test_what_is_no_bundle_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(content)

    with pytest.raises(MalformedError):
        verify_bundle(tmp_path / "none")


def test_a_bundle_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify_bundle(tmp_path / "none")


def test_a_lock_may_name_less_than_the_bundle_and_not_more(made: Path, tmp_path: Path) -> None:
    with keepstone.open(made / "store") as store:
        store.pin(["a"], tmp_path / "less.lock")
        store.save("d", "new")
        store.pin(["a", "d"], tmp_path / "more.lock")
    with keepstone.open(tmp_path / "new") as new:
        new.restore(tmp_path / "less.lock", source=made / "x.bundle")
        assert new.names() == ["a"]
        with pytest.raises(NotFoundError, match=r"d@v1 \(b3:.*\) is not in .*x.bundle"):
            new.restore(tmp_path / "more.lock", source=made / "x.bundle")
        assert new.names() == ["a"]


def test_the_table_has_no_field_that_the_page_does_not_show() -> None:
    assert BundleTable.__struct_fields__ == ("lock", "packs")


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("megabytes", [pytest.param(1000, marks=pytest.mark.long)])
def test_memory_stays_bounded_at_any_size(megabytes: int, tmp_path: Path) -> None:
    code = f"""
import os, sys
import keepstone
from tests.peak import peak_bytes
path = sys.argv[1]
with open(path + "/file", "wb") as file:
    for _ in range({megabytes}):
        file.write(os.urandom(1 << 20))
import pathlib
with keepstone.open(path + "/store") as store:
    store.save("file", pathlib.Path(path + "/file"))
    store.pin(["file"], path + "/x.lock")
    before = peak_bytes()
    store.bundle(path + "/x.lock", path + "/x.bundle")
with keepstone.open(path + "/new") as new:
    new.restore(path + "/x.bundle")
    assert new.verify(path + "/x.lock").ok
print(before, peak_bytes())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[1]) < 256 * 1024 * 1024, done.stdout


def test_content_comes_back_as_it_was(tmp_path: Path) -> None:
    fill(tmp_path / "store", tmp_path)
    wanted = {"text": "text", "json": "json", "large": "large", "folder": "folder", "odd": "copies/of large"}
    wanted["answers"] = "answers@latest"
    with keepstone.open(tmp_path / "store") as store:
        store.pin([*list(wanted.values())[:-1], "answers"], tmp_path / "x.lock")
        store.bundle(tmp_path / "x.lock", tmp_path / "x.bundle")
        before = content_of(store, wanted)
    with keepstone.open(tmp_path / "new") as new:
        new.restore(tmp_path / "x.bundle")

        assert content_of(new, wanted) == before
