"""One tensor of a stored structure: where its bytes are, what they are, and building it.

Layer: objects. Format: docs/format.md §15.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.dtypes import TORCH_DTYPES, numpy_dtype
from keepstone.objects.families import import_numpy, import_torch
from keepstone.objects.manifest import Part
from keepstone.objects.memory import fill
from keepstone.objects.serializer import Reader
from keepstone.objects.tensor_tree import STRUCTURE_PATH


class TensorRecord(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Where and what one tensor is."""

    part: str
    kind: Literal["array", "scalar", "tensor", "parameter"]
    dtype: str
    shape: list[int]
    offset: int | None = None
    """Of the first element in a part that several share; None: the part is this tensor, in C order."""
    strides: list[int] | None = None
    """As bytes; with `offset`."""
    requires_grad: bool = False


class Structure(msgspec.Struct, forbid_unknown_fields=True):
    """The content of `structure.json`."""

    tensors: list[TensorRecord]
    tree: Any


def read_structure(parts: dict[str, Part], read: Callable[[Part], bytes]) -> Structure:
    """Return what `structure.json` says.

    Raises:
        MalformedError: it is not there, or no such thing.
    """
    part = parts.get(STRUCTURE_PATH)
    if part is None:
        raise MalformedError(f"there is no part {STRUCTURE_PATH}", where=STRUCTURE_PATH)
    try:
        return msgspec.json.decode(read(part), type=Structure)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{STRUCTURE_PATH} cannot be read: {error}", where=STRUCTURE_PATH) from error


class TensorBuilder:
    """Builds each tensor once, and reads each part once."""

    def __init__(
        self, structure: Structure, parts: dict[str, Part], read: Reader, *, as_arrays: bool
    ) -> None:
        self._records = structure.tensors
        self._parts = parts
        self._read = read
        self._as_arrays = as_arrays
        self._numpy = import_numpy() if self._records else None
        self._built: dict[int, Any] = {}
        self._shared: dict[str, Any] = {}

    def give(self, number: Any) -> Any:
        """Return tensor `number` of the structure.

        Raises:
            MalformedError: there is none, or what the structure says of it cannot be.
            SerializerError: what it is built with is not installed.
        """
        if type(number) is not int or not 0 <= number < len(self._records):
            raise MalformedError(f"there is no tensor {number!a}", where=STRUCTURE_PATH)
        if number not in self._built:
            self._built[number] = self._build(self._records[number])
        return self._built[number]

    def _build(self, record: TensorRecord) -> Any:
        part = self._parts.get(record.part)
        if part is None or part.path == STRUCTURE_PATH or any(count < 0 for count in record.shape):
            raise _lie(record)
        is_torch = record.kind in ("tensor", "parameter")
        if is_torch and not self._as_arrays:
            return self._build_tensor(record, part)
        numpy: Any = self._numpy
        dtype = numpy_dtype(numpy, record.dtype)
        if record.offset is not None:
            array = self._view_array(record, dtype, self._memory(part))
        else:
            if math.prod(record.shape) * dtype.itemsize != part.size:
                raise _lie(record)
            array = numpy.empty(record.shape, dtype)
            self._fill(array, part)
        return array[()] if record.kind == "scalar" else array

    def _view_array(self, record: TensorRecord, dtype: Any, memory: Any) -> Any:
        try:
            return self._numpy.ndarray(  # pyright: ignore[reportOptionalMemberAccess]
                tuple(record.shape), dtype, memory, record.offset, tuple(record.strides or ())
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise _lie(record) from error

    def _build_tensor(self, record: TensorRecord, part: Part) -> Any:
        torch = import_torch()
        if record.dtype not in TORCH_DTYPES:
            raise _lie(record)
        dtype = getattr(torch, record.dtype, None)
        if dtype is None:
            raise SerializerError(
                f"the installed torch {torch.__version__} has no dtype {record.dtype}",
                hint="pip install -U torch",
            )
        empty = torch.empty(0, dtype=dtype)
        size = empty.element_size()
        if record.offset is None:
            if math.prod(record.shape) * size != part.size:
                raise _lie(record)
            tensor = torch.empty(record.shape, dtype=dtype)
            if part.size:
                raw = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage(), 0, (part.size,), (1,))
                self._fill(raw.numpy(), part)
        else:
            strides = record.strides or []
            memory = torch.from_numpy(self._memory(part))
            end = (
                record.offset
                + size
                + sum((n - 1) * step for n, step in zip(record.shape, strides, strict=False))
            )
            whole = all(step >= 0 and step % size == 0 for step in [*strides, record.offset])
            # torch itself would make the memory larger, until it fits.
            if len(strides) != len(record.shape) or 0 in record.shape or not whole or end > part.size:
                raise _lie(record)
            steps = [step // size for step in strides]
            tensor = empty.set_(memory.untyped_storage(), record.offset // size, record.shape, steps)
        if record.kind == "parameter":
            return torch.nn.Parameter(tensor, requires_grad=record.requires_grad)
        return tensor.requires_grad_(record.requires_grad)

    def _memory(self, part: Part) -> Any:
        """Return the bytes of a part that several tensors share, as an array that can be written to."""
        if part.path not in self._shared:
            memory: Any = cast(Any, self._numpy).empty(part.size, "u1")
            self._fill(memory, part)
            self._shared[part.path] = memory
        return self._shared[part.path]

    def _fill(self, array: Any, part: Part) -> None:
        raw = array.reshape(-1).view("u1") if part.size else array.reshape(-1)[:0]
        target = memoryview(raw) if part.size else memoryview(bytearray())
        fill(target, self._read.chunks(part), where=part.path)


def _lie(record: TensorRecord) -> MalformedError:
    return MalformedError(
        f"{STRUCTURE_PATH} says of part {record.part[:80]!a} what cannot be: {record.dtype[:40]} {record.shape}",
        where=STRUCTURE_PATH,
    )
