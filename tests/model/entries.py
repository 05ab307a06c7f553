"""Model of one key: stamps, tombstones, horizons, packing anew, and old copies that come back.

A and B set and remove the key, each seeing all that is there; B's clock is late. A copy of what the journal held
first (a second adoption, an orphan, a peer that was away) may come back at any time. The collector packs anew. Two
others clear the collection: they read, and commit a horizon later. Among blind writers nobody sees anybody; the far
one has a clock that is ten hours ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut, replaced

TICKS_AN_HOUR = 10
FAR = 100


class Rules(NamedTuple):
    highest: bool = True
    """Of all entries of a key the one with the highest stamp counts, wherever and whenever it was found."""
    tie: bool = True
    """Equal stamps are ordered by writer."""
    grows: bool = True
    """A writer's stamp is max(clock, last + 1)."""
    above_seen: bool = True
    """A writer stamps above all entries that it has seen."""
    above_horizon: bool = True
    """A writer stamps above the horizon, where the entries that it saw are gone."""
    above_replaced: bool = True
    """An entry is stamped above the one that it replaces, however far ahead that lies."""
    near_only: bool = True
    """Stamps more than an hour ahead are not followed."""
    tombstones: bool = True
    """A tombstone is kept until it lies below the horizon."""
    horizon: bool = True
    """What is forgotten lies below a horizon: entries below it are dead wherever they come from."""
    horizon_grows: bool = True
    """A horizon never goes back."""


class Entry(NamedTuple):
    stamp: int
    writer: str
    value: str | None
    """None: a tombstone."""


class Writer(NamedTuple):
    name: str
    late: int = 0
    """Ticks that its clock is behind."""
    last: int = 0
    acts_left: int = 1


class World(NamedTuple):
    writers: tuple[Writer, ...]
    blind: bool = False
    clears_left: int = 0
    returns_left: int = 2
    now: int = 3
    order: tuple[Entry, ...] = ()
    """Entries in packs, in the order in which a reader meets them."""
    copy: Entry | None = None
    """What can come back: the first entry."""
    horizon: int = 0
    plans: tuple[int, ...] = ()
    expected: Entry | None = None
    """The newest act, as everybody saw it."""
    shown: str | None = None
    elsewhere: str | None = None
    """What a reader shows who met the same entries in the opposite order."""
    dragged: bool = False


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    for label, following in _all_steps(world, rules):
        live = tuple(entry for entry in following.order if entry.stamp >= following.horizon)
        shown, elsewhere = _view(live, rules), _view(live[::-1], rules)
        yield label, following._replace(shown=shown, elsewhere=elsewhere)


def _view(live: tuple[Entry, ...], rules: Rules) -> str | None:
    if not live:
        return None
    if not rules.highest:
        return live[-1].value
    if rules.tie:
        return max(live, key=lambda entry: (entry.stamp, entry.writer)).value
    highest = max(entry.stamp for entry in live)
    return [entry for entry in live if entry.stamp == highest][-1].value


def _all_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    for position, writer in enumerate(world.writers):
        if writer.acts_left:
            yield from _acts(world, position, writer, rules)
    if world.copy is not None and world.returns_left:
        order = (*(entry for entry in world.order if entry != world.copy), world.copy)
        yield (
            f"a copy of {world.copy.value} comes back",
            world._replace(order=order, returns_left=world.returns_left - 1),
        )
    yield from _packing(world, rules)
    yield from _clearing(world, rules)


def _acts(world: World, position: int, writer: Writer, rules: Rules) -> Iterator[tuple[str, World]]:
    clock = world.now - writer.late
    last = writer.last
    if not world.blind:
        seen = [entry.stamp for entry in world.order] if rules.above_seen else []
        followed = [stamp for stamp in seen if stamp <= clock + TICKS_AN_HOUR or not rules.near_only]
        last = max([last, *followed])
    general = stamp = max(clock, last + 1) if rules.grows else clock
    if not world.blind:
        hidden_below = max((entry.stamp + 1 for entry in world.order), default=0)
        stamp = max(stamp, hidden_below) if rules.above_replaced else stamp
        stamp = max(stamp, world.horizon) if rules.above_horizon else stamp
    used = writer._replace(last=general, acts_left=writer.acts_left - 1)
    for value in (f"{writer.name}{writer.acts_left}", None):
        entry = Entry(stamp, writer.name, value)
        acted = world._replace(
            writers=replaced(world.writers, position, used),
            order=(*world.order, entry),
            copy=world.copy or entry,
            expected=entry,
            dragged=world.dragged or (writer.late >= 0 and general > world.now + 2 * TICKS_AN_HOUR),
        )
        yield f"{writer.name} {'removes the key' if value is None else 'sets ' + value} at {stamp}", acted


def _packing(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    live = [entry for entry in world.order if entry.stamp >= world.horizon]
    newest = max(live, key=lambda entry: (entry.stamp, entry.writer), default=None)
    kept = () if newest is None else (newest,)
    if newest is not None and newest.value is None and not rules.tombstones:
        kept = ()
    if kept != world.order and not world.blind:
        yield "gc packs anew", world._replace(order=kept)


def _clearing(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.clears_left:
        above = max([world.horizon, *(entry.stamp + 1 for entry in world.order)])
        planned = world._replace(plans=(*world.plans, above), clears_left=world.clears_left - 1)
        yield f"a clear is begun below {above}", planned
    for position, plan in enumerate(world.plans):
        rest = world._replace(plans=(*world.plans[:position], *world.plans[position + 1 :]))
        if world.expected is not None and world.expected.stamp < plan:
            rest = rest._replace(expected=None)
        if not rules.horizon:
            order = tuple(entry for entry in world.order if entry.stamp >= plan)
            yield f"what lies below {plan} is dropped", rest._replace(order=order)
        elif plan >= world.horizon or not rules.horizon_grows:
            yield f"the horizon becomes {plan}", rest._replace(horizon=plan)
        else:
            yield f"the horizon stays above {plan}", rest


def loss(world: World) -> str:
    if world.dragged:
        return "a wrong clock drags the stamps of others with it"
    if world.shown != world.elsewhere:
        return "the same entries read differently in another order"
    if world.blind:
        return ""
    expected = world.expected.value if world.expected else None
    if world.shown != expected:
        return "what was set is not shown" if expected else "what was removed is back"
    return ""


_PAIR = (Writer("A", acts_left=2), Writer("B", late=1, acts_left=1))

ACTORS = {
    "one key": World(_PAIR),
    "cleared": World((Writer("A", acts_left=2), Writer("B", late=2)), clears_left=2),
    "blind": World((Writer("A", acts_left=2), Writer("B")), blind=True),
    # X is far ahead of all, B far behind; nobody else's stamps are dragged along, and nothing is hidden.
    "far": World((Writer("X", late=-FAR), Writer("A"), Writer("B", late=3 * TICKS_AN_HOUR))),
}
ACTORS_LONG = {
    "more acts": World(
        (Writer("A", acts_left=2), Writer("B", late=2, acts_left=2)), clears_left=1, returns_left=2
    ),
}

LEFT_OUT = (
    LeftOut("9a", ("highest",), "one key", "the same entries read differently in another order"),
    LeftOut("9b", ("tie",), "blind", "the same entries read differently in another order"),
    LeftOut("9c", ("grows",), "blind", "the same entries read differently in another order"),
    LeftOut("9d", ("above_seen", "above_replaced"), "one key", "what was set is not shown"),
    LeftOut("9e", ("near_only",), "far", "a wrong clock drags the stamps of others with it"),
    LeftOut("9f", ("above_replaced",), "far", "what was set is not shown"),
    LeftOut("10a", ("tombstones",), "one key", "what was removed is back"),
    LeftOut("10b", ("horizon",), "cleared", "what was removed is back"),
    LeftOut("10d", ("horizon_grows",), "cleared", "what was removed is back"),
    LeftOut("10e", ("above_horizon",), "cleared", "what was set is not shown"),
)
