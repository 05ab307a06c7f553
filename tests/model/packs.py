"""Model of commits, garbage collection and orphans: who may name, drop and delete a pack, and when.

A blob is a letter. A pack holds one blob and is named (blob, base): its content and the log's length when it
was begun; with `names_carry_base` off, names are content alone. A log is a tuple of commits, the medium a set
of packs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from tests.model.search import LeftOut

Pack = tuple[str, int]
Step = tuple[str, "World"]


class Rules(NamedTuple):
    upload_first: bool = True
    """A pack is written before the commit that adds it."""
    needs: bool = True
    """A commit lists the packs it relies on, and is judged by them at the slot that it wins."""
    stated: bool = True
    """A commit that rests on a ref states it, with old = new."""
    recheck: bool = True
    """The collector computes its drops again at the slot that it wins."""
    drop_first: bool = True
    """The collector deletes nothing before the commit that drops it."""
    floor: bool = True
    """Orphans are condemned by a floor in the log before they are deleted, and the floor is kept."""
    dropped: bool = True
    """A dropped name is never added again."""
    names_carry_base: bool = True
    """A pack's name holds the log's length when it was begun."""
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
    source: str | None = None
    """An alias: `blob` is what this ref says, and the commit states so instead of listing packs."""
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


def steps(world: World, rules: Rules) -> Iterator[Step]:
    for writer in world.writers:
        yield from writer_steps(world, writer, rules)
    yield from collector_steps(world, rules)
    yield from sweeper_steps(world, rules)


def writer_steps(world: World, writer: Writer, rules: Rules) -> Iterator[Step]:
    state, length, who = fold(world.log), len(world.log), writer.name
    if writer.at == "start" and writer.source is not None:
        blob = state.refs.get(writer.source)
        if blob is not None:
            begun = writer._replace(at="judge", blob=blob)
            yield f"{who} reads that {writer.source} is {blob}", world.with_writer(begun)
    elif writer.at == "start":
        found = next((pack for pack in sorted(state.live) if pack[0] == writer.blob), None)
        if writer.blob is None or found is not None:
            begun = writer._replace(at="judge", base=length, needs=found, adds=None)
            yield f"{who} reads the log, finds {found}", world.with_writer(begun)
        elif writer.uploads < 2:
            base = length if rules.names_carry_base else 0
            at = "upload" if rules.upload_first else "judge"
            begun = writer._replace(at=at, base=base, needs=None, adds=(writer.blob, base))
            yield f"{who} reads the log, must upload", world.with_writer(begun)
    elif writer.at == "upload" and writer.adds is not None:
        sent = writer._replace(at="judge", uploads=writer.uploads + 1)
        stored = world._replace(stored=world.stored | {writer.adds})
        yield f"{who} uploads {writer.adds}", stored.with_writer(sent)
    elif writer.at == "judge":
        valid = is_valid(state, writer, rules)
        judged = writer._replace(at="claim", slot=length) if valid else afresh(writer)
        yield f"{who} judges its commit at {length}: {valid}", world.with_writer(judged)
    elif writer.at in ("claim", "unknown"):
        yield from claim_steps(world, writer, rules)


def is_valid(state: Folded, writer: Writer, rules: Rules) -> bool:
    if rules.stated and writer.source is not None and state.refs.get(writer.source) != writer.blob:
        return False
    if rules.needs and writer.needs is not None and writer.needs not in state.live:
        return False
    if writer.adds is None or writer.adds in state.live:
        return True
    if rules.floor and writer.adds[1] < state.floor:
        return False
    return not (rules.dropped and writer.adds in state.dropped)


def afresh(writer: Writer) -> Writer:
    blob = None if writer.source is not None else writer.blob
    return Writer(writer.name, writer.ref, blob, writer.source, uploads=writer.uploads)


def claim_steps(world: World, writer: Writer, rules: Rules) -> Iterator[Step]:
    who, slot = writer.name, writer.slot
    if slot == len(world.log):
        adds = () if writer.adds is None else (writer.adds,)
        landed = world._replace(log=(*world.log, Commit(who, adds, ref=(writer.ref, writer.blob))))
        yield f"{who} commits {slot}", landed.with_writer(writer._replace(at="done"))
        if writer.at == "claim":
            unknown = writer._replace(at="unknown")
            yield f"{who} commits {slot}, the answer is lost", landed.with_writer(unknown)
    elif rules.txn and world.log[slot].txn == who:
        yield f"{who} finds its own commit in {slot}", world.with_writer(writer._replace(at="done"))
    else:
        yield f"{who} finds slot {slot} taken", world.with_writer(writer._replace(at="judge"))


def collector_steps(world: World, rules: Rules) -> Iterator[Step]:
    state, length, collector = fold(world.log), len(world.log), world.collector
    needless = tuple(sorted(pack for pack in state.live if pack[0] not in state.refs.values()))
    if collector.at == "start" and needless:
        at = "judge" if rules.drop_first else "delete"
        yield f"gc marks {needless}", world._replace(collector=Collector(at, 0, needless))
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
        listing = Sweeper("list", length + 1)
        yield f"sweep commits floor {length + 1}", world._replace(log=log, sweeper=listing)
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


# ---- the actors and what is found ----------------------------------------------------------------------

_STORED = World(
    log=(Commit("init", adds=(("x", 0),), ref=("old", "x")),),
    stored=frozenset({("x", 0)}),
    writers=(Writer("A", "a", "x"), Writer("D", "old", None)),
)
_NEW = Writer("B", "b", "y")
_ALIAS = Writer("L", "alias", None, source="old")

ACTORS = {
    # Pack x is stored and `old` names it. A names it too; D removes `old`.
    "stored": _STORED,
    # B brings a new blob.
    "new": World(log=(), stored=frozenset(), writers=(_NEW,)),
    # L lets an alias mean what `old` means, while D removes `old`.
    "alias": _STORED._replace(writers=(_ALIAS, Writer("D", "old", None))),
    # A and E upload the same content, maybe under the same base. D removes A's ref.
    "twins": World((), frozenset(), (Writer("A", "r", "y"), Writer("E", "e", "y"), Writer("D", "r", None))),
    # `old` is removed and set again by A while L goes by it.
    "alias set again": _STORED._replace(
        writers=(_ALIAS, Writer("D", "old", None), Writer("A", "old", "x", uploads=1))
    ),
}
ACTORS_LONG = {
    # Both at once; B may upload once only.
    "stored and new": _STORED._replace(writers=(*_STORED.writers, _NEW._replace(uploads=1))),
    # An alias besides.
    "stored and alias": _STORED._replace(writers=(*_STORED.writers, _ALIAS)),
    # Two new blobs, one of them twice; each writer uploads once.
    "twins and new": World(
        (), frozenset(), tuple(w._replace(uploads=1) for w in (*ACTORS["twins"].writers[:2], _NEW))
    ),
}

LEFT_OUT = (
    LeftOut("2a", ("dropped",), "twins", "ref e lost blob y"),
    LeftOut("2b", ("dropped", "names_carry_base"), "stored", "ref a lost blob x"),
    LeftOut("3a", ("needs",), "stored", "ref a lost blob x"),
    LeftOut("3b", ("stated",), "alias", "ref alias lost blob x"),
    LeftOut("3c", ("upload_first",), "new", "ref b lost blob y"),
    LeftOut("4a", ("recheck",), "stored", "ref a lost blob x"),
    LeftOut("5a", ("drop_first",), "stored", "ref a lost blob x"),
    LeftOut("5b", ("floor",), "new", "ref b lost blob y"),
    LeftOut("6a", ("txn",), "stored", "A landed 2 times"),
)
