"""Types of array elements as text, and back.

Layer: objects. A numpy dtype is written as in an `.npy` header (`<f4`, or the list of a structure's fields); those of
ml_dtypes, and all of torch, by name. What reads them takes nothing but plain data: a dtype with Python objects in it
would turn stored bytes into pointers.
"""

from __future__ import annotations

import ast
from typing import Any, Final

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.families import import_ml_dtypes

_NUMPY_NAMES: Final = {
    "bool": "|b1",
    "uint8": "|u1",
    "int8": "|i1",
    "uint16": "<u2",
    "int16": "<i2",
    "uint32": "<u4",
    "int32": "<i4",
    "uint64": "<u8",
    "int64": "<i8",
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
    "complex64": "<c8",
    "complex128": "<c16",
}
EXTENSIONS: Final = frozenset(
    {"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}
)
"""Dtypes that torch and ml_dtypes have under the same name, and numpy has not."""
TORCH_DTYPES: Final = frozenset(_NUMPY_NAMES) | EXTENSIONS | {"complex32", "float4_e2m1fn_x2"}


def is_extension(dtype: Any) -> bool:
    """Whether a numpy dtype is one of ml_dtypes that we can keep."""
    return dtype.type.__module__.partition(".")[0] == "ml_dtypes" and dtype.name in EXTENSIONS


def dtype_text(numpy: Any, dtype: Any) -> str:
    """Return a numpy dtype as text.

    Raises:
        SerializerError: it does not come back as it is.
    """
    if is_extension(dtype):
        return str(dtype.name)
    layout = numpy.lib.format
    kept = layout.drop_metadata(dtype)
    if not dtype.hasobject:
        descr = layout.dtype_to_descr(kept)
        text = descr if isinstance(descr, str) else repr(descr)
        if layout.descr_to_dtype(descr) == dtype and parse_descr(text) == descr:
            return text
    what = "Python objects" if dtype.hasobject and dtype.kind != "T" else f"elements of dtype {dtype}"
    raise SerializerError(
        f"cannot save value: an array of {what}, which have no plain bytes",
        hint="convert it to numbers, or to text of a fixed length, with array.astype(...); or save array.tolist()",
    )


def parse_descr(text: str) -> Any:
    """Return what `.npy` headers call the descr."""
    return ast.literal_eval(text) if text.startswith(("[", "(")) else text


def numpy_dtype(numpy: Any, text: str) -> Any:
    """Return the numpy dtype that `dtype_text` wrote, or the one that fits the name of a torch dtype.

    Raises:
        SerializerError: numpy has no such type of numbers, or it needs ml_dtypes.
        MalformedError: it is none, or holds Python objects.
    """
    if text in EXTENSIONS:
        try:
            return numpy.dtype(getattr(import_ml_dtypes(text), text))
        except AttributeError as error:
            raise SerializerError(
                f"the installed ml_dtypes has no {text}", hint="pip install -U ml_dtypes"
            ) from error
    if text in TORCH_DTYPES and text not in _NUMPY_NAMES:
        raise SerializerError(
            f"numpy has no numbers of torch's {text}", hint="load it without type=, as torch tensors"
        )
    try:
        dtype = numpy.lib.format.descr_to_dtype(parse_descr(_NUMPY_NAMES.get(text, text)))
    except (ValueError, TypeError, SyntaxError, KeyError, IndexError, RecursionError, MemoryError) as error:
        raise MalformedError(f"{text[:80]!a} is no dtype: {error}", where="dtype") from error
    if dtype.hasobject:
        raise MalformedError(f"stored dtype {text[:80]!a} holds Python objects", where="dtype")
    return dtype
