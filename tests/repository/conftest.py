"""Stores for the tests of the repository: in a folder, in memory, and in a bucket."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.bucket import Bucket
from tests.servers.fixtures import Machine
from tests.storage.slow import SlowStorage, await_no_reading_threads, slow_place

import keepstone
from keepstone.api import Store
from keepstone.history.commit import Commit

_memories = itertools.count()


def commits(store: Store) -> int:
    """Return how many commits the log has by now."""
    store.repository.session.refresh()
    return store.repository.session.log.state.length


def newest_commit(store: Store) -> Commit:
    """Return the last commit that the store knows of."""
    log = store.repository.session.log
    return log.commit_at(log.state.number)


def now() -> datetime.datetime:
    """Return a moment that nothing that was done shares with what is done next: stamps are finer than datetimes."""
    moment = time.time_ns() // 1_000
    while time.time_ns() // 1_000 <= moment:
        pass
    return datetime.datetime.fromtimestamp(moment // 1_000_000, datetime.UTC).replace(
        microsecond=moment % 1_000_000
    )


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


@pytest.fixture
def other(store: Store, folder: Path, tmp_path: Path) -> Iterator[Store]:
    """The same store through another door: a session that shares nothing with the first."""
    (tmp_path / "door").symlink_to(folder)
    with keepstone.open(tmp_path / "door") as opened:
        assert opened.repository is not store.repository
        yield opened


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowStorage]:
    """A storage that counts what it is asked for, and answers like one that is far away."""
    _, storage = slow_place(monkeypatch)
    storage.delay_seconds = 0
    yield storage
    await_no_reading_threads()


@pytest.fixture
def url(bucket: Bucket, machine: Machine) -> str:
    """A store in a bucket."""
    keepstone.open(f"{bucket.url}/team", create=True).close()
    return f"{bucket.url}/team"
