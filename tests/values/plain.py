"""Rows of docs/values.md: bytes, text, JSON, classes with fields, notations, states, pickles, files and folders."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import strategies as st
from tests.values.row import Kind, Row

from keepstone.api import Store

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=5,
).filter(lambda value: type(value) is not str)


@dataclasses.dataclass
class Data:
    score: float
    tags: list[str]


class Struct(msgspec.Struct):
    score: float
    tags: list[str]


@attrs.define
class Attrs:
    score: float
    tags: list[str]


class Model(pydantic.BaseModel):
    score: float
    tags: list[str]


class Module:
    def __init__(self) -> None:
        self.state: Any = {}

    def dump_state(self) -> Any:
        return self.state

    def load_state(self, state: Any) -> None:
        self.state = state


class Needy(Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


def module(state: Any) -> Module:
    made = Module()
    made.state = state
    return made


def as_json(given: Any, loaded: Any) -> bool:
    """Tuples as lists, OrderedDicts as dicts; all else with its type."""
    if isinstance(given, (list, tuple)):
        mine = list(given)
        return type(loaded) is list and len(loaded) == len(mine) and all(map(as_json, mine, loaded))
    if isinstance(given, dict):
        items = list(given.values())
        return (
            type(loaded) is dict and list(loaded) == list(given) and all(map(as_json, items, loaded.values()))
        )
    return type(given) is type(loaded) and repr(given) == repr(loaded)


def fields(kind: Any) -> Row:
    made = st.builds(
        kind, score=st.floats(allow_nan=False, allow_infinity=False), tags=st.lists(TEXT, max_size=3)
    )

    def as_dict(given: Any, loaded: Any) -> bool:
        return as_json({"score": given.score, "tags": given.tags}, loaded)

    return lambda folder: Kind(made, as_dict, type=kind, copy=copy.deepcopy)


def notation(name: str) -> Row:
    def row(folder: Path) -> Kind:
        if name == "yaml":
            pytest.importorskip("yaml")
        # What neither JSON nor the notation changes: numbers of 64 bits, and text that YAML can write.
        leaves = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text("ab :-#", max_size=5)
        values = st.dictionaries(st.text("ab", max_size=3), st.lists(leaves, max_size=3), max_size=3)
        return Kind(values, as_json, serializer=name, copy=copy.deepcopy)

    return row


def files(folder: Path) -> Kind:
    def written(content: bytes) -> Path:
        path = folder / "file.bin"
        path.write_bytes(content)
        return path

    def same(given: Path, loaded: Any) -> bool:
        return type(loaded) is bytes and loaded == given.read_bytes()

    return Kind(st.binary(max_size=50).map(written), same)


def folders(folder: Path) -> Kind:
    def written(contents: list[bytes]) -> Path:
        path = folder / str(len(list(folder.iterdir())))
        (path / "below").mkdir(parents=True)
        for number, content in enumerate(contents):
            (path / "below" / f"{number}.bin").write_bytes(content)
        (path / "link").symlink_to("below/0.bin")
        return path

    def same_typed(given: Path, loaded: Any) -> bool:
        return loaded == {
            f"below/{file.name}": file.read_bytes() for file in sorted((given / "below").iterdir())
        }

    values = st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(written)
    return Kind(values, type=dict, same_typed=same_typed, loads=False)


PLAIN_ROWS: Final[dict[str, Row]] = {
    "`bytes`, `bytearray`, `memoryview`": lambda folder: Kind(
        st.binary(max_size=50).flatmap(lambda raw: st.sampled_from([raw, bytearray(raw), memoryview(raw)])),
        lambda given, loaded: type(loaded) is bytes and loaded == bytes(given),
    ),
    "`str`": lambda folder: Kind(TEXT),
    "dict, list, tuple, number, `bool`, `None`": lambda folder: Kind(PLAIN, as_json, copy=copy.deepcopy),
    "dataclass": fields(Data),
    "`msgspec.Struct`": fields(Struct),
    "attrs class": fields(Attrs),
    "pydantic model": fields(Model),
    'plain values with `serializer="yaml"`': notation("yaml"),
    'plain values with `serializer="msgpack"`': notation("msgpack"),
    "objects with `dump_state()` and `load_state()`": lambda folder: Kind(
        st.dictionaries(TEXT, PLAIN, max_size=2).map(module),
        lambda given, loaded: as_json(given.state, loaded),
        type=Module,
        same_typed=lambda given, loaded: type(loaded) is Module and as_json(given.state, loaded.state),
        copy=copy.deepcopy,
    ),
    'anything with `serializer="pickle"`': lambda folder: Kind(
        st.frozensets(st.integers(0, 9), max_size=4), serializer="pickle"
    ),
    "`Path` of a file": files,
    "`Path` of a folder": folders,
}


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


def growing() -> dict[str, Any]:
    """A dict to which something in it adds while it is looked at, as another thread might."""
    value: dict[str, Any] = {}

    class Adding(pydantic.BaseModel):
        score: float

        @pydantic.field_serializer("score")
        def write(self, score: float) -> float:
            value["later"] = score
            return score

    value["first"] = Adding(score=1.0)
    return value


def large_number(store: Store) -> None:
    store.save("n", 10**99)
    assert store.load("n") == 10**99


def needy(store: Store) -> None:
    store.save("state", module({}))
    store.load("state", type=Needy)


def yaml_nan(store: Store) -> None:
    pytest.importorskip("yaml")
    store.save("x", math.nan, serializer="yaml")


PLAIN_REFUSED: Final[dict[str, Callable[[Store], object]]] = {
    "a dict that contains itself": lambda store: store.save("x", endless()),
    "nan in a list": lambda store: store.save("x", [1.0, math.nan]),
    "an infinity in a field": lambda store: store.save("x", Data(math.inf, [])),
    "a dict that is added to while it is saved": lambda store: store.save("x", growing()),
    "a whole number of 100 digits": large_number,
    "a whole number of 100 digits as MessagePack": lambda store: store.save(
        "x", 10**99, serializer="msgpack"
    ),
    "a number as key": lambda store: store.save("x", {"a": {1: 2}}),
    "`None` as key": lambda store: store.save("x", {None: 2}),
    "a set in a dict": lambda store: store.save("x", {"a": {1}}),
    "a set": lambda store: store.save("x", {1}),
    "bytes in a list": lambda store: store.save("x", [b"x"]),
    "nan as YAML": yaml_nan,
    "a state with a set": lambda store: store.save("x", module({"a": {1}})),
    "loading a state as a class that needs arguments": needy,
}
