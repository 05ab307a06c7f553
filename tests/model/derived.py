"""Model of what is derived from the log and can be ahead of it: checkpoints and the catalog.

A appends; B, who sees A's commit before it is durable, writes a checkpoint and folds the catalog, both durable at
once; N is an entry in a journal that is not synced. Power fails, and takes what was not durable. D may then append
another commit. C opens by checkpoint or catalog and appends; a reader who has neither reads the log alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut


class Rules(NamedTuple):
    slot_exists: bool = True
    """A checkpoint counts only if its commit is in the log."""
    slot_hash: bool = True
    """A checkpoint counts only if the commit in its slot has the hash that it names."""
    catalog_hash: bool = True
    """A catalog whose tip does not have the hash that it names is made anew."""
    one_transaction: bool = True
    """Rows and tip of the catalog change in one transaction."""
    log_only: bool = True
    """The catalog holds what is in the log, and nothing of journals."""


class Derived(NamedTuple):
    """A checkpoint or the catalog: which commits it holds, and which it says that it reaches."""

    holds: tuple[str, ...] = ()
    tip: tuple[str, ...] = ()
    """Of a tip only number and hash are stored: the length, and a value that stands for the whole prefix."""


class World(NamedTuple):
    log: tuple[str, ...] = ("init",)
    durable: int = 1
    """Commits that survive power loss."""
    appends_left: int = 2
    journal: bool = False
    checkpoint: Derived | None = None
    catalog: Derived = Derived()
    half_folded: tuple[str, ...] | None = None
    """The fold that stopped between its two transactions."""
    powered: bool = True
    after: str = "running"
    by: str = ""
    seen: tuple[str, ...] = ()
    """What C takes the log to be."""
    told: str = ""


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.powered:
        yield from _before(world, rules)
        left = world._replace(log=world.log[: world.durable], journal=False, half_folded=None, powered=False)
        yield f"power fails, the log is {world.durable} long", left
    elif world.after == "running":
        if world.appends_left and len(world.log) < 3:
            other = world._replace(log=(*world.log, "D"), appends_left=0)
            yield "D appends another commit", other
        yield from _opening(world, rules)
    elif world.after == "open" and not world.told:
        # C claims the slot behind what it takes for the tip; a gap before it is what nobody reads across.
        log = (*world.log, "C") if len(world.seen) == len(world.log) else world.log
        yield f"C commits {len(world.seen)}", world._replace(log=log, told="C")


def _before(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.appends_left and world.durable == len(world.log):
        more = world._replace(log=(*world.log, f"A{len(world.log)}"), appends_left=world.appends_left - 1)
        yield f"A links slot {len(world.log)}", more
    if world.durable < len(world.log):
        yield "A syncs the folder", world._replace(durable=len(world.log))
    if not world.journal:
        yield "N is appended to a journal", world._replace(journal=True)
    if world.checkpoint is None and len(world.log) > 1:
        yield "B writes a checkpoint", world._replace(checkpoint=Derived(world.log, world.log))
    rows = world.log if rules.log_only or not world.journal else (*world.log, "N")
    if world.half_folded is not None:
        done = world._replace(catalog=Derived(world.half_folded, world.half_folded), half_folded=None)
        yield "B ends the fold", done
    elif world.catalog.tip != world.log and rules.one_transaction:
        yield "B folds the catalog", world._replace(catalog=Derived(rows, world.log))
    elif world.catalog.tip != world.log:
        tip_first = Derived(world.catalog.holds, world.log)
        yield "B folds, the tip first", world._replace(catalog=tip_first, half_folded=world.log)
        rows_first = Derived(world.log, world.catalog.tip)
        yield "B folds, the rows first", world._replace(catalog=rows_first, half_folded=world.log)


def _opening(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    yield "C opens by the log", world._replace(after="open", by="log", seen=world.log)
    found = world.checkpoint
    if found is not None:
        counts = not rules.slot_exists or len(found.tip) <= len(world.log)
        if rules.slot_hash and len(found.tip) <= len(world.log):
            counts = counts and world.log[: len(found.tip)] == found.tip
        if counts:
            seen = found.holds + world.log[len(found.tip) :]
            yield "C opens by the checkpoint", world._replace(after="open", by="checkpoint", seen=seen)
    rows = world.catalog
    if rows.tip:
        counts = len(rows.tip) <= len(world.log)
        if rules.catalog_hash:
            counts = counts and world.log[: len(rows.tip)] == rows.tip
        if counts:
            seen = tuple(dict.fromkeys(rows.holds + world.log[len(rows.tip) :]))
            yield "C opens by the catalog", world._replace(after="open", by="catalog", seen=seen)


def loss(world: World) -> str:
    if world.told and world.told not in world.log:
        return "an acknowledged commit stands where nobody looks"
    if world.after != "open" or world.told:
        return ""
    for what in world.seen:
        if what not in world.log and len(world.seen) <= len(world.log):
            return f"the {world.by} shows {what}, which never was"
        if what not in world.log and world.by == "catalog":
            return f"the catalog shows {what}, which is gone"
    for what in world.log:
        if what not in world.seen and world.by == "catalog":
            return f"the catalog hides {what}"
    return ""


ACTORS = {"power loss": World()}
ACTORS_LONG = {"more appends": World(appends_left=4)}

LEFT_OUT = (
    LeftOut("13a", ("slot_exists",), "power loss", "an acknowledged commit stands where nobody looks"),
    LeftOut("13b", ("slot_hash",), "power loss", "the checkpoint shows A1, which never was"),
    LeftOut("14a", ("catalog_hash",), "power loss", "the catalog shows A1, which never was"),
    LeftOut("14b", ("one_transaction",), "power loss", "the catalog hides init"),
    LeftOut("14c", ("log_only",), "power loss", "the catalog shows N, which is gone"),
)
