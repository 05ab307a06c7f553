"""Model of readers: an item on its way from journal to pack, and packs that are packed anew while one is read.

O appends an item (in two halves, as a page at a time) and acknowledges it; it is sealed, and the journal goes. Its
pack is replaced twice, each old one deleted at once. R looks the item up after the acknowledgement; thread T of the
same process only looks at what R's process knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut


class Rules(NamedTuple):
    journals_first: bool = True
    """A miss reads the journals first and the log second."""
    forget_later: bool = True
    """A journal that is gone answers until the log was read."""
    not_yet: bool = True
    """A torn frame at the end of a live journal means "not yet"."""
    while_tip_moves: bool = True
    """A pack that is gone is looked up again as long as the log moved."""


class World(NamedTuple):
    packs_max: int = 3
    written: int = 0
    """Halves of the item that are in the journal."""
    packs: int = 0
    """How often it was packed; the newest pack is the one that is left once older ones are deleted."""
    deleted: int = 0
    unlinked: bool = False
    reader: str = "idle"
    skipped: bool = False
    """R took the half for damage and reads on behind it."""
    in_journal: bool = False
    """R's process knows the item from the journal."""
    place: int = 0
    """The newest pack of the item that R's process knows of."""
    seen: bool = False
    """T has seen the item."""
    hidden: bool = False
    tries: int = 0
    answer: str = ""


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    yield from _writer_steps(world)
    yield from _reader_steps(world, rules)
    if world.in_journal or world.place:
        if not world.seen:
            yield "T sees the item", world._replace(seen=True)
    elif world.seen and not world.hidden:
        yield "T looks again", world._replace(hidden=True)


def _writer_steps(world: World) -> Iterator[tuple[str, World]]:
    if world.written < 2 and not world.packs:
        yield f"O writes half {world.written + 1}", world._replace(written=world.written + 1)
    if world.written == 2 and world.packs < world.packs_max:
        yield f"pack {world.packs + 1} is committed", world._replace(packs=world.packs + 1)
    if world.packs and not world.unlinked:
        yield "the journal is unlinked", world._replace(unlinked=True)
    if world.packs > world.deleted + 1:
        yield f"pack {world.deleted + 1} is deleted", world._replace(deleted=world.deleted + 1)


def _read_journals(world: World, rules: Rules) -> World:
    if world.unlinked:
        return world if rules.forget_later else world._replace(in_journal=False)
    if world.written == 1 and not rules.not_yet:
        return world._replace(skipped=True)
    return world._replace(in_journal=world.in_journal or (world.written == 2 and not world.skipped))


def _read_log(world: World) -> World:
    known = world._replace(place=world.packs)
    return known._replace(in_journal=False) if world.unlinked and world.packs else known


def _reader_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    at = world.reader
    if at == "idle":
        polled = _read_journals(world, rules)
        if polled != world:
            yield "R reads the journals", polled
        if world.written == 2:
            yield "R is asked for the item", world._replace(reader="first")
    elif at == "first" and rules.journals_first:
        yield "R reads the journals", _read_journals(world, rules)._replace(reader="second")
    elif at == "first":
        yield "R reads the log", _read_log(world)._replace(reader="second")
    elif at == "second":
        following = _read_log(world) if rules.journals_first else _read_journals(world, rules)
        label = "R reads the log" if rules.journals_first else "R reads the journals"
        yield label, following._replace(reader="judge")
    elif at == "judge":
        if world.in_journal:
            yield "R reads the item in the journal", world._replace(reader="done", answer="found")
        elif not world.place:
            yield "R says that it is absent", world._replace(reader="done", answer="absent")
        elif world.place > world.deleted:
            yield f"R reads pack {world.place}", world._replace(reader="done", answer="found")
        else:
            yield f"R finds pack {world.place} gone", _look_again(world, rules)


def _look_again(world: World, rules: Rules) -> World:
    moved = world.packs > world.place
    if not moved or (world.tries and not rules.while_tip_moves):
        return world._replace(reader="done", answer="error")
    return world._replace(place=world.packs, tries=1)


def loss(world: World) -> str:
    if world.hidden:
        return "an item that was seen is not seen any more"
    if world.answer == "absent":
        return "an acknowledged item is said to be absent"
    if world.answer == "error":
        return "an item that is there gives an error"
    return ""


ACTORS = {"one item": World()}
ACTORS_LONG = {"five packs": World(packs_max=5)}

LEFT_OUT = (
    LeftOut("16a", ("journals_first",), "one item", "an acknowledged item is said to be absent"),
    LeftOut("16b", ("forget_later",), "one item", "an item that was seen is not seen any more"),
    LeftOut("16c", ("not_yet",), "one item", "an acknowledged item is said to be absent"),
    LeftOut("16d", ("while_tip_moves",), "one item", "an item that is there gives an error"),
)
