"""A collection and its snapshots in any order of events, against dicts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import keepstone
from keepstone.repository.merging import merge
from keepstone.repository.sealing import seal_free

_KEYS = st.sampled_from(["a", "b", "c", "d/e", "ü", ""])
_VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=8), st.binary(max_size=8))


class SnapshotMachine(RuleBasedStateMachine):
    """One collection and its snapshots, against dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.items: dict[str, Any] = {}
        self.kept: dict[int, dict[str, Any]] = {}
        self.newest = 0

    @initialize()
    def begin(self) -> None:
        self.store = keepstone.open(self.folder / "s")
        self.store.collection("c").create()

    @rule(pairs=st.dictionaries(_KEYS, _VALUES, min_size=1))
    def put(self, pairs: dict[str, Any]) -> None:
        self.store.collection("c", durability="process").add_many(pairs)
        self.items.update(pairs)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        if key in self.items:
            del self.store.collection("c")[key]
            del self.items[key]

    @rule()
    def snapshot(self) -> None:
        version = self.store.collection("c").snapshot()
        same = self.newest in self.kept and self.kept[self.newest] == self.items
        assert version.created_new != same
        self.kept[version.number] = dict(self.items)
        self.newest = version.number

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

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "store"):
            return
        for number, items in self.kept.items():
            frozen = self.store.collection(f"c@v{number}")
            assert dict(frozen) == items
            assert list(frozen) == sorted(items)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestSnapshotMachine = SnapshotMachine.TestCase
TestSnapshotMachine.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
