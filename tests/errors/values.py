"""Values that cannot be saved, and what cannot be loaded as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.errors.store_to_harm import Place


@dataclass
class Answer:
    """A class that no stored value of these tests fits."""

    text: str


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def pickled(place: Place) -> object:
    place.save({1, 2}, serializer="pickle")
    return place.open().load("value")


def interrupted(error: BaseException) -> Callable[[Place], object]:
    def provoke(place: Place) -> object:
        def pairs() -> Iterator[tuple[str, int]]:
            yield "kept", 1
            raise error

        try:
            return place.collection.add_many(pairs())
        finally:
            assert place.collection["kept"] == 1
            del place.collection["kept"]

    return provoke


def large_number(place: Place) -> object:
    place.save(2**70)
    assert place.open().load("value") == 2**70


VALUES: Final[dict[str, Callable[[Place], object]]] = {
    'text that holds a key, with `secrets="refuse"`': lambda p: p.save(
        "ghp_" + "R7x2Kq9Zt4" * 4, secrets="refuse"
    ),
    "nan": lambda p: p.save({"a": [1.0, float("nan")]}),
    "infinity": lambda p: p.save(float("inf")),
    "a set": lambda p: p.save({"a": {1}}),
    "a list that contains itself": lambda p: p.save(endless()),
    "a dict with a number as key": lambda p: p.save({1: 2}),
    "an object of an unknown class": lambda p: p.save(object()),
    "an unknown object inside a list": lambda p: p.save([object()]),
    "text with a lone surrogate": lambda p: p.save("\ud800"),
    "a value nested 300 deep": lambda p: p.save(nested(300)),
    "a whole number above 64 bits": large_number,
    "a file that does not exist": lambda p: p.save(p.folder / "none"),
    "a set in metadata": lambda p: p.save(1, metadata={"a": {1}}),
    "metadata of 2 MB": lambda p: p.save(1, metadata={"a": "x" * 2_000_000}),
    "an unknown serializer": lambda p: p.save(1, serializer="nosuch"),
    "loading a pickle that was not allowed": pickled,
    "loading as a type that JSON cannot build": lambda p: p.open().load("a", type=complex),
    "loading as a class that does not fit": lambda p: p.open().load("a", type=Answer),
    "an unknown object in a collection": lambda p: p.collection.update({"o": object()}),
    "a generator that raises half way in `add_many`": interrupted(RuntimeError("half way")),
    "Ctrl-C half way in `add_many`": interrupted(KeyboardInterrupt()),
}
