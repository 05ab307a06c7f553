"""Dicts, lists and tuples that hold numpy arrays or torch tensors, and single torch tensors: a part for each tensor.

Layer: objects. Format: docs/format.md §15. A tensor's part is its bytes and nothing else, so equal tensors are one
blob, whatever they lie in. What loads is what was saved, on the CPU; `type=dict` gives numpy arrays for torch's
tensors, and needs no torch.
"""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.dtypes import TORCH_DTYPES, numpy_dtype
from keepstone.objects.families import holds_tensors, import_numpy, import_torch, versions_of
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.memory import Moment, fill
from keepstone.objects.models import shown_type, type_name
from keepstone.objects.serializer import Dumped, PartSource, Reader, Source
from keepstone.objects.tensor_memory import Held, blocks_of, hold
from keepstone.objects.tensor_tree import STRUCTURE_PATH, Keys, build_tree, encode_tree, part_path

_kind_of: Callable[[Any], type[Any]] = type


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


class TensorSerializer:
    """Containers of tensors ↔ a part for each tensor, and one for the structure."""

    id = "tensors"
    version = 1

    def matches(self, value: object) -> bool:
        return holds_tensors(value)

    def dump(self, value: object) -> Dumped:
        tensors: list[Held] = []
        names: list[Keys] = []
        known: dict[int, int] = {}

        def take(tensor: object, keys: Keys, path: str) -> int:
            number = known.get(id(tensor))
            if number is None:
                number = known[id(tensor)] = len(tensors)
                tensors.append(hold(tensor, path))
                names.append(keys)
            return number

        tree = encode_tree(value, take)
        packages = {package for held in tensors for package in held.packages}
        if packages:
            # What torch gives is read through numpy.
            import_numpy()
        records: dict[int, TensorRecord] = {}
        parts: list[PartSource] = []
        moment = Moment()
        for block in blocks_of(tensors):
            path = part_path(names[block.members[0]])
            parts.append(PartSource(path, moment.source(block.size, block.make)))
            for number in block.members:
                held = tensors[number]
                record = TensorRecord(path, held.kind, held.dtype, list(held.shape))  # pyright: ignore[reportArgumentType]
                record.requires_grad = held.requires_grad
                if block.is_shared:
                    record.offset, record.strides = held.address - block.low, list(held.strides)
                records[number] = record
        structure = Structure([records[number] for number in range(len(tensors))], tree)
        parts.append(PartSource(STRUCTURE_PATH, Source.of_bytes(msgspec.json.encode(structure))))
        detail = {"tensors": len(tensors)}
        return Dumped(tuple(parts), _loaded_name(value), versions_of(packages), detail)

    def load(self, manifest: Manifest, read: Reader, type: Any = None) -> Any:  # noqa: A002
        parts = {part.path: part for part in manifest.parts}
        structure = _read_structure(parts, read)
        wanted = typing.get_origin(type) or type
        numpy: Any = sys.modules.get("numpy")
        # Asked for plain containers, or for an array: no torch then.
        as_arrays = wanted in (dict, list, tuple) or (numpy is not None and wanted is numpy.ndarray)
        builder = _Builder(structure, parts, read, as_arrays=as_arrays)
        value: Any = build_tree(structure.tree, builder.give)
        if type is not None and not (isinstance(wanted, _kind_of(object)) and isinstance(value, wanted)):
            raise SerializerError(
                f"the stored value is a {manifest.type_name}, no {shown_type(type)}",
                hint="load it without type=, or with type=dict for numpy arrays",
            )
        return value


def _loaded_name(value: object) -> str:
    """Name what loads: a defaultdict or a Counter comes back as a dict."""
    kind = _kind_of(value)
    return "dict" if kind.__name__ in ("defaultdict", "Counter") else type_name(kind)


def _read_structure(parts: dict[str, Part], read: Reader) -> Structure:
    part = parts.get(STRUCTURE_PATH)
    if part is None:
        raise MalformedError(f"there is no part {STRUCTURE_PATH}", where=STRUCTURE_PATH)
    try:
        return msgspec.json.decode(read(part), type=Structure)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{STRUCTURE_PATH} cannot be read: {error}", where=STRUCTURE_PATH) from error


class _Builder:
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
