"""Any order of operations by any of several writers gives what plain dicts give, whatever is closed, killed or deleted.

Four actors work on one folder: two sessions of this process that share nothing, a process beside it, and forked
children that go on with an inherited store. What they answer is compared with `model.py`, after each step everything
that can be seen is, and now and then the store is checked whole.
"""

from __future__ import annotations

import datetime
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.machines import actors
from tests.machines.model import VALUES, Model, Operation, digests

import keepstone
from keepstone.api import Store
from keepstone.history.checkpoint import Checkpoints, decode_checkpoint, encode_checkpoint
from keepstone.history.slots import Slots
from keepstone.history.state import State
from keepstone.repository import entries
from keepstone.repository.session import STALE_SECONDS_MAX

DIGESTS = digests()
ARTIFACTS = st.sampled_from(["m", "n/o"])
COLLECTIONS = st.sampled_from(["c", "d/e"])
ALIASES = st.sampled_from(["prod", "best"])
KEYS = st.sampled_from(["a", "b", "c/d", "ü", ""])
LEVELS = st.sampled_from(["process", "process", "disk", "store"])
ITEMS = st.one_of(
    st.integers(-5, 5), st.text(max_size=20), st.binary(max_size=20), st.just({"k": [None, True, 1.5]})
)
ACTORS = ("own", "twin", "neighbour", "child")
WHO = st.sampled_from(("own", "own", "twin", "twin", "neighbour", "neighbour", "child"))


@st.composite
def selectors(draw: st.DrawFn) -> str:
    name = draw(ARTIFACTS)
    kind = draw(st.sampled_from(["latest", "word", "number", "alias", "digest", "digest"]))
    if kind == "latest":
        return name
    if kind == "number":
        return f"{name}@v{draw(st.integers(1, 5))}"
    if kind == "digest":
        return f"{name}@{draw(st.sampled_from(sorted(DIGESTS.values())))[:11]}"
    return f"{name}@latest" if kind == "word" else f"{name}@{draw(ALIASES)}"


def made(verb: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    return st.tuples(*arguments).map(lambda drawn: Operation(verb, drawn))


_EXPECTED = st.one_of(st.just("any"), st.just("any"), st.none(), st.sampled_from(sorted(DIGESTS.values())))
WORDS = st.sampled_from(sorted(VALUES))
CHANGE_NAMES = st.one_of(
    made("save", ARTIFACTS, WORDS, st.lists(ALIASES, max_size=2).map(tuple), _EXPECTED),
    made("save", ARTIFACTS, WORDS, st.just(()), st.just("any")),
    made("alias", selectors(), ALIASES, st.one_of(st.just("any"), st.none(), selectors())),
    made("unalias", ARTIFACTS, ALIASES),
    made("undo"),
    made("remove", selectors()),
    made(
        "transact",
        st.lists(st.tuples(ARTIFACTS, WORDS), min_size=1, max_size=3).map(tuple),
        st.one_of(st.none(), ALIASES),
        st.sampled_from([False, False, False, True]),
    ),
)
CHANGE_ITEMS = st.one_of(
    made("put", COLLECTIONS, KEYS, ITEMS, LEVELS),
    made("put", COLLECTIONS, KEYS, ITEMS, LEVELS),
    made("delete", COLLECTIONS, KEYS),
    made("snapshot", COLLECTIONS),
    made("remove_snapshot", COLLECTIONS, st.integers(1, 3)),
)
KEEP_HOUSE = st.one_of(made("flush"), made("recover"), made("merge"))
WHOLE = st.one_of(CHANGE_NAMES, CHANGE_ITEMS, KEEP_HOUSE)
"""What happens as a whole or not at all."""
STEPWISE = st.one_of(
    made("add_many", COLLECTIONS, st.dictionaries(KEYS, ITEMS), LEVELS),
    made("add_many", COLLECTIONS, st.dictionaries(KEYS, ITEMS), LEVELS),
    made("clear", COLLECTIONS),
    made("remove_collection", COLLECTIONS),
)
READ_NAMES = st.one_of(
    made("load", selectors()),
    made("exists", st.one_of(selectors(), COLLECTIONS)),
    made("versions", ARTIFACTS),
    made("aliases", ARTIFACTS),
)
READ_ITEMS = st.one_of(
    made("get", COLLECTIONS, KEYS),
    made("contains", COLLECTIONS, KEYS),
    made("length", COLLECTIONS),
    made("keys", COLLECTIONS),
    made("missing", COLLECTIONS, st.lists(KEYS, max_size=4)),
    made("read_snapshot", COLLECTIONS, st.one_of(st.none(), st.integers(1, 3))),
)
BOUNDED_STALE = ("get", "contains", "length", "delete")
"""What may speak of a moment up to STALE_SECONDS_MAX ago; everything else speaks of now."""
REFRESHING = ("keys", "missing", "load", "exists", "versions", "aliases", "save", "alias", "flush", "recover")


class Moment:
    """The model as it was, and until when."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.ended = float("inf")


class StoreMachine(RuleBasedStateMachine):
    """One folder, its actors, and the dicts that it must equal."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="keepstone-machine-"))
        self.place = self.folder / "store"
        # The same folder by other names: sessions are shared by location.
        for name in ("twin", "neighbour"):
            (self.folder / name).symlink_to("store")
        self.model = Model(DIGESTS)
        self.moments = [Moment(self.model)]
        self.seen = dict.fromkeys(ACTORS, 0)
        """The moment before which an actor cannot fall back, since it has seen that one."""
        self.seen_of: dict[tuple[str, tuple[Any, ...]], int] = {}
        """The same of one key, by actor and (collection, key)."""
        self.past: list[tuple[datetime.datetime, Model]] = []
        self.stores: dict[str, Store] = {}
        self.neighbour: actors.Neighbour | None = None
        self.catalog_min = entries.CATALOG_ENTRIES_MIN
        self.journal_bytes = 0
        self.steps: list[str] = []

    @initialize(catalog=st.booleans(), journal_bytes=st.sampled_from([300, 3_000, 1 << 26]))
    def begin(self, catalog: bool, journal_bytes: int) -> None:
        entries.CATALOG_ENTRIES_MIN = 3 if catalog else self.catalog_min
        self.journal_bytes = journal_bytes
        self.store("own")

    # ---- actors --------------------------------------------------------------------------------------

    def store(self, actor: str) -> Store:
        """Return the session of an actor in this process, opened if it is not."""
        if actor not in self.stores:
            self.stores[actor] = keepstone.open(self.place if actor == "own" else self.folder / actor)
            self.stores[actor].repository.session.spool.journal_bytes = self.journal_bytes
            self.seen[actor] = len(self.moments) - 1
        return self.stores[actor]

    def ask(self, actor: str, operation: Operation) -> Any:
        if actor == "neighbour":
            if self.neighbour is None:
                self.neighbour = actors.Neighbour(self.folder / "neighbour")
                self.seen[actor] = len(self.moments) - 1
            return self.neighbour.do(operation)
        if actor == "child":
            store = self.store("own")
            self.seen[actor] = self.seen["own"]
            return actors.in_forked_child(store, operation)
        return actors.perform(self.store(actor), operation)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say with an error what led to it: kills come at moments that no second run meets again."""
        try:
            yield
        except BaseException as error:
            error.add_note("\n".join(self.steps))
            raise

    # ---- rules ---------------------------------------------------------------------------------------

    # Rules are drawn with equal chances, so what is done most stands here in parts.

    @rule(actor=WHO, operation=CHANGE_NAMES)
    def change_names(self, actor: str, operation: Operation) -> None:
        self.do(actor, operation)

    @rule(actor=WHO, operation=st.one_of(CHANGE_ITEMS, STEPWISE))
    def change_items(self, actor: str, operation: Operation) -> None:
        self.do(actor, operation)

    @rule(actor=WHO, operation=READ_NAMES)
    def read_names(self, actor: str, operation: Operation) -> None:
        self.do(actor, operation)

    @rule(actor=WHO, operation=READ_ITEMS)
    def read_items(self, actor: str, operation: Operation) -> None:
        self.do(actor, operation)

    @rule(actor=WHO, operation=KEEP_HOUSE)
    def keep_house(self, actor: str, operation: Operation) -> None:
        self.do(actor, operation)

    def do(self, actor: str, operation: Operation) -> None:
        now = self.model.copy()
        wanted = now.apply(operation)
        began = time.monotonic()
        self.steps.append(f"{actor}: {operation}")
        with self.told():
            answer = self.ask(actor, operation)
            if answer != wanted:
                assert operation.verb in BOUNDED_STALE, f"{actor}: {operation} gave {answer}, not {wanted}"
                earlier = self.earlier_answers(actor, operation, began)
                fitting = [moment for moment, right in earlier.items() if right == answer]
                assert fitting, f"{actor}: {operation} gave {answer}, right were {wanted}, {earlier}"
                self.seen_of[actor, operation.arguments] = fitting[0]
        self.note(now)
        if operation.verb in ("put", "add_many"):
            name, keys = operation.arguments[0], operation.arguments[1]
            for key in [keys] if operation.verb == "put" else keys:
                self.seen_of[actor, (name, key)] = len(self.moments) - 1
        if operation.verb in REFRESHING and answer == wanted:
            self.seen[actor] = len(self.moments) - 1
        if operation.verb == "remove_collection":
            self.let_all_look()

    def let_all_look(self) -> None:
        """Let every session see the end of the log.

        An item set by one who does not know yet that its collection was removed lists it again, but only once it is
        published; tests/repository/test_collection.py holds that.
        """
        for actor, store in self.stores.items():
            store.names()
            self.seen[actor] = len(self.moments) - 1
        if self.neighbour is not None:
            self.neighbour.do(Operation("names"))

    def earlier_answers(self, actor: str, operation: Operation, began: float) -> dict[int, Any]:
        """Return what was right at the moments that this actor may still see: not before what it saw, or set itself."""
        known = "own" if actor == "child" else actor
        first = max(self.seen[actor], self.seen_of.get((known, operation.arguments), 0))
        return {
            first + position: moment.model.copy().apply(operation)
            for position, moment in enumerate(self.moments[first:])
            if moment.ended > began - STALE_SECONDS_MAX - 0.05
        }

    def note(self, model: Model) -> None:
        self.moments[-1].ended = time.monotonic()
        self.model = model
        self.moments.append(Moment(model))

    @rule(actor=st.sampled_from(["own", "twin"]))
    def reopen(self, actor: str) -> None:
        store = self.stores.pop(actor, None)
        if store is not None:
            store.close()
        self.store(actor)

    def kill_the_neighbour(self) -> None:
        if self.neighbour is not None:
            neighbour, self.neighbour = self.neighbour, None
            neighbour.kill()

    @rule(operation=st.one_of(st.none(), WHOLE), after_ms=st.floats(0, 4))
    def kill_the_neighbour_at_work(self, operation: Operation | None, after_ms: float) -> None:
        """What was under way has happened or has not, and stays that way."""
        if operation is None or self.neighbour is None:
            self.kill_the_neighbour()
            return
        after = self.model.copy()
        wanted = after.apply(operation)
        neighbour, self.neighbour = self.neighbour, None
        answered = neighbour.kill_during(operation, after_ms / 1000)
        self.steps.append(f"kill at work: {operation} after {after_ms} ms: {answered}")
        with self.told():
            seen = actors.content(self.store("own"))
            possible = [after]
            if answered is None:
                possible += [self.model, self.model.with_collection_for(operation)]
            else:
                assert answered == (wanted,)
            fitting = [model for model in possible if model.content() == seen]
            assert fitting, f"{seen} is neither before nor after"
        self.note(fitting[0])

    @rule(
        what=st.sampled_from(["delete the cache", "delete checkpoints", "delete LAST", "write a checkpoint"])
    )
    def disturb(self, what: str) -> None:
        """What is there for speed comes and goes."""
        if what == "delete the cache":
            shutil.rmtree(self.place / "cache", ignore_errors=True)
        elif what == "write a checkpoint":
            session = self.store("own").repository.session
            state = session.log.refresh()
            if state.number >= 0:
                Checkpoints(session.storage, self.slots()).write(state)
        else:
            for path in sorted((self.place / "checkpoints").glob("LAST" if what == "delete LAST" else "*")):
                path.unlink()

    # ---- what always holds ---------------------------------------------------------------------------

    def slots(self) -> Slots:
        session = self.store("own").repository.session
        return Slots(session.storage, session.identity.id_bytes, sleep=time.sleep, random=lambda: 0.0)

    @invariant()
    def everything_equals_the_model(self) -> None:
        if "own" in self.stores:
            with self.told():
                assert actors.content(self.stores["own"]) == self.model.content()
            self.seen["own"] = len(self.moments) - 1
            self.past.append((datetime.datetime.now(datetime.UTC), self.model))

    @rule(back=st.integers(1, 50))
    def look_back(self, back: int) -> None:
        """What could be seen at an earlier moment can be seen for ever."""
        if back <= len(self.past):
            when, then = self.past[-back]
            self.steps.append(f"look back to {when}")
            with self.told():
                assert actors.seen_in(self.store("own").at(when)) == then.content()

    @rule()
    def everything_is_sound(self) -> None:
        """The check of the store finds nothing; the log folds to the state that is open, and to each checkpoint."""
        store = self.store("own")
        with self.told():
            report = store.fsck(read_data=True)
            assert report.ok, report.damage
        # A sealer in the background may append while this looks.
        opened = store.repository.session.log.refresh()
        state = State()
        folded: dict[int, State] = {}
        for commit in store.repository.session.log.commits(last=opened.number):
            state = folded[commit.number] = state.advance([commit])
        if opened.number >= 0:
            assert encode_checkpoint(state) == encode_checkpoint(opened)
        for path in (self.place / "checkpoints").glob("0*"):
            kept = decode_checkpoint(path.read_bytes(), where=path.name)
            assert kept.number in folded
            assert encode_checkpoint(kept) == encode_checkpoint(folded[kept.number])

    def teardown(self) -> None:
        try:
            if self.stores:
                self.kill_the_neighbour()
                self.everything_is_sound()
                for store in self.stores.values():
                    store.close()
                with self.told(), keepstone.open(self.place, mode="r") as store:
                    assert actors.content(store) == self.model.content()
        finally:
            entries.CATALOG_ENTRIES_MIN = self.catalog_min
            shutil.rmtree(self.folder, ignore_errors=True)


EVERY = list(HealthCheck)
TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=EVERY
)


@pytest.mark.thorough
class TestStoreThoroughly(StoreMachine.TestCase):
    """The same for a quarter of a minute."""

    settings = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=EVERY)


@pytest.mark.long
@pytest.mark.timeout(7200)
class TestStoreLong(StoreMachine.TestCase):
    """The same for an hour."""

    settings = settings(
        max_examples=2_000, stateful_step_count=50, deadline=None, suppress_health_check=EVERY
    )
