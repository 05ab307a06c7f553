"""Other stores that one cannot sync with, or not so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.errors.store_to_harm import Place, flip

import keepstone


def other_store(place: Place, name: str = "other") -> keepstone.Store:
    store = keepstone.open(place.folder / name)
    place._opened.append(store)
    return store


def other_kind(place: Place) -> object:
    other = other_store(place)
    other.collection("a")["k"] = 1
    other.flush()
    return place.open("r").push(other)


def from_the_future(place: Place) -> object:
    other = other_store(place)
    clock = other.repository.session.clock
    now = clock.now_ns
    clock.now_ns = lambda: now() + 7_200 * 10**9
    other.collection("c")["later"] = 1
    clock.now_ns = now
    return other.push(other_store(place, "third"))


def put_back(place: Place) -> object:
    third = other_store(place, "third")
    with keepstone.open(place.folder / "other") as other:
        third.save("m", 1)
        third.push(other)
    shutil.copytree(place.folder / "other", place.folder / "copy")
    third.save("m", 2)
    third.push(place.folder / "other")
    shutil.rmtree(place.folder / "other")
    (place.folder / "copy").rename(place.folder / "other")
    return third.push(place.folder / "other")


def replaced(place: Place) -> object:
    third = other_store(place, "third")
    third.save("m", 1)
    third.push(place.folder / "other", create=True)
    shutil.rmtree(place.folder / "other")
    other_store(place).save("m", 2)
    return third.push(place.folder / "other")


def damaged(place: Place) -> object:
    with keepstone.open(place.folder / "other") as other:
        other.collection("big")["q"] = bytes(range(256)) * 2_000
        other.flush()
    (pack,) = (Path(place.folder) / "other" / "packs").rglob("0*-*")
    flip(pack, 40)
    return other_store(place, "third").pull(place.folder / "other")


OTHERS: Final[dict[str, Callable[[Place], object]]] = {
    "pushing to the store itself": lambda p: p.open().push(p.path),
    "pushing to a number": lambda p: p.open().push(3),  # type: ignore[arg-type]
    "pushing to a folder without a store": lambda p: p.open().push(p.folder / "none"),
    '`select="a"`': lambda p: p.open().push(other_store(p), select="a"),
    "selecting nothing": lambda p: p.open().push(other_store(p), select=[]),
    "selecting a name that does not exist": lambda p: p.open().push(other_store(p), select=["nosuch"]),
    "selecting a prefix of nothing": lambda p: p.open().push(other_store(p), select=["nosuch/"]),
    "a name that is a collection there": other_kind,
    "an item from the future": from_the_future,
    "a store that was put back": put_back,
    "another store in its place": replaced,
    "a damaged value": damaged,
    "cloning into a store": lambda p: keepstone.clone(p.path, p.path),
    "cloning what is no store": lambda p: keepstone.clone(p.folder / "none", p.folder / "new"),
}
