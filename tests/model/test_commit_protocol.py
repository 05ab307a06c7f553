"""The commit protocol as a small model, searched exhaustively: every order of steps, stalls and lost answers.

The model is not the code: it states the rules of docs/format.md, "Rules of the log", in the fewest words in
which they can fail. With all rules on, no reachable world loses anything; with any one left out, the search
finds a shortest way to a loss, which shows that the rule is needed and that the search can see.

A blob is a letter. A pack holds one blob and is named (blob, base): its content and the log's length when it
was begun; with `names_carry_base` off, names are content alone. A log is a tuple of commits, the medium a set
of packs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

Pack = tuple[str, int]
Step = tuple[str, "World"]


class Rules(NamedTuple):
    needs: bool = True
    """A commit lists the packs it relies on, and is judged by them at the slot that it wins."""
    recheck: bool = True
    """The collector computes its drops again at the slot that it wins."""
    floor: bool = True
    """Orphans are condemned by a floor in the log before they are deleted, and the floor is kept."""
    dropped: bool = True
    """A dropped name is never added again."""
    names_carry_base: bool = True
    txn: bool = True
    """A commit found in one's slot is known by its txn."""


class Commit(NamedTuple):
    txn: str
    adds: tuple[Pack, ...] = ()
    drops: tuple[Pack, ...] = ()
    ref: tuple[str, str | None] | None = None
    floor: int = 0


class Folded(NamedTuple):
    live: frozenset[Pack]
    dropped: frozenset[Pack]
    refs: dict[str, str]
    floor: int
    txns: tuple[str, ...]


class Writer(NamedTuple):
    """One who sets `ref` to `blob` (None: removes it), and starts over when the log forbids its commit."""

    name: str
    ref: str
    blob: str | None
    at: str = "start"
    base: int = 0
    needs: Pack | None = None
    adds: Pack | None = None
    slot: int = 0
    uploads: int = 0


class Collector(NamedTuple):
    """Drops packs that no ref needs, in one commit, and deletes them afterwards."""

    at: str = "start"
    slot: int = 0
    drops: tuple[Pack, ...] = ()


class Sweeper(NamedTuple):
    """Deletes packs that no commit ever added."""

    at: str = "start"
    slot: int = 0
    orphans: tuple[Pack, ...] = ()


class World(NamedTuple):
    log: tuple[Commit, ...]
    stored: frozenset[Pack]
    writers: tuple[Writer, ...]
    collector: Collector = Collector()
    sweeper: Sweeper = Sweeper()

    def with_writer(self, writer: Writer) -> World:
        return self._replace(writers=tuple(writer if w.name == writer.name else w for w in self.writers))


@cache
def fold(log: tuple[Commit, ...]) -> Folded:
    if not log:
        return Folded(frozenset(), frozenset(), {}, 0, ())
    before, commit = fold(log[:-1]), log[-1]
    refs = dict(before.refs)
    if commit.ref is not None:
        name, blob = commit.ref
        refs.pop(name, None)
        if blob is not None:
            refs[name] = blob
    return Folded(
        (before.live | set(commit.adds)) - set(commit.drops),
        before.dropped | set(commit.drops),
        refs,
        max(before.floor, commit.floor),
        (*before.txns, commit.txn),
    )


# ---- what each actor may do next -----------------------------------------------------------------------


def writer_steps(world: World, writer: Writer, rules: Rules) -> Iterator[Step]:
    state, length, who = fold(world.log), len(world.log), writer.name
    if writer.at == "start":
        found = next((pack for pack in sorted(state.live) if pack[0] == writer.blob), None)
        if writer.blob is None or found is not None:
            begun = writer._replace(at="judge", base=length, needs=found, adds=None)
            yield f"{who} reads the log, finds {found}", world.with_writer(begun)
        elif writer.uploads < 2:
            base = length if rules.names_carry_base else 0
            begun = writer._replace(at="upload", base=base, needs=None, adds=(writer.blob, base))
            yield f"{who} reads the log, must upload", world.with_writer(begun)
    elif writer.at == "upload" and writer.adds is not None:
        sent = writer._replace(at="judge", uploads=writer.uploads + 1)
        yield (
            f"{who} uploads {writer.adds}",
            world._replace(stored=world.stored | {writer.adds}).with_writer(sent),
        )
    elif writer.at == "judge":
        valid = is_valid(state, writer, rules)
        judged = writer._replace(at="claim", slot=length) if valid else afresh(writer)
        yield f"{who} judges its commit at {length}: {valid}", world.with_writer(judged)
    elif writer.at in ("claim", "unknown"):
        yield from claim_steps(world, writer, rules)


def is_valid(state: Folded, writer: Writer, rules: Rules) -> bool:
    if rules.needs and writer.needs is not None and writer.needs not in state.live:
        return False
    if writer.adds is None or writer.adds in state.live:
        return True
    if rules.floor and writer.adds[1] < state.floor:
        return False
    return not (rules.dropped and writer.adds in state.dropped)


def afresh(writer: Writer) -> Writer:
    return Writer(writer.name, writer.ref, writer.blob, uploads=writer.uploads)


def claim_steps(world: World, writer: Writer, rules: Rules) -> Iterator[Step]:
    who, slot = writer.name, writer.slot
    if slot == len(world.log):
        adds = () if writer.adds is None else (writer.adds,)
        landed = world._replace(log=(*world.log, Commit(who, adds, ref=(writer.ref, writer.blob))))
        yield f"{who} commits {slot}", landed.with_writer(writer._replace(at="done"))
        if writer.at == "claim":
            yield (
                f"{who} commits {slot}, the answer is lost",
                landed.with_writer(writer._replace(at="unknown")),
            )
    elif rules.txn and world.log[slot].txn == who:
        yield f"{who} finds its own commit in {slot}", world.with_writer(writer._replace(at="done"))
    else:
        yield f"{who} finds slot {slot} taken", world.with_writer(writer._replace(at="judge"))


def collector_steps(world: World, rules: Rules) -> Iterator[Step]:
    state, length, collector = fold(world.log), len(world.log), world.collector
    needless = tuple(sorted(pack for pack in state.live if pack[0] not in state.refs.values()))
    if collector.at == "start" and needless:
        yield f"gc marks {needless}", world._replace(collector=Collector("judge", 0, needless))
    elif collector.at == "judge":
        drops = tuple(p for p in collector.drops if p in needless) if rules.recheck else collector.drops
        yield f"gc judges {drops} at {length}", world._replace(collector=Collector("claim", length, drops))
    elif collector.at == "claim" and collector.slot == length:
        log = (*world.log, Commit("gc", drops=collector.drops))
        dropping = Collector("delete", 0, collector.drops)
        yield f"gc commits {length}", world._replace(log=log, collector=dropping)
    elif collector.at == "claim":
        yield "gc finds its slot taken", world._replace(collector=collector._replace(at="judge"))
    elif collector.at == "delete" and collector.drops:
        first, *rest = collector.drops
        left = Collector("delete", 0, tuple(rest))
        yield f"gc deletes {first}", world._replace(stored=world.stored - {first}, collector=left)


def sweeper_steps(world: World, rules: Rules) -> Iterator[Step]:
    state, length, sweeper = fold(world.log), len(world.log), world.sweeper
    logged = state.live | state.dropped
    unlogged = tuple(sorted(pack for pack in world.stored if pack not in logged))
    condemned = tuple(pack for pack in unlogged if pack[1] < sweeper.slot)
    if sweeper.at == "start" and rules.floor:
        yield f"sweep reads the log at {length}", world._replace(sweeper=Sweeper("claim", length))
    elif sweeper.at == "start" and unlogged:
        yield f"sweep lists {unlogged}", world._replace(sweeper=Sweeper("delete", 0, unlogged))
    elif sweeper.at == "claim" and sweeper.slot == length:
        # The most hostile floor that is allowed: everything begun so far is condemned.
        log = (*world.log, Commit("floor", floor=length + 1))
        yield (
            f"sweep commits floor {length + 1}",
            world._replace(log=log, sweeper=Sweeper("list", length + 1)),
        )
    elif sweeper.at == "claim":
        yield "sweep finds its slot taken", world._replace(sweeper=Sweeper())
    elif sweeper.at == "list" and condemned:
        yield f"sweep lists {condemned}", world._replace(sweeper=Sweeper("delete", 0, condemned))
    elif sweeper.at == "delete" and sweeper.orphans:
        first, *rest = sweeper.orphans
        left = Sweeper("delete", 0, tuple(rest))
        yield f"sweep deletes {first}", world._replace(stored=world.stored - {first}, sweeper=left)


# ---- what must never be --------------------------------------------------------------------------------


def loss(world: World) -> str:
    """What is wrong with `world`; empty if nothing is."""
    state = fold(world.log)
    present = {pack[0] for pack in state.live & world.stored}
    for name, blob in state.refs.items():
        if blob not in present:
            return f"ref {name} lost blob {blob}"
    for writer in world.writers:
        landed = state.txns.count(writer.name)
        if landed > 1:
            return f"{writer.name} landed {landed} times"
        if writer.at == "done" and not landed:
            return f"{writer.name} was told of a commit that is not there"
    return ""


class Verdict(NamedTuple):
    worlds: int
    loss: str
    steps: list[str]
    """The shortest way to the loss."""


def search(first: World, rules: Rules) -> Verdict:
    """Visit every reachable world, nearest first, until one has lost something."""
    waiting = deque([first])
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    while waiting:
        world = waiting.popleft()
        wrong = loss(world)
        if wrong:
            steps: list[str] = []
            origin = came_from[world]
            while origin is not None:
                steps.append(origin[1])
                origin = came_from[origin[0]]
            return Verdict(len(came_from), wrong, steps[::-1])
        for writer in world.writers:
            extend(waiting, came_from, world, writer_steps(world, writer, rules))
        extend(waiting, came_from, world, collector_steps(world, rules))
        extend(waiting, came_from, world, sweeper_steps(world, rules))
    return Verdict(len(came_from), "", [])


def extend(
    waiting: deque[World],
    came_from: dict[World, tuple[World, str] | None],
    world: World,
    steps: Iterator[Step],
) -> None:
    for label, following in steps:
        if following not in came_from:
            came_from[following] = (world, label)
            waiting.append(following)


# ---- the actors and what is found ----------------------------------------------------------------------

ONE_STORED = World(
    log=(Commit("init", adds=(("x", 0),), ref=("old", "x")),),
    stored=frozenset({("x", 0)}),
    writers=(Writer("A", "a", "x"), Writer("D", "old", None)),
)
"""Pack x is stored and `old` names it. A names it too; D removes `old`."""

ONE_NEW = World(log=(), stored=frozenset(), writers=(Writer("B", "b", "y"),))
"""B brings a new blob."""

STORED_AND_NEW = ONE_STORED._replace(writers=(*ONE_STORED.writers, Writer("B", "b", "y", uploads=1)))
"""Both at once; B may upload once only, which keeps the search short."""

TWINS = World(
    log=(),
    stored=frozenset(),
    writers=(Writer("A", "r", "y"), Writer("E", "e", "y"), Writer("D", "r", None)),
)
"""A and E upload the same content, maybe under the same base. D removes A's ref."""


@pytest.mark.parametrize(
    "first", [ONE_STORED, ONE_NEW, STORED_AND_NEW, TWINS], ids=["stored", "new", "both", "twins"]
)
def test_with_all_rules_nothing_is_ever_lost(first: World) -> None:
    verdict = search(first, Rules())

    assert verdict.loss == "", verdict.steps


@pytest.mark.parametrize(
    ("left_out", "first", "expected"),
    [
        (Rules(needs=False), ONE_STORED, "ref a lost blob x"),
        (Rules(recheck=False), ONE_STORED, "ref a lost blob x"),
        (Rules(floor=False), ONE_NEW, "ref b lost blob y"),
        (Rules(dropped=False), TWINS, "lost blob y"),
        (Rules(dropped=False, names_carry_base=False), ONE_STORED, "ref a lost blob x"),
        (Rules(txn=False), ONE_STORED, "landed 2 times"),
    ],
    ids=["needs", "recheck", "floor", "dropped names", "reborn names", "txn"],
)
def test_any_rule_left_out_loses_something(left_out: Rules, first: World, expected: str) -> None:
    verdict = search(first, left_out)

    assert expected in verdict.loss
    assert 5 <= len(verdict.steps) <= 16
