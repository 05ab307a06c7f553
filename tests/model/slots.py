"""Model of the log's slots: puts whose answer is lost or that land late, trimming, and slots that must stay.

Writer A brings blob `a` inline and pack `p` beside it; writer B appends without trouble. The collector moves `a`
into a pack of its own and then trims A's slot. The medium creates a slot if it is free, whenever it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut, replaced

PUTS_MAX = 2
ATTEMPTS_MAX = 2


class Rules(NamedTuple):
    slots_stay: bool = True
    """A slot that was taken is never deleted."""
    trim_keeps_header: bool = True
    """Trimming a slot keeps its header."""
    trim_after_drop: bool = True
    """A slot is trimmed only after the commit that drops its inline pack."""
    same_slot: bool = True
    """While the outcome is unknown, the same bytes are offered to the same slot, and nothing else."""
    txn: bool = True
    """A commit found in one's slot is known by its txn."""
    keep_upload: bool = True
    """While the outcome is unknown, no upload is deleted."""
    landed: bool = True
    """A commit whose link succeeded has happened, whatever the sync of its folder says."""


class Slot(NamedTuple):
    txn: str
    """Empty: the header is gone."""
    inline: bool = False


class World(NamedTuple):
    slots: tuple[Slot | None, ...] = ()
    """None: deleted behind a checkpoint."""
    history: tuple[str, ...] = ()
    """What really happened to each slot first; nobody reads it."""
    landings: int = 0
    """How often an attempt of A was stored."""
    flying: frozenset[tuple[int, str]] = frozenset()
    """Puts of A on their way."""
    writer: str = "start"
    slot: int = 0
    attempt: int = 1
    puts: int = 0
    uploaded: bool = True
    other: str = "start"
    other_slot: int = 0
    others_left: int = 2
    merged: bool = False
    """The collector's commit that moves `a` is in the log."""


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    yield from _writer_steps(world, rules)
    yield from _medium_steps(world, rules)
    yield from _other_steps(world)
    yield from _collector_steps(world, rules)


def _txn(world: World) -> str:
    return f"A{world.attempt}"


def _writer_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    tip = len(world.slots)
    if world.writer == "start":
        yield f"A reads the log, {tip} long", world._replace(writer="put", slot=tip, puts=0)
    elif world.writer == "put" and world.puts < PUTS_MAX:
        flying = world.flying | {(world.slot, _txn(world))}
        yield f"A puts slot {world.slot}", world._replace(writer="sent", flying=flying, puts=world.puts + 1)
    elif world.writer == "sent":
        yield "A hears nothing", world._replace(writer="unknown")
        if not rules.keep_upload:
            yield "A hears nothing, deletes its pack", world._replace(writer="failed", uploaded=False)
    elif world.writer in ("unknown", "refused"):
        yield from _look(world, rules)


def _look(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    found = world.slots[world.slot] if world.slot < len(world.slots) else None
    if found is None:
        if world.writer == "unknown" and rules.same_slot:
            yield f"A finds slot {world.slot} free", world._replace(writer="put")
        elif world.writer == "unknown" and world.attempt < ATTEMPTS_MAX:
            yield "A gives up and begins anew", world._replace(writer="start", attempt=world.attempt + 1)
    elif rules.txn and found.txn == _txn(world):
        yield f"A finds its commit in {world.slot}", world._replace(writer="done")
    elif world.attempt <= ATTEMPTS_MAX:
        yield f"A finds slot {world.slot} taken", world._replace(writer="start")


def _medium_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    for slot, txn in sorted(world.flying):
        rest = world._replace(flying=world.flying - {(slot, txn)})
        waits = world.writer == "sent" and (slot, txn) == (world.slot, _txn(world))
        if not _is_free(world, slot):
            answered = rest._replace(writer="refused") if waits else rest
            yield f"slot {slot} refuses {txn}", answered
            continue
        if slot < len(world.slots):
            # It was deleted: creating it again succeeds, and nobody looks there any more.
            stored = rest._replace(slots=replaced(world.slots, slot, Slot(txn)))
        else:
            stored = rest._replace(
                slots=(*world.slots, Slot(txn, inline=True)), history=(*world.history, txn)
            )
        stored = stored._replace(landings=world.landings + 1)
        yield f"{txn} lands in slot {slot}", stored._replace(writer="done") if waits else stored
        if waits and rules.landed:
            yield f"{txn} lands in slot {slot}, its folder cannot be synced", stored._replace(writer="done")
        elif waits and world.attempt < ATTEMPTS_MAX:
            again = stored._replace(writer="start", attempt=world.attempt + 1)
            yield f"{txn} lands in slot {slot}, its folder cannot be synced: A tries the next", again


def _is_free(world: World, slot: int) -> bool:
    return slot == len(world.slots) or (slot < len(world.slots) and world.slots[slot] is None)


def _other_steps(world: World) -> Iterator[tuple[str, World]]:
    if world.others_left and (tip := len(world.slots)) < 4:
        taken = world._replace(
            slots=(*world.slots, Slot("B")),
            history=(*world.history, "B"),
            others_left=world.others_left - 1,
        )
        yield f"B commits {tip}", taken


def _collector_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    inline = next((n for n, slot in enumerate(world.slots) if slot is not None and slot.inline), None)
    if inline is not None and not world.merged and world.landings == 1:
        merged = world._replace(slots=(*world.slots, Slot("gc")), history=(*world.history, "gc"), merged=True)
        yield "gc commits a pack that holds a", merged
    if inline is not None and (world.merged or not rules.trim_after_drop):
        txn = world.history[inline] if rules.trim_keeps_header else ""
        yield f"gc trims slot {inline}", world._replace(slots=replaced(world.slots, inline, Slot(txn)))
    first = world.slots[0] if len(world.slots) > 1 else None
    if not rules.slots_stay and first is not None and not first.inline:
        yield "gc deletes slot 0 behind a checkpoint", world._replace(slots=(None, *world.slots[1:]))


def loss(world: World) -> str:
    mine = [txn for txn in world.history if txn.startswith("A")]
    if len(mine) > 1:
        return "A's commit is in the log twice"
    if world.writer == "done" and not mine:
        return "A was told of a commit that is not in the log"
    if mine and not world.uploaded:
        return "A's commit names a pack that A deleted"
    there = any(slot is not None and slot.inline for slot in world.slots)
    if mine and not there and not world.merged:
        return "the inline pack of A's commit is gone"
    return ""


ACTORS = {"lost answers": World()}
ACTORS_LONG = {"more appends": World(others_left=3)}

LEFT_OUT = (
    LeftOut("1a", ("slots_stay",), "lost answers", "A was told of a commit that is not in the log"),
    LeftOut("1b", ("trim_keeps_header",), "lost answers", "A's commit is in the log twice"),
    LeftOut("1c", ("trim_after_drop",), "lost answers", "the inline pack of A's commit is gone"),
    LeftOut("6b", ("txn",), "lost answers", "A's commit is in the log twice"),
    LeftOut("6c", ("same_slot",), "lost answers", "A's commit is in the log twice"),
    LeftOut("6d", ("keep_upload",), "lost answers", "A's commit names a pack that A deleted"),
    LeftOut("6e", ("landed",), "lost answers", "A's commit is in the log twice"),
)
