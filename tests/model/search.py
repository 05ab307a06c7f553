"""Explicit-state search: every world that actors can reach, nearest first, until one has lost something.

A model is a module: `Rules` (one switch a rule, all on by default), `ACTORS` (first worlds by name; those in
`ACTORS_LONG` take minutes), `steps`, `loss`, and `LEFT_OUT`, which says what each rule is needed for. Worlds are
immutable and hashable. A search that ends without a loss has seen every interleaving of its actors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import chain, combinations
from typing import Any, NamedTuple, Protocol, TypeVar

W = TypeVar("W", bound=Hashable)
T = TypeVar("T")


class LeftOut(NamedTuple):
    """A rule, and what is lost in a model without it."""

    rule: str
    """Number of the rule in docs/model.md."""
    switches: tuple[str, ...]
    """Fields of the model's `Rules` that are off; more than one where each makes up for the other."""
    actors: str
    """Key of the model's `ACTORS` in which it matters."""
    loss: str
    """What the search must find, as a part of what the model's `loss` says."""


class Model(Protocol):
    """What a module of a model offers."""

    __name__: str
    Rules: Any
    ACTORS: Mapping[str, Any]
    LEFT_OUT: tuple[LeftOut, ...]

    @staticmethod
    def steps(world: Any, rules: Any) -> Iterator[tuple[str, Any]]: ...

    @staticmethod
    def loss(world: Any) -> str: ...


class Verdict(NamedTuple):
    """How a search ended."""

    worlds: int
    """Worlds that were reached."""
    loss: str
    """Empty: nothing can be lost."""
    steps: list[str]
    """The shortest way to the loss."""


def search(first: W, steps: Callable[[W], Iterator[tuple[str, W]]], loss: Callable[[W], str]) -> Verdict:
    """Visit every world that can be reached from `first`, nearest first, until one has lost something."""
    waiting = deque([first])
    came_from: dict[W, tuple[W, str] | None] = {first: None}
    while waiting:
        world = waiting.popleft()
        wrong = loss(world)
        if wrong:
            return Verdict(len(came_from), wrong, _way(came_from, world))
        for label, following in steps(world):
            if following not in came_from:
                came_from[following] = (world, label)
                waiting.append(following)
    return Verdict(len(came_from), "", [])


def _way(came_from: dict[W, tuple[W, str] | None], world: W) -> list[str]:
    labels: list[str] = []
    origin = came_from[world]
    while origin is not None:
        labels.append(origin[1])
        origin = came_from[origin[0]]
    return labels[::-1]


def run(model: Model, actors: str, *, without: tuple[str, ...] = ()) -> Verdict:
    """Search a model's world `actors` with all rules but those in `without`."""
    rules = model.Rules(**dict.fromkeys(without, False))
    return search(model.ACTORS[actors], lambda world: model.steps(world, rules), model.loss)


def subsets(items: frozenset[T]) -> Iterator[frozenset[T]]:
    """Yield every subset: what power loss may leave of names that were not synced."""
    listed = sorted(items, key=repr)
    counts = range(len(listed) + 1)
    yield from map(frozenset, chain.from_iterable(combinations(listed, count) for count in counts))


def replaced(items: tuple[T, ...], position: int, item: T) -> tuple[T, ...]:
    """Return `items` with another one at `position`."""
    return (*items[:position], item, *items[position + 1 :])
