"""Model of one journal that threads append to: one sync for all who wait, errors, interrupts, and power loss.

Each of three items has two halves in the file. `counter` is what the process takes for the file's length. A sync
makes durable what was in the file when it began. Power fails at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut

Half = tuple[str, int]


class Rules(NamedTuple):
    after_sync: bool = True
    """An item is on disk when the sync has returned, not when it was asked for."""
    covered: bool = True
    """A sync covers what was appended before it began."""
    abandon: bool = True
    """After a failed sync the file is not synced again: what it held is written to a new one."""
    real_end: bool = True
    """A torn write is cut off where the file really ended before it."""


class World(NamedTuple):
    items: tuple[str, ...] = ("a", "b", "c")
    """Still to be appended."""
    file: tuple[Half, ...] = ()
    durable: frozenset[Half] = frozenset()
    dropped: frozenset[Half] = frozenset()
    """Taken for clean by the kernel after a failed sync."""
    counter: int = 0
    told: frozenset[str] = frozenset()
    """Acknowledged: they survive the process's death."""
    on_disk: frozenset[str] = frozenset()
    """Acknowledged as on disk."""
    syncing: frozenset[Half] | None = None
    errors_left: int = 1
    interrupts_left: int = 1
    full_left: int = 1
    powered: bool = True


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if not world.powered:
        return
    yield "power fails", world._replace(powered=False)
    if world.items:
        yield from _appends(world, rules)
    yield from _syncs(world, rules)


def _appends(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    item, *rest = world.items
    file = (*world.file, (item, 1), (item, 2))
    written = world._replace(items=tuple(rest), file=file)
    yield (
        f"{item} is appended",
        written._replace(counter=world.counter + 2, told=world.told | {item}),
    )
    if world.interrupts_left:
        end = len(file) if rules.real_end else world.counter
        interrupted = written._replace(counter=end, interrupts_left=world.interrupts_left - 1)
        yield f"{item} is written, an interrupt comes before that is noted", interrupted
    if world.full_left:
        end = len(world.file) if rules.real_end else world.counter
        cut = world._replace(file=world.file[:end], counter=end, full_left=world.full_left - 1)
        yield f"the disk is full: {item} is torn and cut off at {end}", cut


def _syncs(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    whole = world.told
    if world.syncing is None:
        begun = world._replace(syncing=frozenset(world.file))
        if not whole <= world.on_disk:
            yield "a sync begins", begun if rules.after_sync else begun._replace(on_disk=whole)
        return
    synced = world.syncing - world.dropped
    covered = frozenset(i for i in whole if {(i, 1), (i, 2)} <= world.syncing) if rules.covered else whole
    ended = world._replace(durable=world.durable | synced, syncing=None, on_disk=world.on_disk | covered)
    yield "the sync ends", ended
    if world.errors_left:
        failed = world._replace(errors_left=world.errors_left - 1, syncing=None)
        if rules.abandon:
            # Read back, written to a new file, synced there.
            rewritten = failed._replace(durable=frozenset(world.file), on_disk=world.on_disk | covered)
            yield "the sync fails, a new journal takes its place", rewritten
        else:
            dropped = world.dropped | (world.syncing - world.durable)
            yield "the sync fails, and is tried again", failed._replace(dropped=dropped)


def loss(world: World) -> str:
    held = frozenset(world.file)
    for item in sorted(world.told):
        if not {(item, 1), (item, 2)} <= held:
            return "an acknowledged item is cut off"
    if not world.powered:
        for item in sorted(world.on_disk):
            if not {(item, 1), (item, 2)} <= world.durable:
                return "an item that was said to be on disk is gone"
    return ""


ACTORS = {"three items": World()}
ACTORS_LONG = {"five items": World(items=("a", "b", "c", "d", "e"), errors_left=2, full_left=2)}

LEFT_OUT = (
    LeftOut("18a", ("after_sync",), "three items", "an item that was said to be on disk is gone"),
    LeftOut("18b", ("covered",), "three items", "an item that was said to be on disk is gone"),
    LeftOut("18c", ("abandon",), "three items", "an item that was said to be on disk is gone"),
    LeftOut("18d", ("real_end",), "three items", "an acknowledged item is cut off"),
)
