"""A store with a little of everything, and the filesystem over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

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
    """A folder with folders, an empty one, and links of all kinds."""
    root = tmp_path / "folder"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    (root / "sub" / "part@1.txt").write_text("0123456789")
    (root / "inside").symlink_to("sub/part@1.txt")
    (root / "outside").symlink_to("/etc/hostname")
    (root / "circle").symlink_to("circle")
    return root
