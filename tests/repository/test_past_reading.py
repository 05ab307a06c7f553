"""From where the past is read: journals of others, packs with a catalog and without, a checkpoint and its tail."""

from __future__ import annotations

import datetime
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.repository.conftest import now

import keepstone
from keepstone.history.commit import Draft
from keepstone.repository import entries
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.past import past_of
from keepstone.storage.memory import MemoryStorage

_NEIGHBOUR = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    items = store.collection("c", durability="process")
    for line in sys.stdin:
        key, value = line.split()
        items[key] = value
        print("ok", flush=True)
"""


def test_items_of_a_neighbour_are_seen_by_their_stamps(folder: Path) -> None:
    with keepstone.open(folder) as store:
        items = store.collection("c")
        items["shared"] = "mine"
        moments = [now()]
        with subprocess.Popen(
            [sys.executable, "-c", _NEIGHBOUR, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as neighbour:
            assert neighbour.stdin is not None
            assert neighbour.stdout is not None
            for value in ("theirs", "later"):
                neighbour.stdin.write(f"shared {value}\n")
                neighbour.stdin.flush()
                assert neighbour.stdout.readline() == "ok\n"
                moments.append(now())
            expected = ["mine", "theirs", "later"]
            views = [store.at(moment).collection("c") for moment in moments]
            assert [view["shared"] for view in views] == expected
            neighbour.kill()
        store.recover()
        assert [view["shared"] for view in views] == expected, "its journal is a pack now"
        assert [store.at(moment).collection("c")["shared"] for moment in moments] == expected


@pytest.mark.parametrize("catalog", [True, False])
def test_superseded_items_are_found_with_and_without_a_catalog(
    folder: Path, monkeypatch: pytest.MonkeyPatch, catalog: bool
) -> None:
    monkeypatch.setattr(entries, "CATALOG_ENTRIES_MIN", 10 if catalog else 10**9)
    kept: list[tuple[datetime.datetime, dict[str, int]]] = []
    with keepstone.open(folder) as store:
        items = store.collection("c", durability="process")
        for round_ in range(5):
            items.add_many({f"k{i}": round_ * 100 + i for i in range(0, 30, round_ + 1)})
            kept.append((now(), dict(items)))
            store.flush()
        store.repository.session.entries.fold(lambda: False)
    with keepstone.open(folder, mode="r" if not catalog else "a") as store:
        assert bool(store.repository.session.entries._covered) == catalog
        for moment, held in kept:
            past = store.at(moment).collection("c")
            assert {key: past[key] for key in held} == held == dict(past)


def test_opening_the_past_reads_a_checkpoint_and_its_tail(request: pytest.FixtureRequest) -> None:
    commits = 10_000 if request.config.getoption("--long") else 1_500
    storage = CountingStorage()
    repository = open_repository(storage, create=True, writable=True)
    log = repository.session.log
    for number in range(commits):
        log.append(lambda state, n=number: Draft(message=str(n)))
        if number == commits // 2:
            then = now()

    for when, number in ((commits // 3, commits // 3), (then, commits // 2)):
        storage.reads = 0
        assert past_of(repository, when).commit == number
        assert storage.reads < 300, f"{storage.reads} reads for {commits} commits"
    close_repository(repository)


class CountingStorage(MemoryStorage):
    """Counts what is read."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__(f"memory://counted-{os.getpid()}-{next(self._numbers)}")
        self.reads = 0

    def read(self, key: str) -> bytes:
        self.reads += 1
        return super().read(key)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        self.reads += 1
        return super().read_range(key, start, end)
