"""Model of recovery among collectors: who adopts what was uploaded and never committed.

The log has pack Q: entry e and its blob d. W uploads P, whose entry k has the same blob, acknowledges it and may die
before its commit. The collector may die after uploading R, which is Q packed anew; later it drops Q once e is
evicted, which leaves no trace. The sweeper deletes orphans below a floor; `recover` adopts orphans.
N saves a version whose content only a journal of this machine has so far; then the machine is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut


class Rules(NamedTuple):
    standalone: bool = True
    """A pack sealed from journals carries the blob of each entry in it."""
    origin: bool = True
    """Only packs sealed from journals are adopted, never a collector's."""
    above_floor: bool = True
    """What is adopted is judged by the floor at the slot that it wins."""
    packs_only: bool = True
    """A commit relies on packs only, never on a journal."""


class World(NamedTuple):
    saver: bool = False
    log: int = 1
    """Its length."""
    live: frozenset[str] = frozenset("Q")
    stored: frozenset[str] = frozenset("Q")
    dropped: frozenset[str] = frozenset()
    bases: tuple[tuple[str, int], ...] = ()
    floor: int = 0
    evicted: bool = False
    writer: str = "start"
    bare: bool = False
    """P relies on Q for blob d."""
    collector: str = "start"
    sweeper: str = "start"
    condemned: frozenset[str] = frozenset()
    recover: str = "start"
    found: frozenset[str] = frozenset()
    adopting: str = ""
    version: str = "start"
    machine: bool = True


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.saver:
        yield from _saver_steps(world, rules)
        return
    yield from _writer_steps(world, rules)
    yield from _collector_steps(world)
    yield from _sweeper_steps(world)
    yield from _recover_steps(world, rules)


def _base(world: World, name: str) -> int:
    return dict(world.bases).get(name, 0)


def _upload(world: World, name: str) -> World:
    return world._replace(stored=world.stored | {name}, bases=(*world.bases, (name, world.log)))


def _add(world: World, name: str) -> World:
    return world._replace(live=world.live | {name}, log=world.log + 1)


def _may_add(world: World, name: str) -> bool:
    return _base(world, name) >= world.floor and name not in world.dropped


def _writer_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.writer == "start":
        uploaded = _upload(world, "P")._replace(writer="uploaded", bare=not rules.standalone)
        yield "W uploads P and acknowledges", uploaded
    elif world.writer == "uploaded":
        yield "W dies", world._replace(writer="gone")
        if "Q" in world.live and _may_add(world, "P"):
            # Its commit lists Q among its needs.
            yield "W commits P", _add(world, "P")._replace(writer="gone")


def _collector_steps(world: World) -> Iterator[tuple[str, World]]:
    if not world.evicted:
        yield "e is evicted", world._replace(evicted=True, log=world.log + 1)
    if world.collector == "start" and not world.evicted:
        yield "gc packs Q anew into R, and dies", _upload(world, "R")._replace(collector="idle")
    needed = world.bare and "P" in world.live
    if world.evicted and "Q" in world.live and not needed:
        dropped = world._replace(live=world.live - {"Q"}, dropped=world.dropped | {"Q"}, log=world.log + 1)
        yield "gc drops Q", dropped
    if "Q" in world.dropped and "Q" in world.stored:
        yield "gc deletes Q", world._replace(stored=world.stored - {"Q"})


def _sweeper_steps(world: World) -> Iterator[tuple[str, World]]:
    if world.sweeper == "start":
        floor = world.log + 1
        condemning = world._replace(floor=floor, log=floor, sweeper="list")
        yield f"sweep commits floor {floor}", condemning
    elif world.sweeper == "list":
        orphans = world.stored - world.live - world.dropped
        listed = frozenset(name for name in orphans if _base(world, name) < world.floor)
        if listed:
            yield f"sweep lists {sorted(listed)}", world._replace(sweeper="delete", condemned=listed)
    elif world.condemned:
        first = min(world.condemned)
        yield (
            f"sweep deletes {first}",
            world._replace(stored=world.stored - {first}, condemned=world.condemned - {first}),
        )


def _recover_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.recover == "start" and world.writer != "uploaded":
        orphans = world.stored - world.live - world.dropped
        found = frozenset(name for name in orphans if name == "P" or not rules.origin)
        if found:
            yield f"recover finds {sorted(found)}", world._replace(recover="found", found=found)
    elif world.recover == "found" and world.found:
        first = min(world.found)
        rest = world._replace(found=world.found - {first})
        if not rules.above_floor or _may_add(world, first):
            yield f"recover adopts {first}", _add(rest, first)
        else:
            yield f"recover leaves {first}, which is below the floor", rest


def _saver_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.version == "start" and world.machine:
        version = "carried" if rules.packs_only else "relying"
        yield f"N commits a version, its content {version}", world._replace(version=version)
    if world.machine:
        yield "the machine is lost with its journals", world._replace(machine=False)


def loss(world: World) -> str:
    if world.version == "relying" and not world.machine:
        return "a version leads to nothing"
    if world.bare and "P" in world.live and "Q" not in world.live & world.stored:
        return "an entry leads to nothing"
    if not world.live <= world.stored:
        return "a live pack is gone"
    if world.evicted and "R" in world.live:
        return "what was evicted is back"
    return ""


ACTORS = {"orphans": World(), "lost machine": World(saver=True)}

LEFT_OUT = (
    LeftOut("7a", ("standalone",), "orphans", "an entry leads to nothing"),
    LeftOut("5c", ("above_floor",), "orphans", "a live pack is gone"),
    LeftOut("5d", ("origin",), "orphans", "what was evicted is back"),
    LeftOut("8a", ("packs_only",), "lost machine", "a version leads to nothing"),
)
