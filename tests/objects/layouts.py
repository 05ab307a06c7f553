"""Numpy arrays of any dtype and shape, in any layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?"),
    npst.datetime64_dtypes(endianness="?"),
    npst.timedelta64_dtypes(endianness="?"),
    npst.byte_string_dtypes(endianness="?", max_len=5),
    npst.unicode_string_dtypes(endianness="?", max_len=5),
    st.just(np.dtype(np.longdouble)),
    st.just(np.dtype("V3")),
    st.just(np.dtype([("x", "<f4"), ("y", [("z", ">i2", (2, 3))])])),
    st.just(np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    st.just(np.dtype([("größe", "<f8"), ("数", "<i4")])),
)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)


@st.composite
def laid_out(draw: st.DrawFn) -> Any:
    """An array of any dtype and shape, in any order, with any strides."""
    dtype, shape = draw(DTYPES), draw(SHAPES)
    count = math.prod(shape)
    content = draw(st.binary(min_size=8, max_size=64)) * (count * max(dtype.itemsize, 1) // 8 + 1)
    if dtype.kind == "b":
        array = np.frombuffer(content, "u1", count).astype("b1").reshape(shape)
    elif dtype.kind == "U":
        array = np.array([chr(97 + byte % 26) for byte in content[:count]], dtype).reshape(shape)
    else:
        array = np.frombuffer(content, dtype, count).reshape(shape)
    return draw(st.sampled_from([as_it_is, np.asfortranarray, every_other, backwards, broadcast]))(array)


def as_it_is(array: Any) -> Any:
    return array


def every_other(array: Any) -> Any:
    return array[..., ::2] if array.ndim else array


def backwards(array: Any) -> Any:
    return array[::-1] if array.ndim else array


def broadcast(array: Any) -> Any:
    return np.broadcast_to(array, (3, *array.shape))
