"""Numpy arrays and numpy's scalars, each as one `.npy` part.

Layer: objects. Dtype, shape, byte order and Fortran order are kept; what is neither C nor Fortran contiguous loads in C
order. Memory-mapped arrays load as arrays in memory. The header is our own, in numpy's format: numpy has changed its
padding over time, and equal arrays must be equal bytes.
"""

from __future__ import annotations

import ast
import math
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.dtypes import dtype_text, is_extension, numpy_dtype, parse_descr
from keepstone.objects.families import Family, family_of, import_numpy
from keepstone.objects.libraries import versions_of
from keepstone.objects.manifest import Manifest
from keepstone.objects.memory import Moment, array_pieces, fill
from keepstone.objects.models import is_instance, shown_type, type_name
from keepstone.objects.serializer import Dumped, PartSource, Reader

MAGIC: Final = b"\x93NUMPY"
_ALIGNMENT: Final = 64
_DIMENSIONS_MAX: Final = 64
_Count = Annotated[int, msgspec.Meta(ge=0)]
HEADER_BYTES_MAX: Final = 64 * 1024
_LAYOUTS: Final = {
    1: (struct.Struct("<H"), "latin-1"),
    2: (struct.Struct("<I"), "latin-1"),
    3: (struct.Struct("<I"), "utf-8"),
}
"""Version of the header → how its length and its text are written."""
_HINTS: Final = {
    "MaskedArray": "save {'data': array.data, 'mask': numpy.ma.getmaskarray(array)}",
    "matrix": "save numpy.asarray(value)",
    "recarray": "save value.view(value.dtype.fields or value.dtype, numpy.ndarray)",
}


class ArraySerializer:
    """A numpy array or scalar ↔ one `.npy` file."""

    id = "npy"
    version = 1

    def matches(self, value: object) -> bool:
        return family_of(type(value)) in (Family.ARRAY, Family.SCALAR)

    def dump(self, value: object) -> Dumped:
        check_array(value)
        numpy: Any = sys.modules["numpy"]
        array = numpy.asarray(value)
        dtype, packages = array.dtype, {"numpy"}
        detail: dict[str, Any] = {"dtype": dtype_text(numpy, dtype), "shape": list(array.shape)}
        if family_of(type(value)) is Family.SCALAR:
            detail["scalar"] = True
        descr = detail["dtype"]
        if is_extension(dtype):
            # As np.save writes them; which numbers they are stands in the detail.
            descr = f"<V{dtype.itemsize}"
            packages.add("ml_dtypes")
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        header = _write_header(Header(descr, bool(fortran), array.shape))
        laid = array.T if fortran else array

        def make() -> Iterator[bytes | memoryview]:
            yield header
            yield from array_pieces(numpy, laid)

        source = Moment().source(len(header) + array.nbytes, make)
        return Dumped(
            (PartSource("", source),), type_name(type(value)), versions_of(*sorted(packages)), detail
        )

    def load(self, manifest: Manifest, read: Reader, type: Any = None) -> Any:  # noqa: A002
        numpy = import_numpy()
        part = manifest.parts[0]
        array = _read_array(numpy, read.chunks(part), part.size, manifest.detail)
        if manifest.detail.get("scalar"):
            scalar = array[()]
            return scalar if type is None else _as_type(scalar, type)
        if type is None or type is numpy.ndarray:
            return array
        if type is list and array.ndim:
            return array.tolist()
        raise _wrong_type(f"an array of dtype {array.dtype} and shape {array.shape}", type)


def check_array(value: object) -> None:
    """Refuse what is no array or scalar of numpy itself.

    Raises:
        SerializerError: it is not; says how to make one of it.
    """
    kind = type(value)
    family = family_of(kind)
    if family is Family.SCALAR and not (isinstance(value, str | bytes) and value[-1:] in ("\0", b"\0")):
        return
    if family is Family.SCALAR:
        raise SerializerError(
            f"cannot save value: numpy drops the NUL at the end of {kind.__name__}",
            hint="use str(...) or bytes(...)",
        )
    if family is not Family.ARRAY:
        raise SerializerError(
            f"cannot save value: serializer 'npy' does not save a {shown_type(kind)}",
            hint="leave out serializer=",
        )
    if type_name(kind) in ("numpy.ndarray", "numpy.memmap") or kind.__name__ == "memmap":
        return
    raise SerializerError(
        f"cannot save value: a {shown_type(kind)} is more than its array, and would load as a plain one",
        hint=_HINTS.get(kind.__name__, "save numpy.asarray(value), and what else it holds beside it"),
    )


def _as_type(scalar: Any, kind: Any) -> Any:
    plain = scalar.item()
    if isinstance(kind, type):
        if is_instance(scalar, kind):
            return scalar if kind.__module__ == "numpy" else plain
        if is_instance(plain, kind):
            return plain
    raise _wrong_type(f"a {type(scalar).__name__}", kind)


def _wrong_type(found: str, kind: object) -> SerializerError:
    return SerializerError(
        f"the stored value is {found}, no {shown_type(kind)}",
        hint="load it without type=, or with type=list as plain numbers",
    )


# ---- the file ------------------------------------------------------------------------------------


class Header(NamedTuple):
    """What stands before the elements."""

    descr: str
    """As `dtypes.dtype_text` writes it."""
    fortran_order: bool
    shape: tuple[int, ...]


def _write_header(header: Header) -> bytes:
    descr = parse_descr(header.descr)
    text = f"{{'descr': {descr!r}, 'fortran_order': {header.fortran_order}, 'shape': {header.shape!r}, }}"
    version = 1 if text.isascii() else 3
    length, encoding = _LAYOUTS[version]
    start = len(MAGIC) + 2 + length.size
    data = text.encode(encoding)
    padding = -(start + len(data) + 1) % _ALIGNMENT
    data += b" " * padding + b"\n"
    if len(data) >= HEADER_BYTES_MAX:
        raise SerializerError(
            f"cannot save value: a dtype with {len(data):,} bytes of field names; the limit is {HEADER_BYTES_MAX:,}",
            hint="save a dict of one array per field",
        )
    return MAGIC + bytes((version, 0)) + length.pack(len(data)) + data


def _read_array(numpy: Any, chunks: Iterator[bytes], size: int, detail: dict[str, Any]) -> Any:
    head = b""
    while (end := _header_end(head)) is None or len(head) < end:
        chunk = next(chunks, b"")
        if not chunk:
            raise MalformedError("an .npy part ends in its header", where="value")
        head += chunk
    header = _parse_header(head[:end])
    dtype = numpy_dtype(numpy, header.descr)
    # Counted before anything is allocated: a shape that lies asks for any amount of memory.
    if math.prod(header.shape) * dtype.itemsize != size - end:
        raise MalformedError(
            f"an .npy part of {size:,} bytes says that it holds {header.shape} of {dtype}", where="value"
        )
    array = numpy.empty(header.shape, dtype, order="F" if header.fortran_order else "C")
    if array.nbytes:
        flat = (array.T if header.fortran_order else array).reshape(-1)
        fill(memoryview(flat.view(numpy.uint8)), _behind(head[end:], chunks), where="value")
    name = detail.get("dtype")
    if dtype.kind == "V" and isinstance(name, str) and not name.startswith(("|V", "<V", "[", "(")):
        array = array.view(numpy_dtype(numpy, name))
    return array


def _behind(rest: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield rest
    yield from chunks


def _header_end(head: bytes) -> int | None:
    """Return where the elements begin; None where that cannot be seen yet."""
    start = len(MAGIC) + 2
    if len(head) < start + 4:
        return None
    layout = _LAYOUTS.get(head[len(MAGIC)])
    if head[: len(MAGIC)] != MAGIC or layout is None:
        raise MalformedError("a part does not begin as an .npy file does", where="value")
    (length,) = layout[0].unpack_from(head, start)
    if length > HEADER_BYTES_MAX:
        raise MalformedError(f"an .npy part has a header of {length:,} bytes", where="value")
    return start + layout[0].size + length


def _parse_header(head: bytes) -> Header:
    length, encoding = _LAYOUTS[head[len(MAGIC)]]
    try:
        facts = ast.literal_eval(head[len(MAGIC) + 2 + length.size :].decode(encoding).strip())
        descr, fortran = facts["descr"], facts["fortran_order"]
        shape = msgspec.convert(facts["shape"], tuple[_Count, ...])
        if type(facts["shape"]) is tuple and type(fortran) is bool and len(shape) <= _DIMENSIONS_MAX:
            return Header(descr if isinstance(descr, str) else repr(descr), fortran, shape)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise MalformedError(
            f"an .npy part has a header that cannot be read: {error}", where="value"
        ) from error
    raise MalformedError("an .npy part has a header that makes no sense", where="value")
