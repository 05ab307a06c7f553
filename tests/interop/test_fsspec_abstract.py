"""fsspec's own suite for filesystems: looking, opening, copying, getting, putting, piping.

All of it applies but for one thing: the suite removes what it made, and our filesystem refuses to. Here files are
removed as a user would, through the store; whatever else a test does is done by the filesystem itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import fsspec.tests.abstract as abstract
import pytest
from fsspec.implementations.local import LocalFileSystem

import keepstone
from keepstone.interop.filesystem import KeepstoneFileSystem


class Removing(KeepstoneFileSystem):
    """Removes names through the store."""

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        for name in [path] if isinstance(path, str) else path:
            for found in self.find(name):
                self.writable_store().remove(found)


class OurFixtures(abstract.AbstractFixtures):
    """A store in memory, new for each test."""

    @pytest.fixture
    def fs(self) -> Iterator[Any]:
        location = f"memory://{uuid.uuid4().hex}"
        with keepstone.open(location, create=True):
            yield Removing(location, skip_instance_cache=True)

    @pytest.fixture
    def local_fs(self) -> Any:
        # Older releases of the suite make it once for a class, as pytest no longer likes.
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def fs_path(self) -> str:
        return "tests"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


# Each of these saves and removes dozens of versions; a few seconds together.
pytest.mark.long(abstract.AbstractCopyTests.test_copy_glob_edge_cases)
pytest.mark.long(abstract.AbstractGetTests.test_get_glob_edge_cases)
pytest.mark.long(abstract.AbstractPutTests.test_put_glob_edge_cases)


class TestCopy(abstract.AbstractCopyTests, OurFixtures):
    pass


class TestGet(abstract.AbstractGetTests, OurFixtures):
    pass


class TestPut(abstract.AbstractPutTests, OurFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, OurFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, OurFixtures):
    pass
