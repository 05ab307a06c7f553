"""Fixtures of the tests that let calls fail, or requests to a bucket go wrong."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.bucket_place import Place, Waits
from tests.servers.bucket import Bucket
from tests.servers.proxy import Proxy

from keepstone.history.log import Log
from keepstone.storage.probe import probe
from keepstone.storage.retrying import Retrying

MEMORY = Path("/dev/shm")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """No real minute passes."""
    waits = Waits()
    for kind, names in ((Retrying, ("sleep", "now")), (Log, ("sleep",))):
        defaults: Any = kind.__init__.__kwdefaults__
        for name in names:
            monkeypatch.setitem(defaults, name, waits.sleep if name == "sleep" else waits.now)
    monkeypatch.setattr("keepstone.storage.s3.PART_WAIT_SECONDS", 0.0)
    return waits


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: no run waits for a real disk."""
    memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    folder = Path(tempfile.mkdtemp(dir=MEMORY if memory else tmp_path))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def beside_bucket(
    bucket: Bucket, proxy: Proxy, memory_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A bucket behind a proxy, and this machine beside it."""
    # Set back when the test ends; each run has folders of its own.
    monkeypatch.setenv("KEEPSTONE_SPOOL", str(memory_folder))
    monkeypatch.setenv("KEEPSTONE_CACHE", str(memory_folder))
    # Tests may run in memory, or in a container, whose own disk does not last.
    monkeypatch.setattr("keepstone.storage.places.is_lasting", lambda folder: True)
    # The whole probe, of 160 races, has tests of its own.
    monkeypatch.setattr("keepstone.storage.probe.probe", functools.partial(probe, threads=2, rounds=1))
    # Journals are published when that is asked for.
    monkeypatch.setattr("keepstone.repository.local_side.PUBLISH_SECONDS", 3_600.0)
    return Place(bucket, proxy, memory_folder)
