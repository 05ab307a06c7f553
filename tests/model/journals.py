"""Model of a journal's life: birth, appends, adoption by two others, unlink, and a crash at every step.

The owner O appends k and acknowledges it. X and Y adopt what nobody holds: open, lock, look at the name again, read
the log, commit, unlink, let go. A collector evicts k from the log without leaving a trace, as caches and purges
do; later the floor passes, and ids of sealed journals are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.search import LeftOut, replaced


class Rules(NamedTuple):
    born_locked: bool = True
    """A journal gets its name when it is locked, and not before."""
    inode: bool = True
    """Who takes a lock looks whether the name still means the locked file."""
    commit_first: bool = True
    """A journal is unlinked only after the commit that adopts it."""
    sealed: bool = True
    """A commit lists the journals that it adopts; one that is listed already is only unlinked."""
    flock: bool = True
    """The lock belongs to the open file, not to the process."""
    close_only: bool = True
    """A forked child closes its copies of locks and never unlocks them."""


class Adopter(NamedTuple):
    name: str
    neighbour: bool = False
    """It runs in the owner's own process: a second `open` of the store."""
    may_crash: bool = True
    at: str = "start"
    items: int = 0


class World(NamedTuple):
    adopters: tuple[Adopter, ...]
    floor_may_pass: bool = False
    """Whether the floor passes while the journal is there."""
    forks: bool = False
    items_max: int = 2
    owner: str = "start"
    acknowledged: int = 0
    named: bool = False
    items: int = 0
    """What is in the file, named or not."""
    holder: str = ""
    published: int = 0
    """How many of the items are in the log."""
    evicted: int = 0
    sealed: bool = False
    floor: bool = False
    adoptions: int = 0


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    yield from _owner_steps(world, rules)
    for position, adopter in enumerate(world.adopters):
        for label, after, following in _adopter_steps(world, adopter, rules):
            yield label, following._replace(adopters=replaced(following.adopters, position, after))
    if world.published > world.evicted and world.acknowledged == world.published:
        yield "gc evicts what is in the log", world._replace(evicted=world.published, published=0)
    if world.floor_may_pass and world.sealed and not world.floor and not world.named:
        yield "the floor passes, sealed ids are forgotten", world._replace(floor=True, sealed=False)


def _owner_steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if world.owner == "start" and rules.born_locked:
        born = world._replace(owner="open", named=True, holder="O")
        yield "O links a journal that it holds locked", born
    elif world.owner == "start":
        yield "O creates a journal", world._replace(owner="created", named=True)
    elif world.owner == "created" and not world.holder:
        yield "O locks it", world._replace(owner="open", holder="O")
    elif world.owner == "open":
        if world.acknowledged < world.items_max:
            count = world.acknowledged + 1
            yield f"O appends item {count}", world._replace(acknowledged=count, items=world.items + 1)
        holder = "" if world.holder == "O" else world.holder
        yield "O dies", world._replace(owner="gone", holder=holder)
        if world.forks and not rules.close_only and world.holder == "O":
            yield "a child of O unlocks its copy", world._replace(holder="")


def _adopter_steps(world: World, adopter: Adopter, rules: Rules) -> Iterator[tuple[str, Adopter, World]]:
    who, at = adopter.name, adopter.at
    if at == "start" and world.named:
        yield f"{who} opens the journal", adopter._replace(at="opened"), world
    elif at == "opened":
        # A lock of the process is no hindrance to the same process.
        free = not world.holder or (adopter.neighbour and world.holder == "O" and not rules.flock)
        if free:
            yield f"{who} locks it", adopter._replace(at="locked"), world._replace(holder=who)
    elif at == "locked":
        if rules.inode and not world.named:
            yield f"{who} sees that its name is gone", adopter._replace(at="done"), _let_go(world, who)
        elif rules.sealed and world.sealed:
            yield f"{who} finds it sealed", adopter._replace(at="committed"), world
        elif rules.commit_first:
            yield f"{who} reads {world.items} items", adopter._replace(at="read", items=world.items), world
        else:
            unlinked = world._replace(named=False)
            yield f"{who} unlinks it first", adopter._replace(at="read", items=world.items), unlinked
    elif at == "read":
        following = world._replace(
            published=max(world.published, adopter.items), sealed=True, adoptions=world.adoptions + 1
        )
        if adopter.items == 0:
            following = world
        yield f"{who} commits {adopter.items} items", adopter._replace(at="committed"), following
    elif at == "committed":
        yield f"{who} unlinks it", adopter._replace(at="unlinked"), world._replace(named=False)
    elif at == "unlinked":
        yield f"{who} lets go", adopter._replace(at="done"), _let_go(world, who)
    if adopter.may_crash and at not in ("start", "done"):
        yield f"{who} dies", adopter._replace(at="done"), _let_go(world, who)


def _let_go(world: World, who: str) -> World:
    return world._replace(holder="" if world.holder == who else world.holder)


def loss(world: World) -> str:
    if world.adoptions > 1 and world.evicted and world.published:
        return "what was evicted is back"
    readable = max(world.published, world.evicted, world.items if world.named else 0)
    if world.acknowledged > readable:
        return "an acknowledged item is gone"
    return ""


_TWO = (Adopter("X"), Adopter("Y"))

ACTORS = {
    "two adopters": World(_TWO),
    # The owner's process opens the store twice.
    "second open": World((Adopter("X", neighbour=True, may_crash=False),)),
    "forked child": World((Adopter("X", may_crash=False),), forks=True),
    # X stalls between opening and locking, until Y has sealed and the floor has passed.
    "stalled adopter": World(tuple(a._replace(may_crash=False) for a in _TWO), floor_may_pass=True),
}
ACTORS_LONG = {
    "three adopters": World((*_TWO, Adopter("Z", neighbour=True)), forks=True, items_max=3),
}

LEFT_OUT = (
    LeftOut("15a", ("born_locked",), "two adopters", "an acknowledged item is gone"),
    LeftOut("15b", ("inode",), "stalled adopter", "what was evicted is back"),
    LeftOut("15c", ("commit_first",), "two adopters", "an acknowledged item is gone"),
    LeftOut("15d", ("flock",), "second open", "an acknowledged item is gone"),
    LeftOut("15e", ("close_only",), "forked child", "an acknowledged item is gone"),
    LeftOut("10c", ("sealed",), "two adopters", "what was evicted is back"),
)
