"""Eight processes set keys of one collection; some are killed, and nothing that returned is lost.

Of a shared key the entry with the highest stamp counts, for every reader, wherever the entries lie by then.
"""

from __future__ import annotations

import math
import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.format_reader import read_store
from tests.machines.linearizability import Call
from tests.machines.recorder import Recorder, read_calls, run_together

import keepstone
from keepstone.api import Store
from keepstone.repository.merging import merge

SHARED = ("shared/a", "shared/b")
PROCESSES, KILLED = 8, 4
LEVELS = ("process", "process", "process", "disk", "store")


def work(place: Path, records: Path, who: str, puts: int) -> None:
    """Set keys and look at shared ones; a journal of this size is sealed again and again."""
    store, record, chance = keepstone.open(place), Recorder(records, who), random.Random(who)
    store.repository.session.spool.journal_bytes = chance.choice((500, 3_000, 1 << 26))
    for number in range(puts):
        level: Any = chance.choice(LEVELS)
        items = store.collection("items", durability=level)
        key = chance.choice((f"{who}/{number}", chance.choice(SHARED)))
        value = f"{who}.{number}"
        record.call(("put", key, value), lambda i=items, k=key, v=value: i.update({k: v}))
        if number % 4 == 0:
            key = chance.choice(SHARED)
            record.call(("look", key), lambda i=items, k=key: looked(i, k))


def looked(items: keepstone.Collection[Any], key: str) -> Any:
    """Return a value as of now: listing the keys reads what others have set since."""
    return items[key] if key in list(items) else None


def assert_not_overwritten(puts: list[Call], value: str, before: float) -> None:
    """Fail if another put of the key began after that of `value` had ended, and had itself ended before `before`."""
    made = next(put for put in puts if put.operation[2] == value)
    later = [put for put in puts if put.began > made.ended and put.ended < before]
    assert not later, f"{made} is seen, but {later[0]} came after it"


READERS: dict[str, Callable[[Path], Any]] = {
    "journals where they lie": lambda place: all_items(place),
    "a reader made from the page": lambda place: read_store(place).collection("items"),
    "recovered": lambda place: all_items(place, lambda store: store.recover()),
    "merged": lambda place: all_items(place, lambda store: merge(store.repository.session, packs_min=2)),
    "without the cache": lambda place: (shutil.rmtree(place / "cache", ignore_errors=True), all_items(place))[
        1
    ],
}


def all_items(place: Path, first: Callable[[Store], object] | None = None) -> dict[str, Any]:
    with keepstone.open(place, mode="a" if first else "r") as store:
        if first:
            first(store)
        items = store.collection("items")
        assert len(items) == len(list(items))
        return dict(items)


def run(folder: Path, number: int, puts: int) -> int:
    """Let processes work, then compare what every kind of reader finds; return how many puts were acknowledged."""
    place, records = folder / f"store-{number}", folder / f"records-{number}"
    records.mkdir()
    with keepstone.open(place) as store:
        store.collection("items").create()
    names = [f"e{number}p{process}" for process in range(PROCESSES)]
    run_together(
        [lambda who=who: work(place, records, who, puts) for who in names], kills=KILLED, seed=names[0]
    )
    calls = [call for _, call in read_calls(records)]
    found = READERS["journals where they lie"](place)
    for name, reader in READERS.items():
        assert reader(place) == found, name
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.operation[0] == "put":
            assert call.answer is None
            by_key[call.operation[1]].append(call)
    assert_explained(found, by_key)
    for call in calls:
        if call.operation[0] == "look" and call.is_known and call.answer is not None:
            assert_not_overwritten(by_key[call.operation[1]], call.answer, call.began)
    with keepstone.open(place, mode="r") as store:
        assert store.fsck(read_data=True).ok
    return sum(call.is_known for puts in by_key.values() for call in puts)


def assert_explained(found: dict[str, Any], by_key: dict[str, list[Call]]) -> None:
    for key, puts in by_key.items():
        if any(put.is_known for put in puts):
            assert key in found, f"{puts} was acknowledged and is lost"
    for key, value in found.items():
        assert value in [put.operation[2] for put in by_key[key]]
        assert_not_overwritten(by_key[key], value, math.inf)


def test_every_acknowledged_item_is_there_and_the_last_writer_counts(tmp_path: Path) -> None:
    assert run(tmp_path, 0, 40) > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_acknowledged_item_is_there_in_a_hundred_stores(tmp_path: Path) -> None:
    for number in range(1, 101):
        assert run(tmp_path, number, 200) > 500
