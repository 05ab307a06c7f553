"""Model of commits on a local disk that loses power: what is not synced may vanish, in any part.

A and B append to the log by hand: file, sync of the file, link, sync of the folder. Contents and names reach the
disk on their own or not at all. After the power loss C opens the log and reads it as far as it goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut, replaced, subsets


class Rules(NamedTuple):
    sync_file: bool = True
    """A commit's file is synced before it gets its name."""
    sync_folder: bool = True
    """A commit is acknowledged once the folder is synced."""
    settle: bool = True
    """Before building on a commit that another process wrote, the folder is synced."""
    abandon: bool = True
    """A file whose sync failed is never synced again: a new one is written."""


class Slot(NamedTuple):
    who: str
    content: bool
    """Its bytes reached the disk."""
    name: bool = False
    """Its name reached the disk."""


class Process(NamedTuple):
    who: str
    at: str = "start"
    content: bool = False
    """The bytes of its file reached the disk."""
    dropped: bool = False
    """A sync failed: the kernel took the pages for clean, so no later sync writes them."""
    slot: int = 0


class World(NamedTuple):
    processes: tuple[Process, ...]
    slots: tuple[Slot | None, ...] = ()
    acknowledged: frozenset[str] = frozenset()
    powered: bool = True
    errors_left: int = 1


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if not world.powered:
        return
    for position, process in enumerate(world.processes):
        for label, after, following in _process_steps(world, process, rules):
            yield label, following._replace(processes=replaced(following.processes, position, after))
    yield from _power_loss(world)


def _process_steps(world: World, process: Process, rules: Rules) -> Iterator[tuple[str, Process, World]]:
    who, tip = process.who, len(world.slots)
    if process.at == "start":
        at = "written" if rules.sync_file else "synced"
        yield f"{who} writes a file", process._replace(at=at, content=False, dropped=False), world
    elif process.at == "written":
        synced = process._replace(at="synced", content=not process.dropped)
        yield f"{who} syncs its file", synced, world
        if world.errors_left and not process.dropped:
            spent = world._replace(errors_left=world.errors_left - 1)
            again = process._replace(at="start" if rules.abandon else "written", dropped=True)
            yield f"{who} syncs its file and gets an error", again, spent
    elif process.at == "synced":
        settled = rules.settle and tip > 0 and not all(slot is not None and slot.name for slot in world.slots)
        if settled:
            yield f"{who} syncs the folder before it builds on others", process, _folder_synced(world)
        else:
            linked = world._replace(slots=(*world.slots, Slot(who, process.content)))
            yield f"{who} links slot {tip}", process._replace(at="linked", slot=tip), linked
    elif process.at == "linked":
        following = _folder_synced(world) if rules.sync_folder else world
        told = following._replace(acknowledged=world.acknowledged | {who})
        yield f"{who} acknowledges slot {process.slot}", process._replace(at="done"), told


def _folder_synced(world: World) -> World:
    return world._replace(slots=tuple(slot and slot._replace(name=True) for slot in world.slots))


def _power_loss(world: World) -> Iterator[tuple[str, World]]:
    loose = frozenset(n for n, slot in enumerate(world.slots) if slot is not None and not slot.name)
    for lost in subsets(loose):
        left: list[Slot | None] = [None if n in lost else slot for n, slot in enumerate(world.slots)]
        while left and left[-1] is None:
            left.pop()
        gone = f"losing slots {sorted(lost)}" if lost else "losing no name"
        yield f"power fails, {gone}", world._replace(slots=tuple(left), powered=False)


def loss(world: World) -> str:
    if world.powered:
        return ""
    for number, slot in enumerate(world.slots):
        if slot is None:
            return f"slot {number} is missing although a later one is there"
        if not slot.content:
            return f"slot {number} is torn"
    for who in sorted(world.acknowledged):
        if not any(slot is not None and slot.who == who for slot in world.slots):
            return f"the acknowledged commit of {who} is gone"
    return ""


ACTORS = {"two processes": World((Process("A"), Process("B")))}
ACTORS_LONG = {"three processes": World((Process("A"), Process("B"), Process("D")), errors_left=2)}

LEFT_OUT = (
    LeftOut("12a", ("sync_file",), "two processes", "slot 0 is torn"),
    LeftOut("12b", ("sync_folder",), "two processes", "the acknowledged commit of A is gone"),
    LeftOut("12c", ("settle",), "two processes", "slot 0 is missing although a later one is there"),
    LeftOut("12d", ("abandon",), "two processes", "slot 0 is torn"),
)
