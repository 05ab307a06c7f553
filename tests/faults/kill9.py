"""Processes that write and are killed with SIGKILL; afterwards every acknowledged item must be there.

A program: `python kill9.py FOLDER --rounds 10`. In each round it forks writers, which acknowledge each item in a file
outside of the store once the call has returned, kills them at random moments, some of them in the middle of
sealing, merging or forking, opens the store anew and compares. It ends with 0, or with 1 and what is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keepstone
import keepstone.api  # once, and not in each of the forks

LEVELS = ("process", "disk", "store")
MODELS = ("model/a", "model/b")
JOURNAL_BYTES = (4_000, 30_000, 200_000)
"""Journals are this small so that sealing, merging and adopting go on all the time."""


def value_of(key: str, n: int) -> dict[str, Any]:
    """Return the one right value of `key` in its n-th turn."""
    return {"key": key, "n": n, "text": hashlib.sha256(f"{key}/{n}".encode()).hexdigest() * (n % 9)}


# ---- the writers ---------------------------------------------------------------------------------


class Writer:
    """One process that writes until it is killed."""

    def __init__(self, place: Path, witness: Path, name: str, seed: str) -> None:
        self.random = random.Random(seed)
        self.name = name
        self.store = keepstone.open(place)
        self.store.repository.session.spool.journal_bytes = self.random.choice(JOURNAL_BYTES)
        self.collections = {
            level: self.store.collection(f"at/{level}", durability=level)  # type: ignore[arg-type]
            for level in LEVELS
        }
        self.witness = os.open(witness / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.n = 0

    def acknowledge(self, *facts: object) -> None:
        """Write down that a call has returned; one write, so a line is whole or absent."""
        os.write(self.witness, json.dumps(facts).encode() + b"\n")

    def run(self) -> None:
        actions = (self.put, self.turn, self.put_many, self.save, self.fork)
        while True:
            self.random.choices(actions, weights=(50, 30, 10, 3, 1))[0]()

    def put(self) -> None:
        self.n += 1
        level = self.random.choices(LEVELS, weights=(60, 30, 2))[0]
        key = f"{self.name}/{self.n}"
        self.collections[level][key] = value_of(key, self.n)
        self.acknowledge("set", level, key, self.n)

    def turn(self) -> None:
        """Set the same key again and again: an old value must never come back."""
        self.n += 1
        level = self.random.choice(LEVELS[:2])
        key = f"{self.name}/turn"
        self.collections[level][key] = value_of(key, self.n)
        self.acknowledge("set", level, key, self.n)

    def put_many(self) -> None:
        first, self.n = self.n + 1, self.n + 20
        keys = {n: f"{self.name}/{n}" for n in range(first, self.n + 1)}
        self.collections["disk"].add_many((key, value_of(key, n)) for n, key in keys.items())
        for n, key in keys.items():
            self.acknowledge("set", "disk", key, n)

    def save(self) -> None:
        self.n += 1
        model = self.random.choice(MODELS)
        version = self.store.save(model, {"by": self.name, "n": self.n})
        self.acknowledge("save", model, version.number, [self.name, self.n])

    def fork(self) -> None:
        """A child that writes on, through the same objects, and leaves without any farewell."""
        self.n += 1
        if os.fork():
            return
        try:
            self.name += f".{self.n}"
            self.random.seed(self.name)
            for _ in range(self.random.randrange(30)):
                self.random.choice((self.put, self.turn, self.put_many))()
        finally:
            os._exit(0)


# ---- what was acknowledged -----------------------------------------------------------------------


class Expected:
    """What the witness files say, read on from where the last reading ended."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness
        self.offsets: dict[str, int] = {}
        self.items: dict[str, dict[str, int]] = {level: {} for level in LEVELS}
        self.fresh: list[tuple[str, str]] = []
        self.versions: dict[str, dict[int, list[Any]]] = {model: {} for model in MODELS}
        self.acknowledged = 0

    def read_on(self) -> None:
        self.fresh = []
        for path in sorted(self.witness.iterdir()):
            with path.open("rb") as file:
                file.seek(self.offsets.get(path.name, 0))
                data = file.read()
            self.offsets[path.name] = self.offsets.get(path.name, 0) + len(data)
            for line in data.splitlines():
                self._take(*json.loads(line))

    def _take(self, kind: str, where: str, key: Any, fact: Any) -> None:
        self.acknowledged += 1
        if kind == "save":
            assert key not in self.versions[where], f"{where}@v{key} was given twice"
            self.versions[where][key] = fact
            return
        self.items[where][key] = max(fact, self.items[where].get(key, 0))
        self.fresh.append((where, key))


def violations(store: keepstone.Store, expected: Expected, *, full: bool) -> list[str]:
    """Return what is not as it was acknowledged; looks at the values of new items, or of all."""
    found: list[str] = []
    for level in LEVELS:
        collection = store.collection(f"at/{level}")
        wanted = expected.items[level]
        present = list(collection)
        if len(present) != len(set(present)):
            found.append(f"at/{level} lists a key twice")
        found += [f"at/{level}[{key}] is missing" for key in collection.missing(wanted)]
        keys = set(present) if full else {k for place, k in expected.fresh if place == level}
        keys.update(random.sample(present, min(200, len(present))))
        for key in keys:
            value = collection.get(key)
            if value is None or value != value_of(key, value["n"]):
                found.append(f"at/{level}[{key}] is {value!r}")
            elif value["n"] < wanted.get(key, 0):
                found.append(f"at/{level}[{key}] is of turn {value['n']}, before {wanted[key]}")
    for model, wanted_versions in expected.versions.items():
        found += _version_violations(store, model, wanted_versions, full=full)
    return found


def _version_violations(
    store: keepstone.Store, model: str, wanted: dict[int, list[Any]], *, full: bool
) -> list[str]:
    if not wanted and not store.exists(model):
        return []
    versions = store.versions(model)
    if [version.number for version in versions] != list(range(len(versions), 0, -1)):
        return [f"the versions of {model} are not contiguous"]
    found = [f"{model}@v{number} is missing" for number in wanted if number > len(versions)]
    seen: set[tuple[str, int]] = set()
    for version in versions if full else versions[:50]:
        value = version.load()
        made = (value["by"], value["n"])
        if made in seen:
            found.append(f"{model} holds {made} twice")
        seen.add(made)
        if wanted.get(version.number, list(made)) != list(made):
            found.append(f"{version.selector} is {made}, acknowledged was {wanted[version.number]}")
    return found


# ---- the rounds ----------------------------------------------------------------------------------


def run_round(place: Path, witness: Path, number: int, processes: int, chance: random.Random) -> int:
    """Let writers run and kill them; return how many were killed. All of them, and their children, are gone then."""
    read_end, write_end = os.pipe()
    writers: list[int] = []
    for slot in range(processes):
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            try:
                Writer(place, witness, f"r{number}w{slot}", f"{number}/{slot}").run()
            except BaseException:
                import traceback

                (witness.parent / f"error-r{number}w{slot}").write_text(traceback.format_exc())
            finally:
                os._exit(1)
        writers.append(pid)
    os.close(write_end)
    time.sleep(0.3 + chance.random() * 0.4)
    chance.shuffle(writers)
    for pid in writers:
        time.sleep(chance.random() * 0.08)
        # Some children outlive their parents.
        (os.killpg if chance.random() < 0.7 else os.kill)(pid, signal.SIGKILL)
    killed = sum(os.WIFSIGNALED(os.waitpid(pid, 0)[1]) for pid in writers)
    # Ends when nobody has the other end open any more.
    os.read(read_end, 1)
    os.close(read_end)
    return killed


def in_fresh_process(check: Any) -> None:
    """Run `check` in a fork of this process, which itself never opens a store."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            problems = check()
            print(*problems[:20], sep="\n", file=sys.stderr)
            status = 1 if problems else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(1)


def check_open(place: Path, expected: Expected, *, full: bool) -> list[str]:
    with keepstone.open(place) as store:
        return violations(store, expected, full=full)


def check_recovered(place: Path, expected: Expected) -> list[str]:
    with keepstone.open(place) as store:
        report = store.recover()
        found = [f"{name} is damaged" for name in report.damaged] + [str(s) for s in report.strangers]
        if store.stats().journals:
            found.append(f"{store.stats().journals} journals are left")
        checked = store.fsck(read_data=True)
        found += [] if checked.ok else [str(finding) for finding in checked.findings]
        return found + violations(store, expected, full=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    place, witness = options.folder / "store", options.folder / "witness"
    witness.mkdir(parents=True)
    expected, chance = Expected(witness), random.Random(options.seed)
    began, killed = time.monotonic(), 0
    for number in range(options.rounds):
        killed += run_round(place, witness, number, options.processes, chance)
        errors = [path.read_text() for path in options.folder.glob("error-*")]
        if errors:
            raise SystemExit("a writer failed:\n" + errors[0])
        expected.read_on()
        in_fresh_process(lambda: check_open(place, expected, full=False))
    in_fresh_process(lambda: check_open(place, expected, full=True))
    in_fresh_process(lambda: check_recovered(place, expected))
    versions = sum(map(len, expected.versions.values()))
    print(
        json.dumps(
            {
                "rounds": options.rounds,
                "killed": killed,
                "acknowledged": expected.acknowledged,
                "versions": versions,
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
