"""Dicts, lists and tuples that hold numpy arrays or torch tensors, and single torch tensors: a part for each tensor.

Layer: objects. Format: docs/format.md §15. A tensor's part is its bytes and nothing else, so equal tensors are one
blob, whatever they lie in. What loads is what was saved, on the CPU; `type=dict` gives numpy arrays for torch's
tensors, and needs no torch.
"""

from __future__ import annotations

import sys
import typing
from typing import Any

import msgspec

from keepstone.foundation.errors import SerializerError
from keepstone.objects.families import holds_tensors, import_numpy
from keepstone.objects.libraries import versions_of
from keepstone.objects.manifest import Manifest
from keepstone.objects.memory import Moment
from keepstone.objects.models import is_instance, shown_type, type_name
from keepstone.objects.serializer import Dumped, PartSource, Reader, ReadParts, Source
from keepstone.objects.tensor_items import TensorItems, open_items
from keepstone.objects.tensor_memory import Held, blocks_of, hold
from keepstone.objects.tensor_records import Structure, TensorBuilder, TensorRecord, read_structure
from keepstone.objects.tensor_tree import STRUCTURE_PATH, Keys, build_tree, encode_tree, part_path


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
        return Dumped(tuple(parts), _loaded_name(value), versions_of(*sorted(packages)), detail)

    def open(self, manifest: Manifest, read: ReadParts) -> TensorItems:
        """Return the items of a dict; the tensors in it are read when they are asked for."""
        return open_items(manifest, read)

    def load(self, manifest: Manifest, read: Reader, type: Any = None) -> Any:  # noqa: A002
        parts = {part.path: part for part in manifest.parts}
        structure = read_structure(parts, read)
        wanted = typing.get_origin(type) or type
        numpy: Any = sys.modules.get("numpy")
        # Asked for plain containers, or for an array: no torch then.
        as_arrays = wanted in (dict, list, tuple) or (numpy is not None and wanted is numpy.ndarray)
        builder = TensorBuilder(structure, parts, read, as_arrays=as_arrays)
        value: Any = build_tree(structure.tree, builder.give)
        if type is not None and not is_instance(value, wanted):
            raise SerializerError(
                f"the stored value is a {manifest.type_name}, no {shown_type(type)}",
                hint="load it without type=, or with type=dict for numpy arrays",
            )
        return value


def _loaded_name(value: object) -> str:
    """Name what loads: a defaultdict or a Counter comes back as a dict."""
    kind = type(value)
    return "dict" if kind.__name__ in ("defaultdict", "Counter") else type_name(kind)
