"""Model of packing anew: two collectors with the same packs, a purge, and a writer who names what was needless.

Packs P and Q hold blobs x, y and z; refs name y and z. Each collector reads the state, writes one new pack with what
is needed of the old ones, and replaces them by one commit. A sets a ref to x. D removes z's ref, and when the
first collector has packed without z, z counts as purged: no pack may hold it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut, replaced

Pack = tuple[str, frozenset[str]]


class Rules(NamedTuple):
    whole: bool = True
    """A replacement is withdrawn whole if any of its old packs is not live at the slot that it wins."""
    recheck: bool = True
    """What a new pack leaves out is looked at again at the slot that the replacement wins."""
    one_commit: bool = True
    """Old packs go and the new one comes by one commit."""
    needs: bool = True
    """A commit is judged by the packs that it relies on at the slot that it wins."""


class Collector(NamedTuple):
    name: str
    at: str = "start"
    slot: int = 0
    olds: frozenset[Pack] = frozenset()
    new: frozenset[str] = frozenset()
    deletes: frozenset[Pack] = frozenset()


class Writer(NamedTuple):
    at: str = "start"
    needs: Pack | None = None
    slot: int = 0


class World(NamedTuple):
    collectors: tuple[Collector, ...] = (Collector("C"), Collector("E"))
    writer: Writer = Writer()
    remover: bool = True
    """D has not acted yet."""
    length: int = 1
    live: frozenset[Pack] = frozenset({("P", frozenset("xy")), ("Q", frozenset("z"))})
    stored: frozenset[Pack] = frozenset({("P", frozenset("xy")), ("Q", frozenset("z"))})
    refs: frozenset[str] = frozenset("yz")
    """Blobs that a ref names."""
    purged: bool = False


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    for position, collector in enumerate(world.collectors):
        for label, after, following in _collector_steps(world, collector, rules):
            yield label, following._replace(collectors=replaced(following.collectors, position, after))
    yield from _writer_steps(world, rules)
    if world.remover:
        removed = world._replace(remover=False, refs=world.refs - {"z"}, length=world.length + 1)
        yield "D removes z", removed
    elif not world.purged and not any("z" in blobs for _, blobs in world.live):
        yield "z is said to be purged", world._replace(purged=True)


def _names(packs: frozenset[Pack]) -> str:
    return " and ".join(sorted(name for name, _ in packs))


def _collector_steps(
    world: World, collector: Collector, rules: Rules
) -> Iterator[tuple[str, Collector, World]]:
    who, at = collector.name, collector.at
    if at == "start":
        contents = frozenset[str]().union(*(blobs for _, blobs in world.live))
        new = contents & world.refs
        if new and (len(world.live) > 1 or new != contents):
            planned = collector._replace(at="judge", olds=world.live, new=new)
            stored = world._replace(stored=world.stored | {(who, new)})
            yield f"{who} packs {_names(world.live)} anew with {''.join(sorted(new))}", planned, stored
    elif at == "judge":
        withdrawn = rules.whole and not collector.olds <= world.live
        contents = frozenset[str]().union(*(blobs for _, blobs in collector.olds))
        stale = rules.recheck and not (contents & world.refs) <= collector.new
        following = "done" if withdrawn or stale else "claim"
        yield f"{who} judges: {following}", collector._replace(at=following, slot=world.length), world
    elif at == "claim" and collector.slot != world.length:
        yield f"{who} finds its slot taken", collector._replace(at="judge"), world
    elif at == "claim":
        gone = collector.olds & world.live
        dropping = collector._replace(at="delete" if rules.one_commit else "add", deletes=gone)
        live = world.live - gone
        if rules.one_commit:
            live |= {(who, collector.new)}
        yield f"{who} replaces {_names(gone)}", dropping, world._replace(live=live, length=world.length + 1)
    elif at == "add":
        live = world.live | {(who, collector.new)}
        yield f"{who} adds", collector._replace(at="delete"), world._replace(live=live)
    elif at == "delete" and collector.deletes:
        first = min(collector.deletes, key=lambda pack: pack[0])
        left = collector._replace(deletes=collector.deletes - {first})
        yield f"{who} deletes {first[0]}", left, world._replace(stored=world.stored - {first})


def _writer_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    writer = world.writer
    if writer.at == "start":
        found = min((pack for pack in world.live if "x" in pack[1]), default=None, key=lambda pack: pack[0])
        if found is not None:
            yield f"A finds x in {found[0]}", world._replace(writer=Writer("judge", found))
    elif writer.at == "judge":
        valid = not rules.needs or writer.needs in world.live
        judged = Writer("claim", writer.needs, world.length) if valid else Writer()
        yield f"A judges its commit: {valid}", world._replace(writer=judged)
    elif writer.at == "claim" and writer.slot != world.length:
        yield "A finds its slot taken", world._replace(writer=writer._replace(at="judge"))
    elif writer.at == "claim":
        named = world._replace(refs=world.refs | {"x"}, length=world.length + 1, writer=Writer("done"))
        yield "A names x", named


def loss(world: World) -> str:
    present = frozenset[str]().union(*(blobs for _, blobs in world.live & world.stored))
    missing = world.refs - present
    if missing:
        return f"a ref lost blob {min(missing)}"
    if world.purged and any("z" in blobs for _, blobs in world.live):
        return "what was purged is back"
    return ""


ACTORS = {"two collectors": World()}
ACTORS_LONG = {"three collectors": World(collectors=(Collector("C"), Collector("E"), Collector("F")))}

LEFT_OUT = (
    LeftOut("3d", ("needs",), "two collectors", "a ref lost blob x"),
    LeftOut("4b", ("whole",), "two collectors", "what was purged is back"),
    LeftOut("4c", ("recheck",), "two collectors", "a ref lost blob x"),
    LeftOut("4d", ("one_commit",), "two collectors", "a ref lost blob y"),
)
