"""A store with a little of everything, and the filesystem over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.interop.folders import make_folder

import keepstone


@pytest.fixture
def store(tmp_path: Path) -> Iterator[keepstone.Store]:
    with keepstone.open(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture
def options(store: keepstone.Store) -> dict[str, str]:
    """What a user passes as `storage_options`."""
    return {"store": store.location}


@pytest.fixture
def fs(options: dict[str, str]) -> Any:
    return fsspec.filesystem("keepstone", **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "folder")
