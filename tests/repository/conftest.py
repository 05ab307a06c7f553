"""Stores for the tests of the repository: in a folder, and in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import keepstone
from keepstone.api import Store

_memories = itertools.count()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with keepstone.open(folder) as opened:
        yield opened


@pytest.fixture(params=["folder", "memory"])
def any_store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    place = str(folder) if request.param == "folder" else f"memory://repository-{next(_memories)}"
    with keepstone.open(place) as opened:
        yield opened
