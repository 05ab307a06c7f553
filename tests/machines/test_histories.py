"""Names under eight processes at once are linearizable, also where processes are killed in the middle."""

from __future__ import annotations

import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.machines.linearizability import Call, linearizable, smallest_part
from tests.machines.recorder import Recorder, read_calls, run_together
from tests.machines.refs import Name, step

import keepstone
from keepstone.api import Store

NAMES = ("a", "b/c")
ALIASES = ("prod", "best")
PROCESSES = 8


class Worker:
    """One caller: does random things to a few names, mostly based on what it saw last."""

    def __init__(self, store: Store, record: Recorder, who: str) -> None:
        self.store = store
        self.record = record
        self.who = who
        self.random = random.Random(who)
        self.seen: dict[str, tuple[int, str]] = {}
        self.turn = 0

    def run(self, operations: int) -> None:
        weights = {
            self.load: 20,
            self.load_alias: 12,
            self.load_number: 6,
            self.save: 10,
            self.save_if: 20,
            self.alias_newest: 6,
            self.alias_if: 10,
            self.unalias: 3,
            self.versions: 4,
            self.aliases: 4,
            self.remove_newest: 6,
            self.remove_number: 3,
            self.remove: 2,
        }
        for do in self.random.choices(list(weights), list(weights.values()), k=operations):
            self.turn += 1
            do(self.random.choice(NAMES))

    def value(self) -> str:
        # Sometimes one that others save as well, so that saves of equal content happen.
        return self.random.choice((f"{self.who}.{self.turn}", f"{self.who}.{self.turn}", "the same"))

    def loaded(self, selector: str) -> tuple[int, str]:
        version = self.store.resolve(selector)
        return version.number, version.load()

    def load(self, name: str) -> None:
        answer = self.record.call(("load", name), lambda: self.loaded(name))
        if isinstance(answer, tuple):
            self.seen[name] = answer

    def load_alias(self, name: str) -> None:
        alias = self.random.choice(ALIASES)
        self.record.call(("load_alias", name, alias), lambda: self.loaded(f"{name}@{alias}"))

    def load_number(self, name: str) -> None:
        number = self.seen.get(name, (1, ""))[0]
        self.record.call(("load_number", name, number), lambda: self.loaded(f"{name}@v{number}"))

    def save(self, name: str) -> None:
        value = self.value()
        self.record.call(("save", name, value), lambda: self.saved(name, value))

    def saved(self, name: str, value: str, **options: Any) -> tuple[int, bool]:
        version = self.store.save(name, value, **options)
        assert version.load() == value
        return version.number, version.created_new

    def save_if(self, name: str) -> None:
        value, seen = self.value(), self.seen.get(name)
        expected = None if seen is None else seen[1]
        digest = None if expected is None else digest_of(expected)
        answer = self.record.call(
            ("save_if", name, value, expected), lambda: self.saved(name, value, expected=digest)
        )
        if isinstance(answer, tuple):
            self.seen[name] = answer[0], value
        else:
            self.load(name)

    def alias_newest(self, name: str) -> None:
        alias = self.random.choice(ALIASES)
        self.record.call(("alias_newest", name, alias), lambda: self.store.alias(name, alias).number)

    def alias_if(self, name: str) -> None:
        alias, number = self.random.choice(ALIASES), self.seen.get(name, (1, ""))[0]
        expected = self.random.choice((None, number, max(1, number - 1)))
        meant = None if expected is None else f"{name}@v{expected}"
        self.record.call(
            ("alias_if", name, alias, number, expected),
            lambda: self.store.alias(f"{name}@v{number}", alias, expected=meant).number,
        )

    def unalias(self, name: str) -> None:
        alias = self.random.choice(ALIASES)
        self.record.call(("unalias", name, alias), lambda: self.store.unalias(name, alias))

    def versions(self, name: str) -> None:
        self.record.call(("versions", name), lambda: tuple(v.number for v in self.store.versions(name)))

    def aliases(self, name: str) -> None:
        self.record.call(("aliases", name), lambda: tuple(sorted(self.store.aliases(name).items())))

    def remove_newest(self, name: str) -> None:
        self.record.call(("remove_newest", name), lambda: self.removed(f"{name}@latest"))

    def remove_number(self, name: str) -> None:
        number = self.seen.get(name, (1, ""))[0]
        self.record.call(("remove_number", name, number), lambda: self.removed(f"{name}@v{number}"))

    def remove(self, name: str) -> None:
        self.record.call(("remove", name), lambda: self.removed(name))

    def removed(self, selector: str) -> tuple[int, ...]:
        return tuple(int(gone.rpartition("@v")[2]) for gone in self.store.remove(selector))


def digest_of(value: str) -> str:
    with keepstone.open("memory://digests-of-histories") as store:
        return store.save("any", value).digest


def work(place: Path, records: Path, who: str, operations: int, threads: int) -> None:
    """One process: its threads share one session, and with it what one refreshes under another's feet."""
    store = keepstone.open(place)
    workers = [Worker(store, Recorder(records, f"{who}.{n}"), f"{who}.{n}") for n in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(worker.run, operations // threads) for worker in workers]:
            future.result()


def record(folder: Path, number: int, operations: int) -> list[Call]:
    """Let processes work on a new store and return what they recorded; two of them are killed."""
    place, records = folder / f"store-{number}", folder / f"records-{number}"
    records.mkdir()
    keepstone.open(place).close()
    threads = 1 + number % 2
    run_together(
        [
            lambda who=f"h{number}p{p}": work(place, records, who, operations // PROCESSES, threads)
            for p in range(PROCESSES)
        ],
        kills=2,
        seed=str(number),
    )
    with keepstone.open(place, mode="r") as store:
        assert store.fsck().ok
    return [call for _, call in read_calls(records)]


def assert_explained(calls: list[Call]) -> None:
    """Fail for a name whose part of the history no order explains, with the beginning that shows it."""
    parts: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        verb, name, *arguments = call.operation
        parts[name].append(call._replace(operation=(verb, *arguments)))
    for name, part in parts.items():
        if not linearizable(part, Name(), step):
            shown = smallest_part(part, Name(), step)
            pytest.fail(f"{name} is not linearizable:\n" + "\n".join(map(str, shown[-40:])))


def test_histories_of_eight_processes_are_linearizable(tmp_path: Path, is_thorough: bool) -> None:
    ended, count = 0, 6 if is_thorough else 2
    for number in range(count):
        calls = record(tmp_path, number, 200)
        ended += sum(call.is_known for call in calls)
        assert_explained(calls)
    assert ended > 100 * count


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_histories_of_a_thousand_calls_are_linearizable(tmp_path: Path) -> None:
    for number in range(200):
        assert_explained(record(tmp_path, number, 1_000))
