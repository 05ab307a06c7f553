"""Stores with something of everything in them, for the tests of whole-store work."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.operations import handing
from tests.operations.bucket import Requests, buckets

import keepstone
from keepstone import Store
from keepstone.operations.fsck import Finding, FsckReport, fsck_location

ANSWERS = {f"q{i}": {"i": i, "text": "word " * 20} for i in range(30)}


def fill(root: Path) -> None:
    """Make a store with artifacts, an alias, a large blob, a sealed collection and a journal."""
    with keepstone.open(root) as store:
        store.save("models/email", random.Random(1).randbytes(2_500_000), aliases=["prod"])
        store.save("prompts/reader", "first text")
        store.save("prompts/reader", "second text", metadata={"accuracy": 0.5})
        answers = store.collection("answers")
        answers.update(ANSWERS)
        answers.flush()
        answers["late"] = "still in a journal"


def flip(path: Path, offset: int) -> None:
    """Flip one bit of the byte at `offset`; negative ones count from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def check(root: Path, *, read_data: bool = False) -> FsckReport:
    """Check the store in a folder."""
    return fsck_location(str(root), read_data=read_data)


def damage_of(report: FsckReport) -> Finding:
    """The only damage of a report."""
    assert len(report.damage) == 1, report.findings
    return report.damage[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    fill(folder)
    return folder


@pytest.fixture
def packs(root: Path) -> dict[str, Path]:
    """The two pack objects of the store: of the large artifact's pieces, and of the collection."""
    found = sorted((root / "packs").rglob("*-*"), key=lambda path: path.name)
    return {"model": found[0], "answers": found[1]}


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, int, bytes]]]:
    """What a folder holds, to the last byte and time."""

    def take(folder: Path) -> dict[str, tuple[int, int, bytes]]:
        return {
            str(path.relative_to(folder)): (
                path.stat().st_mtime_ns,
                path.stat().st_mode,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in folder.rglob("*")
        }

    return take


# ---- two stores -----------------------------------------------------------------------------------------------------


@pytest.fixture
def net() -> Iterator[Requests]:
    with buckets() as requests:
        yield requests


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Store]:
    with keepstone.open(tmp_path / "here") as store:
        yield store


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Store]:
    with keepstone.open(tmp_path / "there") as store:
        yield store


@pytest.fixture(scope="module")
def full_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something of everything, and a snapshot."""
    folder = tmp_path_factory.mktemp("made")
    handing.fill(folder / "store", folder)
    with keepstone.open(folder / "store") as store:
        store.collection("answers").snapshot(aliases=["submitted"])
        store.collection("answers")["q8"] = "set after the snapshot"
        store.flush()
    return folder / "store"
