"""Structures of tensors that lie, and parts that do not fit them: refused, never loaded."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.objects.in_memory import load, save
from tests.objects.saving import Saved

from keepstone import MalformedError


def changed(saved: Saved, **changes: Any) -> Saved:
    structure = json.loads(saved.content("structure.json"))
    structure["tensors"][0].update(changes)
    return saved.replaced("structure.json", json.dumps(structure).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"dtype": "[('a', '|O')]"},
        {"dtype": "bad"},
        {"dtype": "[" * 1000},
        {"shape": [10**15]},
        {"shape": [-1, -6]},
        {"shape": [2, 2]},
        {"part": "nowhere"},
        {"part": "structure.json", "dtype": "|u1"},
        {"kind": "module"},
        {"offset": 0, "strides": [8]},
        {"offset": 0},
        {"offset": 8, "strides": [24, 8]},
        {"offset": -8, "strides": [24, 8]},
        {"offset": 0, "strides": [2**62, 2**62]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_structure_that_lies_about_a_tensor_is_refused(changes: dict[str, Any]) -> None:
    saved = save({"a": np.arange(6.0).reshape(2, 3)})

    with pytest.raises(MalformedError):
        load(changed(saved, **changes))


@pytest.mark.parametrize(
    "tree",
    [
        ["tensor", 1],
        ["tensor", -1],
        ["tensor", True],
        ["tensor", "0"],
        ["tensor"],
        [],
        {},
        ["what", 1],
        [["list"]],
        ["dict", 1],
        ["dict", ["list"], 1],
        ["float", "x"],
        ["bytes", "?"],
        ["complex", "1"],
        ["ordered"],
    ],
    ids=str,
)
def test_a_tree_that_makes_no_sense_is_refused(tree: Any) -> None:
    saved = save({"a": np.arange(6.0)})
    structure = json.loads(saved.content("structure.json")) | {"tree": tree}

    with pytest.raises(MalformedError):
        load(saved.replaced("structure.json", json.dumps(structure).encode()))


def test_a_tree_nested_too_deeply_is_refused() -> None:
    saved = save({"a": np.arange(6.0)})
    for depth in (300, 100_000):
        nested = '["list", ' * depth + "1" + "]" * depth
        with pytest.raises(MalformedError):
            load(saved.replaced("structure.json", f'{{"tensors": [], "tree": {nested}}}'.encode()))


def test_a_part_that_is_too_short_is_refused() -> None:
    saved = save({"a": np.arange(6.0)})

    with pytest.raises(MalformedError):
        load(saved.replaced("tensors/a", b"x" * 47))
