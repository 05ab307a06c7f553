"""Torch's tensors, parameters, state dicts and optimizers; needs torch."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.objects.in_memory import load, save
from tests.objects.saving import Saved

import keepstone
from keepstone import MalformedError, SerializerError

torch: Any = pytest.importorskip("torch")

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu", "complex32", "complex64", "complex128", "uint8", "int8", "uint16", "int16", "uint32", "int32",
    "uint64", "int64", "bool",
]  # fmt: skip


def tensor(dtype: str, *shape: int) -> Any:
    """A tensor of any bytes; of True and False for bool."""
    made = torch.empty(shape, dtype=getattr(torch, dtype))
    raw = torch.empty(0, dtype=torch.uint8)
    raw.set_(made.untyped_storage(), 0, (made.numel() * made.element_size(),), (1,))
    raw.copy_(torch.arange(raw.numel()) % (2 if dtype == "bool" else 251))
    return made


def raw(value: Any) -> bytes:
    value = value.detach().resolve_conj().resolve_neg().contiguous()
    size = value.numel() * value.element_size()
    view = torch.empty(0, dtype=torch.uint8)
    view.set_(
        value.untyped_storage(), value.storage_offset() * value.element_size() if size else 0, (size,), (1,)
    )
    return view.numpy().tobytes()


def same(one: Any, other: Any) -> bool:
    facts = [(type(t), t.dtype, t.shape, t.requires_grad, raw(t)) for t in (one, other)]
    return facts[0] == facts[1]


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_a_tensor_of_any_dtype_and_shape_loads_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    value = tensor(dtype, *shape)
    saved = save(value)

    assert same(load(saved), value)
    assert saved.content("tensor") == raw(value)
    assert same(load(save({"a": value}))["a"], value)


LAYOUTS = {
    "transposed": lambda t: t.t(),
    "sliced": lambda t: t[1:, ::2],
    "expanded": lambda t: t[:1].expand(4, 6),
    "conjugated": lambda t: t.to(torch.complex64).mul(1j).conj(),
    "negated": lambda t: t.to(torch.complex64).conj().imag,
    "channels last": lambda t: t.reshape(1, 2, 2, 6).contiguous(memory_format=torch.channels_last),
    "column": lambda t: t[:, 3],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_however_a_tensor_lies_its_elements_load(name: str) -> None:
    value = LAYOUTS[name](torch.arange(24.0).reshape(4, 6))

    assert torch.equal(load(save(value)), value)
    assert torch.equal(load(save([value, value[:1], value]))[1], value[:1])


def test_what_gradients_need_is_kept_and_the_graph_is_not() -> None:
    leaf = torch.ones(3, requires_grad=True)
    loaded = load(save({"leaf": leaf, "result": leaf * 2, "plain": torch.ones(3)}))

    assert [t.requires_grad for t in loaded.values()] == [True, True, False]
    assert loaded["result"].is_leaf
    for wanted in (True, False):
        parameter = load(save(torch.nn.Parameter(torch.ones(2), requires_grad=wanted)))
        assert type(parameter) is torch.nn.Parameter
        assert parameter.requires_grad is wanted


# ---- models --------------------------------------------------------------------------------------


def trained() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    model(torch.randn(8, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, scheduler


def test_a_checkpoint_continues_where_it_was() -> None:
    model, optimizer, scheduler = trained()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    saved = save({**state, "rng": torch.get_rng_state(), "epoch": 3})
    loaded = load(saved)

    assert type(loaded["model"]) is OrderedDict
    assert loaded["model"]._metadata == state["model"]._metadata
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]
    assert list(loaded["optimizer"]["state"]) == [0, 1, 2, 3, 4, 5]
    assert loaded["scheduler"] == state["scheduler"]
    fresh, other, plan = trained()
    fresh.load_state_dict(loaded["model"])
    other.load_state_dict(loaded["optimizer"])
    plan.load_state_dict(loaded["scheduler"])
    batch = torch.randn(8, 3)
    for made, step in ((model, optimizer), (fresh, other)):
        step.zero_grad()
        made(batch).square().sum().backward()
        step.step()
    assert all(map(torch.equal, model.state_dict().values(), fresh.state_dict().values()))


def test_a_state_dict_by_itself_and_what_did_not_change_is_stored_once() -> None:
    model = trained()[0]
    one = save(model.state_dict())
    with torch.no_grad():
        model[2].bias += 1
    two = save(model.state_dict())

    assert one.manifest.type_name == "collections.OrderedDict"
    assert set(one.manifest.packages) == {"torch"}
    assert one.content("tensors/0.weight") == raw(model[0].weight)
    assert len(two.blobs.keys() - one.blobs.keys()) == 1
    assert all(map(torch.equal, load(two).values(), model.state_dict().values()))


def test_tied_weights_are_stored_once_and_tied_again() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    saved = save({"embed": weight, "head": weight, "view": weight.detach()[1:], "t": weight.detach().t()})
    loaded = load(saved)

    assert [part.size for part in saved.manifest.parts if part.path != "structure.json"] == [64]
    assert loaded["embed"] is loaded["head"]
    with torch.no_grad():
        loaded["embed"][1, 2] = 7
    assert (loaded["view"][0, 2].item(), loaded["t"][2, 1].item()) == (7, 7)
    # As one blob with the same weight of a model that is not tied.
    assert saved.content("tensors/embed") == save({"w": weight.detach().clone()}).content("tensors/w")


def test_views_of_another_dtype_share_the_bytes() -> None:
    base = torch.arange(32, dtype=torch.uint8)
    loaded = load(save({"odd": base[3:20], "words": base.view(torch.int64)[1:]}))

    loaded["words"][0] = -1
    assert loaded["odd"][5:10].tolist() == [255] * 5
    assert torch.equal(loaded["odd"][:5], base[3:8])


VIEWS = st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from([1, 2, 3]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VIEWS, min_size=1, max_size=5))
def test_views_of_any_kind_load_with_their_content(views: list[Any]) -> None:
    base = torch.arange(20, dtype=torch.int32)
    value = [base[start:end:step] for start, end, step in views]
    saved = save(value)

    assert all(map(torch.equal, load(saved), value))
    parts = sum(part.size for part in saved.manifest.parts if part.path != "structure.json")
    assert parts <= sum(view.numel() * 4 for view in value)


def test_a_tensor_that_changes_while_it_is_read_is_refused() -> None:
    from keepstone.objects.standard import standard_registry

    value = {"a": torch.zeros(10), "b": torch.zeros(10)}
    parts = standard_registry().dump(value)[1].parts
    list(parts[0].source.chunks(100))
    value["a"] += 1

    with pytest.raises(SerializerError, match="it changed while it was being saved"):
        list(parts[1].source.chunks(100))


def test_a_dict_that_is_added_to_while_it_is_saved_is_refused() -> None:
    value: dict[str, Any] = {"a": torch.zeros(2), "b": torch.zeros(2)}

    class Adding(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            value["later"] = True
            return func(*args, **(kwargs or {}))

    with Adding(), pytest.raises(SerializerError, match="it changed while it was being saved") as caught:
        save(value)

    assert "later" in value
    assert "save a copy" in caught.value.hint


# ---- numpy for torch's ---------------------------------------------------------------------------


def test_asked_for_a_dict_it_is_numpy() -> None:
    loaded = load(save(OrderedDict(a=torch.arange(3), b=torch.nn.Parameter(torch.ones(2, 2)))), dict)

    assert {name: type(array) for name, array in loaded.items()} == {"a": np.ndarray, "b": np.ndarray}
    assert loaded["b"].tolist() == [[1, 1], [1, 1]]
    assert load(save(torch.arange(3)), np.ndarray).tolist() == [0, 1, 2]
    assert load(save([torch.arange(3)]), list)[0].tolist() == [0, 1, 2]
    assert load(save(torch.arange(3)), torch.Tensor).tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
def test_asked_for_numpy_what_numpy_lacks_comes_from_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ml_dtypes")
    saved = save({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)})

    assert load(saved, dict)["a"].astype(float).tolist() == [1.5, -2]
    with pytest.raises(SerializerError, match="numpy has no numbers of torch"):
        load(save({"a": tensor("complex32", 2)}), dict)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(
        SerializerError, match="ml_dtypes is not installed: numpy arrays of bfloat16"
    ) as raised:
        load(saved, dict)
    assert raised.value.hint == "pip install ml_dtypes"


def test_without_torch_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save({"a": torch.ones(2)})
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(SerializerError, match="torch is not installed: torch tensors") as raised:
        load(saved)
    assert "type=dict" in raised.value.hint
    assert load(saved, dict)["a"].tolist() == [1, 1]


def test_numpy_arrays_beside_tensors_stay_numpy() -> None:
    loaded = load(save({"n": np.ones(2), "t": torch.ones(2), "s": np.float64(3)}))

    assert [type(value) for value in loaded.values()] == [np.ndarray, torch.Tensor, np.float64]


def test_what_another_process_saved_loads_without_torch_being_imported(tmp_path: Any) -> None:
    with keepstone.open(tmp_path / "s") as store:
        store.save("m", {"a": torch.ones(2)})
    look = (
        "import sys, keepstone\n"
        f"store = keepstone.open({str(tmp_path / 's')!r})\n"
        "assert store.load('m', type=dict)['a'].sum() == 2\n"
        "assert 'torch' not in sys.modules\n"
        "assert type(store.load('m')['a']).__module__ == 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", look], check=True)


# ---- refused -------------------------------------------------------------------------------------


class Wrapped(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: torch.eye(2).to_sparse(), r"a sparse tensor \(torch.sparse_coo\) at \$\.t\[0\]", "to_dense"),
        (lambda: torch.empty(2, device="meta"), "a tensor on the meta device", "filled"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            "a quantized tensor",
            "int_repr",
        ),
        (lambda: torch.nested.nested_tensor([torch.ones(2)]), "a nested tensor", "unbind"),
        (lambda: torch.ones(2).as_subclass(Wrapped), "a Wrapped, which is more", "as_subclass"),
        (lambda: torch.nn.Linear(1, 1), "of type Linear", ".state_dict()"),
        (lambda: torch.float32, r"of type dtype at \$\.t\[0\]", "convert it"),
    ],
    ids=["sparse", "meta", "quantized", "nested", "subclass", "module", "dtype"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_plain_bytes_is_refused_by_its_place(make: Any, message: str, hint: str) -> None:
    with pytest.raises(SerializerError, match=message) as raised:
        save({"a": torch.ones(1), "t": [make()]})
    assert hint in raised.value.hint


@pytest.mark.parametrize("make", [lambda: torch.nn.Linear(1, 1), lambda: torch.optim.SGD([torch.ones(1)])])
def test_models_and_optimizers_are_saved_by_their_state(make: Any) -> None:
    with pytest.raises(SerializerError, match=r"nothing here saves a (Linear|SGD)") as raised:
        save(make())
    assert "save its .state_dict()" in raised.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "nonsense"},
        {"dtype": "<f4"},
        {"shape": [10**15]},
        {"shape": [-6]},
        {"offset": 0, "strides": [4]},
        {"offset": 0, "strides": [-12, 4]},
        {"offset": 2, "strides": [12, 4]},
        {"offset": 4, "strides": [12, 4]},
        {"offset": -4, "strides": [12, 4]},
        {"offset": 0, "strides": [2**61, 4]},
    ],
    ids=str,
)
def test_a_structure_that_lies_about_a_tensor_is_refused(changes: dict[str, Any]) -> None:
    saved = save({"a": torch.arange(6.0).reshape(2, 3)})
    structure = json.loads(saved.content("structure.json"))
    structure["tensors"][0].update(changes)
    lying: Saved = saved.replaced("structure.json", json.dumps(structure).encode())

    with pytest.raises(MalformedError):
        load(lying)


def test_what_torch_itself_saves_and_loads_is_equal() -> None:
    model, optimizer, _ = trained()
    state = {"m": model.state_dict(), "o": optimizer.state_dict()}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    theirs, ours = torch.load(file, weights_only=True), load(save(state))

    assert repr(ours) == repr(theirs)
