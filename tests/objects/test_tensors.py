"""Containers of numpy arrays: a part for each, sharing kept, and what would not load as it is refused."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.objects.in_memory import load, save

import keepstone
from keepstone import SerializerError
from keepstone.objects.families import holds_tensors
from keepstone.objects.manifest import path_problem
from keepstone.objects.tensor_tree import part_path

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ARRAYS = npst.arrays(
    npst.scalar_dtypes().filter(lambda dtype: dtype.itemsize),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    fill=st.nothing(),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.binary(max_size=5)
    | st.complex_numbers()
)
KEYS = TEXT | st.integers() | st.tuples(TEXT, st.integers()) | st.none() | st.binary(max_size=3)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    dicts = st.dictionaries(KEYS, inner, max_size=4)
    return lists | lists.map(tuple) | dicts | dicts.map(OrderedDict)


TREES = st.recursive(LEAVES | ARRAYS, containers, max_leaves=12)


def assert_same(one: Any, other: Any) -> None:
    """Equal, of the same types, in the same order, bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(map(repr, one)) == list(map(repr, other))
        for mine, others in zip(one.values(), other.values(), strict=True):
            assert_same(mine, others)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, others in zip(one, other, strict=True):
            assert_same(mine, others)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert repr(one) == repr(other)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, ARRAYS)
def test_any_tree_of_arrays_loads_as_it_was(tree: Any, array: Any) -> None:
    value = {"one": array, "rest": tree}
    saved = save(value)

    assert saved.manifest.serializer == "tensors"
    assert_same(load(saved), value)
    # Nothing is copied twice, and nothing is shared that was not.
    assert all(found.flags.writeable for found in arrays_in(load(saved)))


def arrays_in(tree: Any) -> list[Any]:
    if isinstance(tree, np.ndarray):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [array for item in items for array in arrays_in(item)]


def test_each_array_is_a_part_of_its_own_bytes() -> None:
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    saved = save({"layers": [{"w": array.T}, {"0": np.float32(2)}], 0: array, "": array + 1})

    assert {part.path for part in saved.manifest.parts} == {
        "structure.json",
        "tensors/layers/0/w",
        "tensors/layers/1/%30",
        "tensors/%",
    }
    assert saved.content("tensors/%") == (array + 1).tobytes()
    assert saved.content("tensors/layers/1/%30") == np.float32(2).tobytes()
    assert json.loads(saved.content("structure.json")) == {
        "tensors": [
            {
                "part": "tensors/layers/0/w",
                "kind": "array",
                "dtype": "<i2",
                "shape": [3, 2],
                "offset": 0,
                "strides": [2, 6],
            },
            {"part": "tensors/layers/1/%30", "kind": "scalar", "dtype": "<f4", "shape": []},
            {
                "part": "tensors/layers/0/w",
                "kind": "array",
                "dtype": "<i2",
                "shape": [2, 3],
                "offset": 0,
                "strides": [6, 2],
            },
            {"part": "tensors/%", "kind": "array", "dtype": "<i2", "shape": [2, 3]},
        ],
        "tree": [
            "dict",
            "layers",
            ["list", ["dict", "w", ["tensor", 0]], ["dict", "0", ["tensor", 1]]],
            0,
            ["tensor", 2],
            "",
            ["tensor", 3],
        ],
    }
    assert saved.manifest.detail == {"tensors": 4}
    assert saved.manifest.type_name == "dict"


def test_equal_arrays_of_two_checkpoints_are_one_blob() -> None:
    one = save({"a": np.ones(100), "b": np.zeros(100)})
    two = save({"epoch": 2, "a": np.ones(100), "c": {"d": np.full(100, 3.0)}})

    assert len(one.blobs.keys() & two.blobs.keys()) == 1


# ---- sharing -------------------------------------------------------------------------------------


def test_what_shares_memory_is_stored_once_and_shares_it_again() -> None:
    base = np.arange(100.0)
    saved = save(
        {"all": base, "same": base, "head": base[:10], "back": base[::-1], "square": base.reshape(10, 10).T}
    )
    loaded = load(saved)

    assert [part.size for part in saved.manifest.parts if part.path != "structure.json"] == [800]
    assert loaded["all"] is loaded["same"]
    loaded["all"][3] = -1
    assert (loaded["head"][3], loaded["back"][96], loaded["square"][3, 0]) == (-1, -1, -1)
    assert base[3] == 3


def test_an_empty_view_does_not_come_between_those_that_share() -> None:
    base = np.arange(10.0)
    loaded = load(save({"all": base, "none": base[:0], "head": base[:3]}))

    assert np.shares_memory(loaded["all"], loaded["head"])
    assert loaded["none"].shape == (0,)


def test_parts_of_one_array_that_do_not_overlap_share_nothing() -> None:
    base = np.arange(100.0)
    saved = save({"train": base[:80], "test": base[80:]})

    assert {part.size for part in saved.manifest.parts if part.path != "structure.json"} == {640, 160}
    assert not np.shares_memory(*load(saved).values())


def test_thin_views_of_a_large_array_do_not_bring_all_of_it() -> None:
    base = np.zeros((1000, 100))
    saved = save({"first": base[:, 0], "last": base[:, 99]})

    assert sum(part.size for part in saved.manifest.parts if part.path != "structure.json") == 16_000
    assert_same(load(saved), {"first": np.zeros(1000), "last": np.zeros(1000)})


VIEWS = st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from([1, 2, 3, -1, -2]))


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VIEWS, min_size=1, max_size=5))
def test_views_of_any_kind_load_with_their_content_and_cost_no_more_than_themselves(views: list[Any]) -> None:
    base = np.arange(20, dtype="<i4")
    value = [base[start:end:step] for start, end, step in views]
    saved = save(value)

    assert_same(load(saved), value)
    parts = sum(part.size for part in saved.manifest.parts if part.path != "structure.json")
    assert parts <= sum(view.nbytes for view in value)


# ---- what is asked for, and what is taken --------------------------------------------------------


def test_only_what_holds_an_array_is_taken() -> None:
    endless: list[Any] = [1]
    endless.append(endless)

    assert holds_tensors({"a": [{"b": (np.zeros(1),)}]})
    assert not holds_tensors({"a": [{"b": (1, "x", np.float32(3))}]})
    assert not holds_tensors(endless)
    assert save({"a": 1}).manifest.serializer == "json"
    assert save([{"a": np.zeros(1)}]).manifest.serializer == "tensors"
    # By name it takes what JSON cannot keep.
    assert_same(load(save({1: (math.inf, b"x")}, "tensors")), {1: (math.inf, b"x")})


def test_documented_changes() -> None:
    counts: defaultdict[str, Any] = defaultdict(list, a=np.zeros(2))

    loaded = load(save(counts))
    assert type(loaded) is dict
    assert save(counts).manifest.type_name == "dict"
    assert load(save({"f": np.zeros((2, 3)).T.copy(order="F")}))["f"].flags.c_contiguous


def test_what_a_load_may_ask_for() -> None:
    saved = save({"a": np.zeros(2)})

    assert_same(load(saved, dict), {"a": np.zeros(2)})
    assert_same(load(saved, dict[str, Any]), {"a": np.zeros(2)})
    for kind in (list, OrderedDict, np.ndarray, 3, TypedDict("State", {"a": Any})):
        with pytest.raises(SerializerError, match="the stored value is a dict, no "):
            load(saved, kind)


@dataclass
class Run:
    weights: Any


Point = namedtuple("Point", "x y")


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {"a": np.zeros(1)}
    value["self"] = [value]
    return value


def deep() -> Any:
    value: Any = np.zeros(1)
    for _ in range(300):
        value = [value]
    return value


def marked() -> Any:
    value = OrderedDict(a=np.zeros(1))
    value.note = "x"  # type: ignore[attr-defined]
    return value


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ({"a": np.zeros(1), "b": {1, 2}}, r"\{1, 2\} of type set at \$\.b", "sorted list"),
        ({"a": np.zeros(1), "b": [Run(3)]}, r"of type Run at \$\.b\[0\]", "dataclass"),
        ({"a": np.zeros(1), "p": Point(1, 2)}, r"of type Point at \$\.p", "_asdict"),
        ({"a": np.zeros(1), frozenset(): 3}, "key frozenset.* of type frozenset", "tuples"),
        ({"a": np.zeros(1), (1, (2, Run)): 3}, "key <class .* of type type", "tuples"),
        ({"a": np.zeros(1), math.nan: 3}, "key nan of type float", "keys"),
        ({"a": np.zeros(1), "s": "\ud800"}, r"lone surrogate, '\\ud800', at \$\.s", "decode"),
        ({"a": np.array([None])}, "an array of Python objects", "astype"),
        ({"a": np.ma.zeros(1)}, "a MaskedArray is more than its array", "mask"),
        (cyclic(), r"a value that contains itself at \$\.self\[0\]", "cycle"),
        (deep(), "nested more than 200 deep", "flatten"),
        (marked(), "an OrderedDict with an attribute 'note' of its own", "item"),
    ],
    ids=[
        "set",
        "class",
        "namedtuple",
        "key",
        "inner key",
        "nan",
        "text",
        "objects",
        "masked",
        "cycle",
        "deep",
        "marked",
    ],
)
def test_what_would_not_load_as_it_is_is_refused_by_its_place(value: Any, message: str, hint: str) -> None:
    with pytest.raises(SerializerError, match=message) as raised:
        save(value)

    assert hint in raised.value.hint


def test_json_by_name_says_that_it_takes_no_arrays() -> None:
    with pytest.raises(SerializerError, match="serializer 'json' saves no arrays and no tensors"):
        save({"a": np.zeros(1)}, "json")


# ---- names of parts ------------------------------------------------------------------------------

PATH_KEYS = st.lists(
    KEYS
    | st.sampled_from(["0", "00", "-1", 0, -1, "=0", ".", "..", "", "/", "%2F", "%", "a/b", "x" * 300, True]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(PATH_KEYS, PATH_KEYS)
def test_different_keys_give_different_paths_that_a_folder_can_have(one: list[Any], other: list[Any]) -> None:
    paths = part_path(tuple(one)), part_path(tuple(other))

    assert (paths[0] == paths[1]) == (list(map(repr, one)) == list(map(repr, other)))
    assert not any(map(path_problem, paths))
    assert all(len(segment.encode()) <= 255 for path in paths for segment in path.split("/"))
    assert part_path(tuple(f"{'k' * 150}{n}" for n in range(100))).startswith("tensors/%~")


def test_a_checkpoint_can_be_checked_out(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "s") as store:
        version = store.save("c", {"a/b": np.arange(3), "x": {"..": np.zeros(2), "y" * 400: np.ones(2)}})
        folder = Path(version.checkout(tmp_path / "out"))

    assert (folder / "tensors" / "a%2Fb").read_bytes() == np.arange(3).tobytes()
    assert (folder / "tensors" / "x" / "%2E.").stat().st_size == 16
