"""Model of a sync that takes a part: what was not selected, what is there already, what was removed, and aliases.

The source has pack S: `w` (selected, blob a) and `u` (not selected, blob s), and pack R: `w2` (selected, blob b).
The target has pack T with blob b, which its collector drops once no entry leads to it. D removes w at the source;
M moves an alias at the target while the source moves it too. The sync reads, uploads and commits, twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut

SELECTED = frozenset({"w", "w2"})
BLOBS = {"w": "a", "u": "s", "w2": "b"}


class Rules(NamedTuple):
    all_wanted: bool = True
    """A pack is copied whole only if everything in it is wanted; else its frames are."""
    closure: bool = True
    """With an entry goes its blob, unless the target has it."""
    needs: bool = True
    """What the target had already is stated, and judged at the slot that the sync wins."""
    tombstones: bool = True
    """Tombstones are entries: they are copied too."""
    alias_base: bool = True
    """An alias moves only from the value that was synced last."""


class World(NamedTuple):
    removed: bool = False
    source_alias: str = "v1"
    target_alias: str = "v1"
    base: str = "v1"
    """What the alias was at the last sync."""
    moved: bool = False
    """M's move was acknowledged."""
    told: bool = False
    """The sync reported a conflict."""
    entries: frozenset[str] = frozenset()
    """Of the target."""
    blobs: frozenset[str] = frozenset("b")
    """In live packs of the target; b lies in T."""
    old_pack: bool = True
    """T is live."""
    length: int = 1
    sync: str = "idle"
    rounds: int = 0
    slot: int = 0
    carries: frozenset[str] = frozenset()
    brings: frozenset[str] = frozenset()
    forgets: bool = False
    relies: bool = False
    alias: str = "v1"
    known: bool = False
    """A whole sync has ended after D removed w."""


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if not world.removed:
        yield "D removes w at the source", world._replace(removed=True)
    if world.source_alias == "v1":
        yield "the source moves the alias to v2", world._replace(source_alias="v2")
    if not world.moved:
        moved = world._replace(moved=True, target_alias="v3", length=world.length + 1)
        yield "M moves the target's alias to v3", moved
    if world.old_pack and "w2" not in world.entries:
        dropped = world._replace(old_pack=False, blobs=world.blobs - {"b"}, length=world.length + 1)
        yield "the target's gc drops T", dropped
    yield from _sync_steps(world, rules)


def _sync_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.sync == "idle" and world.rounds < 2:
        yield "sync reads both and uploads", _planned(world, rules)
    elif world.sync == "judge":
        stale = rules.needs and world.relies and not world.old_pack
        following = world._replace(sync="idle") if stale else world._replace(sync="claim", slot=world.length)
        yield f"sync judges its commit: {not stale}", following
    elif world.sync == "claim" and world.slot != world.length:
        yield "sync finds its slot taken", world._replace(sync="judge")
    elif world.sync == "claim":
        yield "sync commits", _committed(world, rules)


def _planned(world: World, rules: Rules) -> World:
    present = frozenset({"w", "u", "w2"}) - ({"w"} if world.removed else frozenset())
    wanted = (present & SELECTED) - world.entries
    whole = not rules.all_wanted and "w" in wanted
    carries = wanted | ({"u"} if whole else frozenset())
    needed = frozenset(BLOBS[entry] for entry in carries)
    brings = needed - world.blobs if rules.closure else frozenset[str]()
    return world._replace(
        sync="judge",
        carries=carries,
        brings=brings,
        relies="b" in needed and "b" not in brings,
        forgets=world.removed and rules.tombstones,
        alias=world.source_alias,
        known=world.removed,
    )


def _committed(world: World, rules: Rules) -> World:
    entries = world.entries | world.carries
    done = world._replace(
        sync="idle",
        rounds=world.rounds + 1,
        length=world.length + 1,
        entries=entries - {"w"} if world.forgets else entries,
        blobs=world.blobs | world.brings,
        carries=frozenset(),
        brings=frozenset(),
    )
    if world.alias == world.base:
        return done
    if rules.alias_base and world.target_alias not in (world.base, world.alias):
        return done._replace(told=True)
    return done._replace(target_alias=world.alias, base=world.alias)


def loss(world: World) -> str:
    if "u" in world.entries or "s" in world.blobs:
        return "what was not selected is public"
    for entry in sorted(world.entries):
        if BLOBS[entry] not in world.blobs:
            return f"entry {entry} of the target leads to nothing"
    if world.sync == "idle" and world.rounds and world.known and "w" in world.entries:
        return "what was removed is still at the target"
    if world.moved and world.target_alias != "v3" and not world.told:
        return "an alias moved at the target is overwritten without a word"
    return ""


ACTORS = {"selective sync": World()}

LEFT_OUT = (
    LeftOut("17a", ("all_wanted",), "selective sync", "what was not selected is public"),
    LeftOut("17b", ("closure",), "selective sync", "entry w of the target leads to nothing"),
    LeftOut("17c", ("needs",), "selective sync", "entry w2 of the target leads to nothing"),
    LeftOut("17d", ("tombstones",), "selective sync", "what was removed is still at the target"),
    LeftOut(
        "17e",
        ("alias_base",),
        "selective sync",
        "an alias moved at the target is overwritten without a word",
    ),
)
