"""Three stores in any order of work and syncs: nothing is lost, nothing comes back, and all agree in the end.

Two folders and a bucket, in memory or on a server. What each sync has to come to is said by a few dicts: the newest of
each key, every version that was not removed there, and aliases by three-way comparison with what both had when they
last had the same.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tests.operations.bucket import BUCKET, buckets
from tests.operations.bucket import bucket as in_memory
from tests.servers import fixtures
from tests.servers.bucket import Bucket
from tests.servers.fixtures import Machine

import keepstone
from keepstone import Store

WHO = st.sampled_from("ABC")
ARTIFACTS = st.sampled_from(["m", "n/o"])
COLLECTIONS = st.sampled_from(["c", "n/d"])
ALIASES = st.sampled_from(["prod", "best"])
KEYS = st.sampled_from(["a", "b", "ü"])
CONTENT = st.sampled_from(["one", "two", "three", "four"])
WAYS = st.sampled_from(["push", "pull", "sync"])

Seen = dict[str, Any]
_names = itertools.count()


class Stores(RuleBasedStateMachine):
    """What the rules do to the stores, and what must be so after each."""

    within: ClassVar[str] = BUCKET
    """Where the third store is."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="keepstone-sync-"))
        self.buckets = buckets()
        self.requests = self.buckets.__enter__()
        self.places = {
            "A": str(self.folder / "a"),
            "B": str(self.folder / "b"),
            "C": f"{self.within}machine-{next(_names)}",
        }
        self.stores: dict[str, Store] = {
            who: keepstone.open(place, create=True) for who, place in self.places.items()
        }
        self.items: dict[str, dict[tuple[str, str], tuple[int, Any]]] = {who: {} for who in "ABC"}
        self.made: dict[str, set[str]] = {who: set() for who in "ABC"}
        """Collections."""
        self.removed: dict[str, set[tuple[str, str]]] = {who: set() for who in "ABC"}
        """Names and digests of versions that were removed, by where."""
        self.agreed: dict[tuple[str, str], dict[str, str]] = {}
        self.moments = itertools.count()

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        try:
            self.converge()
        finally:
            for store in self.stores.values():
                store.close()
            if self.within == BUCKET:
                in_memory(self.places["C"].removeprefix(BUCKET)).objects.clear()
            self.buckets.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    # ---- work in one store -------------------------------------------------------------------------------------------

    @rule(who=WHO, name=ARTIFACTS, content=CONTENT, aliases=st.lists(ALIASES, max_size=1))
    def save(self, who: str, name: str, content: str, aliases: list[str]) -> None:
        version = self.stores[who].save(name, content * 50, aliases=aliases)
        self.removed[who].discard((name, version.digest))

    @rule(who=WHO, name=ARTIFACTS, which=st.integers(0, 5))
    def remove_version(self, who: str, name: str, which: int) -> None:
        store = self.stores[who]
        if not store.exists(name):
            return
        aliased = set(store.aliases(name).values())
        free = [v for v in store.versions(name) if v.number not in aliased]
        if free:
            gone = free[which % len(free)]
            store.remove(gone.selector)
            if gone.digest not in {v.digest for v in store.versions(name)}:
                self.removed[who].add((name, gone.digest))

    @rule(who=WHO, name=ARTIFACTS)
    def remove_name(self, who: str, name: str) -> None:
        if self.stores[who].exists(name):
            self.removed[who] |= {(name, version.digest) for version in self.stores[who].versions(name)}
            self.stores[who].remove(name)

    @rule(who=WHO, name=ARTIFACTS, which=st.integers(0, 5), alias=ALIASES)
    def point(self, who: str, name: str, which: int, alias: str) -> None:
        store = self.stores[who]
        if store.exists(name):
            versions = store.versions(name)
            store.alias(versions[which % len(versions)].selector, alias)

    @rule(who=WHO, name=ARTIFACTS, alias=ALIASES)
    def unpoint(self, who: str, name: str, alias: str) -> None:
        if self.stores[who].exists(f"{name}@{alias}"):
            self.stores[who].unalias(name, alias)

    @rule(who=WHO, collection=COLLECTIONS, key=KEYS, value=st.integers(0, 9), flushes=st.booleans())
    def put(self, who: str, collection: str, key: str, value: int, flushes: bool) -> None:
        items = self.stores[who].collection(collection)
        items[key] = {"n": value, "text": "word " * value}
        self.made[who].add(collection)
        self.items[who][collection, key] = (next(self.moments), value)
        if flushes:
            items.flush()

    @rule(who=WHO, collection=COLLECTIONS, key=KEYS)
    def delete(self, who: str, collection: str, key: str) -> None:
        if self.items[who].get((collection, key), (0, None))[1] is not None:
            del self.stores[who].collection(collection)[key]
            self.items[who][collection, key] = (next(self.moments), None)

    @rule(who=WHO, collection=COLLECTIONS)
    def take_snapshot(self, who: str, collection: str) -> None:
        if self.stores[who].exists(collection):
            version = self.stores[who].collection(collection).snapshot()
            self.removed[who].discard((collection, version.digest))

    @rule(who=WHO)
    def reopen(self, who: str) -> None:
        self.stores[who].close()
        self.stores[who] = keepstone.open(self.places[who], create=False)

    # ---- syncs -------------------------------------------------------------------------------------------------------

    @rule(here=st.sampled_from("AB"), other=WHO, way=WAYS, remembers=st.booleans())
    def sync_everything(self, here: str, other: str, way: str, remembers: bool) -> None:
        if here != other:
            self.sync_both(here, other, way, remembers=remembers)

    def sync_both(self, here: str, other: str, way: str, *, remembers: bool) -> None:
        if other == "C":
            # What lies in the journal of a bucket's writer is not published, and so not pulled.
            self.stores[other].flush()
        if not remembers:
            self.stores[other].close()
        verb: Callable[..., keepstone.SyncReport] = getattr(self.stores[here], way)
        before = {who: self.seen(who) for who in (here, other) if remembers}
        report = verb(self.places[other])
        if not remembers:
            self.stores[other] = keepstone.open(self.places[other], create=False)
        ends = [(here, other) if changes.way == "push" else (other, here) for changes in report.changes]
        for source, target in ends:
            for place, (moment, value) in self.items[source].items():
                if moment > self.items[target].get(place, (-1, None))[0]:
                    self.items[target][place] = (moment, value)
            self.made[target] |= self.made[source]
        for who in (here, other):
            self.check_items(who)
        for (source, target), changes in zip(ends, report.changes, strict=True):
            self.expect(here, other, source, target, changes, before)

    def expect(
        self, here: str, other: str, source: str, target: str, changes: Any, before: dict[str, Seen]
    ) -> None:
        there, here_ = self.stores[target], self.stores[source]
        for name in here_.names():
            digests = {v.digest for v in there.versions(name)} if name in there.names() else set[str]()
            for version in here_.versions(name):
                if version.digest not in digests:
                    assert (name, version.digest) in self.removed[target], (name, version.selector)
        for version in changes.versions:
            assert there.resolve(version.target).digest == version.digest
            name = version.target.partition("@")[0]
            self.removed[target].discard((name, version.digest))
        for who, seen in before.items():
            now = self.seen(who)
            for selector, digest in seen["versions"].items():
                assert now["versions"].get(selector) == digest, f"{selector} of {who} is another one"
        self.check_aliases(here, other, source, target, changes)

    def check_items(self, who: str) -> None:
        store = self.stores[who]
        for collection in self.made[who]:
            wanted = {
                key: {"n": value, "text": "word " * value}
                for (name, key), (_, value) in self.items[who].items()
                if name == collection and value is not None
            }
            assert dict(store.collection(collection)) == wanted, f"{collection} of {who}"

    def check_aliases(self, here: str, other: str, source: str, target: str, changes: Any) -> None:
        base = self.agreed.setdefault((here, other), {})
        conflicts = {conflict.alias for conflict in changes.conflicts}
        mine, theirs = self.aliases(source), self.aliases(target)
        for ref in mine.keys() | theirs.keys() | base.keys():
            if mine.get(ref) == theirs.get(ref):
                assert ref not in conflicts
                if ref in mine:
                    base[ref] = mine[ref]
                else:
                    base.pop(ref, None)
                continue
            if ref in conflicts:
                assert base.get(ref) not in (mine.get(ref), theirs.get(ref))
                continue
            # It moved at the target alone, or what it means cannot come.
            gone = (ref.partition("@")[0], mine.get(ref, "")) in self.removed[target]
            assert mine.get(ref) == base.get(ref) or gone, (
                ref,
                mine.get(ref),
                theirs.get(ref),
                base.get(ref),
            )

    # ---- what can be seen --------------------------------------------------------------------------------------------

    def aliases(self, who: str) -> dict[str, str]:
        store = self.stores[who]
        return {
            f"{name}@{alias}": store.resolve(f"{name}@v{number}").digest
            for name in store.names()
            for alias, number in store.aliases(name).items()
        }

    def seen(self, who: str) -> Seen:
        store = self.stores[who]
        return {
            "versions": {v.selector: v.digest for name in store.names() for v in store.versions(name)},
            "aliases": self.aliases(who),
        }

    def check_whole(self, who: str) -> None:
        store = self.stores[who]
        for name in store.names():
            for version in store.versions(name):
                assert version.load() is not None
        assert store.fsck(read_data=True).findings == ()

    def converge(self) -> None:
        for _ in range(2):
            for here, other in (("A", "C"), ("B", "C"), ("A", "C"), ("B", "A")):
                self.sync_both(here, other, "sync", remembers=True)
        for who in "ABC":
            self.check_whole(who)
            assert self.items[who] == self.items["A"]
        for here, other in (("A", "C"), ("B", "C"), ("B", "A")):
            commits = {who: self.stores[who].stats().commits for who in "ABC"}
            report = self.stores[here].sync(self.places[other])
            assert not any(changes.objects for changes in report.changes), str(report)
            assert commits == {who: self.stores[who].stats().commits for who in "ABC"}
        gone = set[tuple[str, str]]().union(*self.removed.values())
        everything = {
            (selector.partition("@")[0], digest)
            for who in "ABC"
            for selector, digest in self.seen(who)["versions"].items()
        }
        for who in "ABC":
            here_ = {(s.partition("@")[0], d) for s, d in self.seen(who)["versions"].items()}
            assert everything - gone <= here_


@pytest.mark.timeout(3_600)
def test_any_order_of_work_and_syncs_loses_nothing_and_ends_in_agreement(
    request: pytest.FixtureRequest,
) -> None:
    long = request.config.getoption("--long")
    run_state_machine_as_test(
        Stores,
        settings=settings(
            max_examples=300 if long else 6,
            stateful_step_count=40 if long else 20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


EXAMPLES = {"moto": 1, "ministack": 6, "rgw": 6}


@pytest.mark.timeout(3_600)
@fixtures.on_servers(*EXAMPLES)
def test_it_is_so_on_a_server_too(
    bucket: Bucket, request: pytest.FixtureRequest, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stores, "within", f"{bucket.url}/")
    long = request.config.getoption("--long")
    run_state_machine_as_test(
        Stores,
        settings=settings(
            max_examples=EXAMPLES[bucket.server] * (10 if long else 1),
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
