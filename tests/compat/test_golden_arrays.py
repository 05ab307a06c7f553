"""Arrays and tensors that releases left behind load as what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.compat.arrays import arrays
from tests.compat.make import HERE

import keepstone

numpy: Any = pytest.importorskip("numpy")
STORES = sorted(path.parent for path in HERE.glob("*/arrays/store.json"))


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, others in zip(one, other, strict=True):
            assert_same(mine, others)
    elif isinstance(one, numpy.ndarray | numpy.generic):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other


def test_there_is_one_of_this_format() -> None:
    assert STORES


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.parent.name)
def test_all_that_was_saved_loads_as_it_was(golden: Path) -> None:
    with keepstone.open(golden, mode="r") as store:
        for name, value in arrays().items():
            assert_same(store.load(name, type=dict if isinstance(value, dict) else None), value)
        assert store.load("fortran").flags.f_contiguous
        tree = store.load("tree")
        assert numpy.shares_memory(tree["w"], tree["view"])
        assert_same(store.collection("items")["array"], arrays()["plain"])


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.parent.name)
def test_torch_gets_tensors_that_share_as_they_did(golden: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    with keepstone.open(golden, mode="r") as store:
        loaded = store.load("torch")

    assert type(loaded["w"]) is torch.nn.Parameter
    assert loaded["w"].requires_grad
    assert loaded["w"].data_ptr() == loaded["t"].data_ptr()
    assert torch.equal(loaded["t"], torch.arange(12.0).reshape(3, 4).t())
