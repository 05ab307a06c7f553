"""A store in any order of events, against what it was at each moment."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.repository.conftest import now

import keepstone
from keepstone.repository.merging import merge
from keepstone.repository.sealing import seal_free

_KEYS = st.sampled_from(["a", "b", "ü"])
_NAMES = st.sampled_from(["x", "y/z"])
_VALUES = st.integers(0, 3)


class PastMachine(RuleBasedStateMachine):
    """A store that is written to, sealed, merged and opened again, against what it was at each moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.items: dict[str, int] = {}
        self.versions: dict[str, dict[int, int]] = {}
        self.newest: dict[str, int] = {}
        self.snapshots: dict[int, dict[str, int]] = {}
        self.aliases: dict[str, int] = {}
        self.kept: list[tuple[datetime.datetime, Any]] = []

    @initialize()
    def begin(self) -> None:
        self.store = keepstone.open(self.folder / "s")
        self.store.collection("c").create()

    @rule(pairs=st.dictionaries(_KEYS, _VALUES, min_size=1))
    def put(self, pairs: dict[str, int]) -> None:
        self.store.collection("c", durability="process").add_many(pairs)
        self.items.update(pairs)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        if key in self.items:
            del self.store.collection("c")[key]
            del self.items[key]

    @rule(name=_NAMES, value=_VALUES)
    def save(self, name: str, value: int) -> None:
        version = self.store.save(name, value, aliases=["last"] if name == "x" else ())
        self.versions.setdefault(name, {})[version.number] = value
        if name == "x":
            self.aliases["last"] = version.number

    @rule()
    def remove(self) -> None:
        kept = self.versions.get("y/z")
        if kept:
            self.store.remove(f"y/z@v{min(kept)}")
            del kept[min(kept)]

    @rule()
    def remove_and_undo(self) -> None:
        """Take the newest version away, look, give it back, and look again."""
        kept = self.versions.get("y/z")
        if kept:
            number = max(kept)
            value = kept.pop(number)
            self.store.remove(f"y/z@v{number}")
            self.look()
            self.store.undo(next(self.store.history("y/z")))
            kept[number] = value
            self.look()

    @rule()
    def snapshot(self) -> None:
        version = self.store.collection("c").snapshot()
        self.snapshots[version.number] = dict(self.items)

    @rule()
    def look(self) -> None:
        model = (
            dict(self.items),
            {name: dict(kept) for name, kept in self.versions.items() if kept},
            {number: dict(items) for number, items in self.snapshots.items()},
            dict(self.aliases),
        )
        self.kept.append((now(), model))

    @rule()
    def seal(self) -> None:
        self.store.repository.session.spool.finish()
        seal_free(self.store.repository.session)

    @rule()
    def merge(self) -> None:
        merge(self.store.repository.session, packs_min=2)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = keepstone.open(self.folder / "s")

    @precondition(lambda self: self.kept)
    @invariant()
    def was_so(self) -> None:
        for moment, (items, versions, snapshots, aliases) in self.kept[-4:] + self.kept[:2]:
            past = self.store.at(moment)
            held = past.collection("c")
            assert dict(held) == items
            assert {key: held[key] for key in items} == items
            assert past.names() == sorted(["c", *versions])
            assert {name: {v.number: v.load() for v in past.versions(name)} for name in versions} == versions
            assert {v.number: v.load() for v in past.versions("c")} == snapshots
            assert past.aliases("x") == aliases

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestPastMachine = PastMachine.TestCase
TestPastMachine.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
