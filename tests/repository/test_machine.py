"""Any order of puts, deletes, flushes, merges, reopenings and second writers gives what a dict gives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import keepstone
from keepstone.api import Store
from keepstone.repository.merging import merge

_KEYS = st.sampled_from(["a", "b", "c", "d/e", "ü"])
_VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=20), st.binary(max_size=20))
_NAMES = st.sampled_from(["m", "n/o"])


class StoreMachine(RuleBasedStateMachine):
    """One store, two sessions (one writes, one also writes), and the dicts that they must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.items: dict[str, Any] = {}
        self.versions: dict[str, list[Any]] = {}
        self.store: Store | None = None

    @initialize()
    def begin(self) -> None:
        self.store = keepstone.open(self.folder / "s")

    @property
    def open_store(self) -> Store:
        assert self.store is not None
        return self.store

    @rule(key=_KEYS, value=_VALUES)
    def put(self, key: str, value: Any) -> None:
        self.open_store.collection("c")[key] = value
        self.items[key] = value

    @rule(pairs=st.dictionaries(_KEYS, _VALUES))
    def add_many(self, pairs: dict[str, Any]) -> None:
        self.open_store.collection("c", durability="process").add_many(pairs)
        self.items.update(pairs)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        items = self.open_store.collection("c")
        assert (key in items) == (key in self.items)
        if key in self.items:
            del items[key]
            del self.items[key]

    @rule()
    def flush(self) -> None:
        self.open_store.flush()

    @rule()
    def merge_all(self) -> None:
        merge(self.open_store.repository.session, packs_min=2)

    @rule()
    def reopen(self) -> None:
        self.open_store.close()
        self.store = keepstone.open(self.folder / "s")

    @rule(name=_NAMES, value=_VALUES)
    def save(self, name: str, value: Any) -> None:
        version = self.open_store.save(name, value)
        kept = self.versions.setdefault(name, [])
        if version.created_new:
            kept.append(value)
        assert version.number == len(kept)
        assert kept[-1] == value

    @invariant()
    def equals_the_dicts(self) -> None:
        if self.store is None:
            return
        items = self.store.collection("c")
        assert dict(items) == self.items
        assert len(items) == len(self.items)
        assert set(items.missing(["a", "b", "zz"])) == {k for k in ("a", "b", "zz") if k not in self.items}
        for name, kept in self.versions.items():
            assert self.store.load(name) == kept[-1]
            assert self.store.load(f"{name}@v1") == kept[0]

    def teardown(self) -> None:
        if self.store is not None:
            self.store.close()
        shutil.rmtree(self.folder)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
