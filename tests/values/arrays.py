"""Rows of docs/values.md about arrays and tensors."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.objects import in_memory
from tests.values.trying import Trial

few = settings(max_examples=5, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
ARRAYS: Final = npst.arrays(
    npst.scalar_dtypes(), npst.array_shapes(max_dims=3, max_side=5), fill=st.nothing()
)
TREES: Final = st.dictionaries(
    st.text("abc/") | st.integers(),
    ARRAYS | st.integers() | st.floats() | st.tuples(ARRAYS, st.none()),
    min_size=1,
)


def same(one: Any, other: Any) -> bool:
    """Bit for bit, with types and keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "tobytes"):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return repr(one) == repr(other)


# ---- what loads ----------------------------------------------------------------------------------


def arrays(trial: Trial) -> None:
    import numpy

    @few
    @given(ARRAYS, st.booleans())
    def check(array: Any, turned: bool) -> None:
        value = array.T if turned else array
        version = trial.store.save("a", value)
        loaded = trial.store.load("a")
        assert same(loaded, numpy.asarray(value))
        assert loaded.flags.f_contiguous >= value.flags.f_contiguous
        assert version.serializer == "npy"
        with version.open() as file:
            assert same(numpy.load(file, allow_pickle=False), value)
        assert trial.store.save("a", value.copy(order="K")).created_new is False

    check()


def mapped(trial: Trial) -> None:
    import numpy

    @few
    @given(ARRAYS.filter(lambda array: array.nbytes > 0))
    def check(array: Any) -> None:
        kept = numpy.memmap(trial.fresh(), array.dtype, "w+", shape=array.shape)
        kept[...] = array
        one = trial.store.save("a", kept)
        assert type(trial.store.load("a")) is numpy.ndarray
        assert same(trial.store.load("a"), array)
        assert trial.store.save("b", array).parts == one.parts

    check()


def scalars(trial: Trial) -> None:
    @few
    @given(npst.arrays(npst.scalar_dtypes(), ()))
    def check(array: Any) -> None:
        trial.store.save("a", array[()])
        assert same(trial.store.load("a"), array[()])

    check()
    import numpy

    trial.store.save("a", numpy.float32(0.5))
    assert repr(trial.store.load("a", type=float)) == "0.5"


def trees(trial: Trial) -> None:
    @few
    @given(TREES, ARRAYS)
    def check(tree: dict[Any, Any], array: Any) -> None:
        version = trial.store.save("a", {"first": array, "tree": tree})
        assert same(trial.store.load("a"), {"first": array, "tree": tree})
        other = trial.store.save("b", [array])
        first = next(part for part in version.parts if part.path == "tensors/first")
        assert first.digest in {part.digest for part in other.parts}
        assert b"".join(version.chunks("tensors/first")) == array.tobytes()

    check()


def overlapping(trial: Trial) -> None:
    import numpy

    @few
    @given(st.integers(2, 50), st.integers(1, 3))
    def check(count: int, step: int) -> None:
        base = numpy.arange(count)
        version = trial.store.save("a", {"all": base, "some": base[::step], "back": base[::-1]})
        assert [part.size for part in version.parts if part.path != "structure.json"] == [base.nbytes]
        loaded = trial.store.load("a")
        loaded["all"][0] = -5
        assert loaded["some"][0] == loaded["back"][-1] == -5

    check()


def torch_tensors(trial: Trial) -> None:
    torch: Any = pytest.importorskip("torch")

    @few
    @given(st.lists(st.floats(width=32), max_size=20), st.booleans())
    def check(numbers: list[float], wanted: bool) -> None:
        parameter = torch.nn.Parameter(torch.tensor(numbers), requires_grad=wanted)
        version = trial.store.save("a", parameter)
        loaded = trial.store.load("a")
        assert (type(loaded), loaded.requires_grad) == (torch.nn.Parameter, wanted)
        assert same(loaded.detach().numpy(), parameter.detach().numpy())
        assert same(trial.store.load("a", type=type(loaded.detach().numpy())), parameter.detach().numpy())
        assert [part.path for part in version.parts] == ["structure.json", "tensor"]

    check()


def model(width: int) -> Any:
    torch: Any = pytest.importorskip("torch")
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width))


def state_dicts(trial: Trial) -> None:
    torch: Any = pytest.importorskip("torch")

    @few
    @given(st.integers(1, 6))
    def check(width: int) -> None:
        made = model(width)
        one = trial.store.save("a", made.state_dict())
        loaded = trial.store.load("a")
        assert type(loaded) is OrderedDict
        assert loaded._metadata == made.state_dict()._metadata
        model(width).load_state_dict(loaded)
        with torch.no_grad():
            made[0].bias += 1
        two = trial.store.save("a", made.state_dict())
        new = {part.path for part in two.parts} - {part.path for part in one.parts if part in two.parts}
        assert new == {"tensors/0.bias"}
        assert type(trial.store.load("a", type=dict)["0.bias"]).__module__ == "numpy"

    check()


def optimizers(trial: Trial) -> None:
    torch: Any = pytest.importorskip("torch")

    @few
    @given(st.integers(1, 6), st.floats(1e-6, 1))
    def check(width: int, rate: float) -> None:
        made = model(width)
        optimizer = torch.optim.Adam(made.parameters(), lr=rate)
        plan = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        made(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        state = {"optimizer": optimizer.state_dict(), "plan": plan.state_dict()}
        trial.store.save("a", state)
        loaded = trial.store.load("a")
        assert repr(loaded) == repr(state)
        optimizer.load_state_dict(loaded["optimizer"])

    check()


def safetensors(trial: Trial) -> None:
    torch: Any = pytest.importorskip("torch")
    library: Any = pytest.importorskip("safetensors.torch")

    @few
    @given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
    def check(numbers: list[int]) -> None:
        path = trial.fresh()
        library.save_file({"model.w": torch.tensor(numbers), "b": torch.ones(2, dtype=torch.bfloat16)}, path)
        given_dict = library.load_file(path)
        version = trial.store.save("a", given_dict)
        loaded = trial.store.load("a")
        assert list(loaded) == list(given_dict)
        assert all(map(torch.equal, loaded.values(), given_dict.values()))
        other = trial.store.save("b", OrderedDict(x=torch.tensor(numbers)))
        assert {part.digest for part in other.parts} & {part.digest for part in version.parts}

    check()


def items(trial: Trial) -> None:
    collection = trial.store.collection("items")

    @few
    @given(ARRAYS)
    def check(array: Any) -> None:
        before = len(list(trial.store.repository.history()))
        collection["array"], collection["tree"] = array, {"a": [array]}
        assert len(list(trial.store.repository.history())) >= before + 2
        assert same(collection["array"], array)
        assert same(collection["tree"], {"a": [array]})

    check()


ARRAY_ROWS: Final[dict[str, Callable[[Trial], object]]] = {
    "numpy array": arrays,
    "memory-mapped array": mapped,
    "numpy scalar (`np.float32(3)`)": scalars,
    "dict, list or tuple of arrays, nested, with numbers, text, bytes, tuples and None between them": trees,
    "arrays that overlap in memory": overlapping,
    "torch tensor or Parameter": torch_tensors,
    "torch state dict": state_dicts,
    "optimizer's and scheduler's state": optimizers,
    "safetensors dict (`load_file`)": safetensors,
    "array or tensors in a collection": items,
}


# ---- what is odd ---------------------------------------------------------------------------------


def kept(make: Callable[[Any], Any]) -> Callable[[Trial], object]:
    """A value that loads as it is."""

    def provoke(trial: Trial) -> None:
        import numpy

        value = make(numpy)
        trial.store.save("a", value)
        assert same(trial.store.load("a"), value)

    return provoke


def saved(make: Callable[[Any], Any]) -> Callable[[Trial], object]:
    def provoke(trial: Trial) -> object:
        import numpy

        return trial.store.save("a", make(numpy))

    return provoke


def saved_tensor(make: Callable[[Any], Any]) -> Callable[[Trial], object]:
    def provoke(trial: Trial) -> object:
        torch: Any = pytest.importorskip("torch")
        return trial.store.save("a", make(torch))

    return provoke


def cyclic(numpy: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"a": numpy.zeros(1)}
    value["self"] = value
    return value


def changing(trial: Trial) -> None:
    import numpy

    from keepstone.objects.standard import standard_registry

    array = numpy.zeros(100)
    pieces = standard_registry().dump({"a": array})[1].parts[0].source.chunks(80)
    next(pieces)
    array[0] = 1
    list(pieces)


def lying(trial: Trial) -> None:
    import numpy

    text = "{'descr': '<i2', 'fortran_order': False, 'shape': (1000000000000000,), }"
    content = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + b"ab"
    in_memory.load(in_memory.save(numpy.zeros(1)).replaced("", content))


def without(module: str, **how: Any) -> Callable[[Trial], object]:
    def provoke(trial: Trial) -> None:
        torch: Any = pytest.importorskip("torch")
        trial.store.save("a", {"w": torch.ones(2, dtype=torch.bfloat16)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            trial.store.load("a", **how)

    return provoke


def quantized(torch: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"t": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}


ODD_ARRAYS: Final[dict[str, Callable[[Trial], object]]] = {
    "an array of Python objects": saved(lambda np: np.array([None, "x"])),
    "a structure with a field of Python objects": saved(lambda np: np.zeros(1, [("a", "i4"), ("b", "O")])),
    "an array that is not contiguous": kept(lambda np: np.arange(40).reshape(5, 8)[::2, ::3]),
    "an array without dimensions": kept(lambda np: np.array(3.5)),
    "an array without elements": kept(lambda np: np.zeros((3, 0, 2), "<M8[s]")),
    "an array in Fortran order in a dict": kept(
        lambda np: {"a": np.asfortranarray(np.arange(6).reshape(2, 3))}
    ),
    "a masked array": saved(lambda np: np.ma.array([1, 2], mask=[True, False])),
    "a record array": saved(lambda np: np.rec.array([(1, 2.0)], names="a,b")),
    "a dict with arrays that contains itself": saved(cyclic),
    "a dict with arrays and integer keys": kept(lambda np: {0: np.zeros(1), "0": np.ones(1)}),
    "a dict with arrays and a key of another kind": saved(lambda np: {"a": np.zeros(1), frozenset(): 1}),
    "a set beside an array": saved(lambda np: {"a": np.zeros(1), "b": {1}}),
    "a numpy number in JSON": saved(lambda np: {"a": np.float32(0.5)}),
    "an array that changes while it is saved": changing,
    "an `.npy` whose header lies": lying,
    "a sparse tensor": saved_tensor(lambda torch: {"t": torch.eye(2).to_sparse()}),
    "a tensor on the meta device": saved_tensor(lambda torch: {"t": torch.empty(2, device="meta")}),
    "a quantized tensor": saved_tensor(quantized),
    "a torch module": saved_tensor(lambda torch: torch.nn.Linear(1, 1)),
    "bfloat16 as numpy without ml_dtypes": without("ml_dtypes", type=dict),
    "tensors without torch": without("torch"),
}
