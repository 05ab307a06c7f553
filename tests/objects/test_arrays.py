"""Numpy arrays as `.npy` parts: what loads is what was saved, and files that lie are refused."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.objects.in_memory import load, save
from tests.objects.layouts import laid_out

import keepstone
from keepstone import MalformedError, SerializerError


def same(one: Any, other: Any) -> bool:
    """Bit for bit, so that nan is nan, and with what lies between the fields of structures."""
    return (one.dtype, one.shape, raw(one)) == (other.dtype, other.shape, raw(other))


def raw(array: Any) -> bytes:
    return array.view(("V", array.dtype.itemsize)).tobytes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(laid_out())
def test_any_array_loads_as_it_was(array: Any) -> None:
    saved = save(array)
    loaded = load(saved)

    assert type(loaded) is np.ndarray
    assert same(loaded, array)
    assert loaded.flags.writeable
    assert loaded.flags.f_contiguous >= (array.flags.f_contiguous and not array.flags.c_contiguous)
    if array.dtype.names not in (("größe", "数"), ("a", "b")):
        # Anything else that reads .npy files can read it. (Numpy warns of the one, and leaves the gaps of the other.)
        assert same(np.load(io.BytesIO(saved.content("")), allow_pickle=False), array)


def test_the_bytes_are_the_same_whatever_numpy_wrote_them() -> None:
    content = save(np.array([[1, 2]], "<i2")).content("")

    assert content == (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<i2', 'fortran_order': False, 'shape': (1, 2), }".ljust(127)
        + b"\n"
        b"\x01\x00\x02\x00"
    )
    assert save(np.array([[1, 2]], "<i2")[:, ::1].copy()).content("") == content


def test_a_name_beyond_latin_1_can_be_read_by_numpy() -> None:
    content = save(np.zeros(2, [("数", "<i4")])).content("")

    with pytest.warns(UserWarning, match=r"format 3\.0"):
        np.save(io.BytesIO(), np.zeros(2, [("数", "<i4")]))
    assert np.load(io.BytesIO(content)).dtype.names == ("数",)


@pytest.mark.parametrize(
    "scalar",
    [
        np.float32(1.5),
        np.float64("nan"),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.datetime64("2026-01-02"),
        np.datetime64("NaT"),
        np.timedelta64(3, "h"),
        np.str_("größe"),
        np.bytes_(b"ab"),
        np.longdouble(1) / 3,
        np.zeros(1, [("a", "i1"), ("b", "f8")])[0],
    ],
    ids=lambda scalar: type(scalar).__name__,
)
def test_a_scalar_loads_as_the_scalar_of_its_type(scalar: Any) -> None:
    saved = save(scalar)
    loaded = load(saved)

    assert type(loaded) is type(scalar)
    assert np.asarray(loaded).tobytes() == np.asarray(scalar).tobytes()
    assert saved.manifest.serializer == "npy"


def test_what_a_load_may_ask_for() -> None:
    array, number = save(np.arange(3.0)), save(np.float32(1.5))

    assert load(array, list) == [0.0, 1.0, 2.0]
    assert type(load(array, np.ndarray)) is np.ndarray
    assert load(number, float) == 1.5
    assert type(load(number, float)) is float
    assert type(load(number, np.float32)) is np.float32
    for saved, kind in (
        (array, dict),
        (number, int),
        (array, float),
        (number, np.ndarray),
        (number, Protocol),
    ):
        with pytest.raises(SerializerError, match=r"the stored value is an? "):
            load(saved, kind)


def test_a_memory_mapped_array_loads_as_an_array_in_memory(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "m", "<f4", "w+", shape=(3, 5))
    mapped[:] = 7
    saved = save(mapped)

    assert type(load(saved)) is np.ndarray
    assert same(load(saved), np.full((3, 5), 7, "<f4"))


def test_the_manifest_says_what_it_is() -> None:
    saved = save(np.zeros((2, 3), ">f4"))

    assert saved.manifest.type_name == "numpy.ndarray"
    assert saved.manifest.detail == {"dtype": ">f4", "shape": [2, 3]}
    assert saved.manifest.packages == {"numpy": np.__version__}


def test_bfloat16_loads_as_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3)
    saved = save(array)

    assert same(load(saved), array)
    assert same(load(save(array.T)), array.T)
    assert type(load(save(array[1, 2]))) is ml_dtypes.bfloat16
    assert set(saved.manifest.packages) == {"numpy", "ml_dtypes"}


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (np.array([1, "x", None], object), "an array of Python objects", "astype"),
        (np.array([(1, {})], [("a", "i4"), ("b", "O")]), "an array of Python objects", "astype"),
        (np.ma.array([1, 2], mask=[True, False]), "a MaskedArray is more than its array", "'mask'"),
        (lambda: np.asmatrix("1 2"), "a matrix is more than its array", "asarray"),
        (np.rec.array([(1, 2.0)], names="a,b"), "a recarray is more than its array", "view"),
        (np.str_("a\0"), "numpy drops the NUL at the end", "str"),
        (np.zeros(1, [("n" * 70_000, "i1")]), "a dtype with 70,", "one array per field"),
    ],
    ids=["objects", "object field", "masked", "matrix", "recarray", "nul", "names"],
)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_what_would_not_load_as_it_is_is_refused(value: Any, message: str, hint: str) -> None:
    made = value() if callable(value) else value
    with pytest.raises(SerializerError, match=message) as raised:
        save(made)

    assert hint in raised.value.hint


def test_asking_for_npy_does_not_make_an_array_of_a_list() -> None:
    with pytest.raises(SerializerError, match="serializer 'npy' does not save a list"):
        save([1, 2], "npy")


def header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPX\x01\x00v\x00" + b" " * 118,
        b"\x93NUMPY\x07\x00v\x00" + b" " * 118,
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f",
        header("{'descr': '<i2', 'fortran_order': False, 'shape': (1000000000000000,), }", b"ab"),
        header("{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }", b"abc"),
        header("{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }", b"abcde"),
        header("{'descr': '<i2', 'fortran_order': False, 'shape': (-1, -2), }", b"abcd"),
        header("{'descr': '<i2', 'fortran_order': False, 'shape': (True, 2), }", b"abcd"),
        header("{'descr': '<i2', 'fortran_order': False, 'shape': [2], }", b"abcd"),
        header("{'descr': '<i2', 'fortran_order': 1, 'shape': (2,), }", b"abcd"),
        header("{'descr': '<i2', 'fortran_order': False, 'shape': " + "(" * 3000 + "), }", b"abcd"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"abcdefgh"),
        header("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", b"abcdefgh"),
        header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,), }", b"abcdefgh"),
        header("{'descr': [3], 'fortran_order': False, 'shape': (1,), }", b"abcdefgh"),
        header("__import__('os').abort()"),
        header("{'shape': (1,)}", b"abcdefgh"),
    ],
)
def test_a_file_that_lies_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        load(save(np.arange(3)).replaced("", content))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_flipped_byte_gives_an_array_or_an_error(data: st.DataObject) -> None:
    saved = save(np.arange(6, dtype="<i2").reshape(2, 3))
    content = bytearray(saved.content(""))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        loaded = load(saved.replaced("", bytes(content)))
    except MalformedError:
        return
    assert loaded.nbytes == 12


def test_without_numpy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save(np.arange(3))
    monkeypatch.setitem(sys.modules, "numpy", None)

    with pytest.raises(SerializerError, match="numpy is not installed: arrays and tensors") as raised:
        load(saved)
    assert "pip install numpy" in raised.value.hint


# ---- in a store ----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[keepstone.Store]:
    with keepstone.open(tmp_path / "s") as store:
        yield store


def test_arrays_in_a_store_and_in_a_collection(store: keepstone.Store, tmp_path: Path) -> None:
    large = np.arange(400_000)
    version = store.save("large", large)
    items = store.collection("items")
    items["small"] = np.arange(3)
    items["large"] = large
    items.add_many({"plain": 3, "mixed": {"a": np.arange(2)}})

    assert np.array_equal(store.load("large"), large)
    assert np.array_equal(items["small"], np.arange(3))
    assert np.array_equal(items["large"], large)
    assert items["plain"] == 3
    assert np.array_equal(items["mixed"]["a"], np.arange(2))
    assert np.array_equal(np.load(Path(version.checkout(tmp_path / "out")) / "value.npy"), large)
    assert store.save("large", large.copy()).created_new is False


def test_numpy_numbers_inside_json_are_refused_with_what_to_do(store: keepstone.Store) -> None:
    for keep in (lambda v: store.save("x", v), lambda v: store.collection("c").update(k=v)):
        with pytest.raises(SerializerError, match=r"of type float32 at \$\.score") as raised:
            keep({"score": np.float32(0.5)})
        assert ".item()" in raised.value.hint
