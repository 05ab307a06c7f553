"""Money moves between accounts in transactions of eight processes, some of them killed; none appears or disappears."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.machines.recorder import Recorder, read_calls, run_together

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import RefConflictError

ACCOUNTS = tuple(f"accounts/{n}" for n in range(4))
MONEY = 100
KILLED = 3
WRITERS = 7
"""And one more process that only reads."""


def transfer(store: Store, chance: random.Random, name: str) -> tuple[str, str, int]:
    """Move money between two accounts at once; return from where to where, and how much."""
    source, target = chance.sample(ACCOUNTS, 2)
    with store.transaction(message=name) as change:
        balance = {account: change.load(account)["balance"] for account in (source, target)}
        amount = chance.randrange(1 + balance[source])
        change.save(source, {"balance": balance[source] - amount, "by": name})
        change.save(target, {"balance": balance[target] + amount, "by": name})
    return source, target, amount


def write(place: Path, records: Path, who: str, transfers: int) -> None:
    store, record, chance = keepstone.open(place), Recorder(records, who), random.Random(who)
    for number in range(transfers):
        attempt = 0
        # Each attempt has a name of its own, so that one that was refused is told from the one that was not.
        while (answer := try_once(store, record, chance, f"{who}.{number}.{attempt}")) is None:
            attempt += 1
        assert isinstance(answer, tuple), answer


def try_once(store: Store, record: Recorder, chance: random.Random, name: str) -> Any:
    answer = record.call((name,), lambda: transfer(store, chance, name))
    return None if answer == RefConflictError.__name__ else answer


def read(place: Path, records: Path, who: str, times: int) -> None:
    store, record = keepstone.open(place, mode="a"), Recorder(records, who)
    for number in range(times):
        record.call((f"{who}.{number}",), lambda: balances(store))


def balances(store: Store) -> dict[str, int]:
    """Return what all accounts hold at one moment."""
    with store.transaction() as change:
        return {account: change.load(account)["balance"] for account in ACCOUNTS}


def run(folder: Path, number: int, transfers: int) -> int:
    """Let money move for a while, then look whether all is explained; return how many transfers there were."""
    place, records = folder / f"bank-{number}", folder / f"records-{number}"
    records.mkdir()
    with keepstone.open(place) as store:
        for account in ACCOUNTS:
            store.save(account, {"balance": MONEY, "by": "the beginning"})
    seed = f"bank {number}"
    run_together(
        [
            *(lambda w=w: write(place, records, f"{seed}.w{w}", transfers) for w in range(WRITERS)),
            lambda: read(place, records, f"{seed}.reader", 10 * transfers),
        ],
        kills=KILLED,
        seed=seed,
    )
    acknowledged: dict[str, tuple[str, str, int]] = {}
    under_way: set[str] = set()
    for who, call in read_calls(records):
        if who.endswith("reader"):
            assert call.is_known
            assert sum(call.answer.values()) == MONEY * len(ACCOUNTS), call
        elif not call.is_known:
            under_way.add(call.operation[0])
        elif isinstance(call.answer, tuple):
            acknowledged[call.operation[0]] = call.answer
    with keepstone.open(place, mode="r") as store:
        assert_explained(store, acknowledged, under_way)
        assert store.fsck(read_data=True).ok
    return len(acknowledged)


def assert_explained(
    store: Store, acknowledged: dict[str, tuple[str, str, int]], under_way: set[str]
) -> None:
    """Each version of an account was made by one transfer, which made one of another account, in one commit."""
    moved: dict[str, dict[str, int]] = {}
    total = 0
    for account in ACCOUNTS:
        versions = store.versions(account)[::-1]
        assert [version.number for version in versions] == list(range(1, len(versions) + 1))
        values = [version.load() for version in versions]
        assert all(value["balance"] >= 0 for value in values)
        for before, after in itertools.pairwise(values):
            steps = moved.setdefault(after["by"], {})
            assert account not in steps, f"{after['by']} moved twice"
            steps[account] = after["balance"] - before["balance"]
        total += values[-1]["balance"]
    assert total == MONEY * len(ACCOUNTS)
    for name, (source, target, amount) in acknowledged.items():
        assert moved[name] == {source: -amount, target: amount}, name
    for name, steps in moved.items():
        assert name in acknowledged or name in under_way, f"{name} was refused and happened"
        assert len(steps) == 2
        assert sum(steps.values()) == 0
    commits = Counter(entry.message for entry in store.history() if entry.message)
    assert commits == Counter(list(moved))


def test_no_money_appears_or_disappears(tmp_path: Path) -> None:
    assert run(tmp_path, 0, 12) > 12


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_money_appears_or_disappears_in_a_hundred_banks(tmp_path: Path) -> None:
    for number in range(1, 101):
        assert run(tmp_path, number, 40) > 40
