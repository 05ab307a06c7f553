"""The built-in serializers, in the order in which they are asked; YAML, MessagePack and pickle by name only.

Layer: objects. A file loads as its bytes (`type=str`: as text); a folder is checked out rather than
loaded, or loaded with `type=dict` as path → bytes, which drops links, empty folders and the executable
bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, cast

from keepstone.foundation.errors import SerializerError
from keepstone.foundation.format import Form
from keepstone.objects.folder_items import FolderItems, files_of
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.models import fields_of, json_schema_of, shown_type, type_name
from keepstone.objects.pickled import PickleSerializer
from keepstone.objects.plain import decode_value, encode_value, is_json_like
from keepstone.objects.registry import Later, Registry
from keepstone.objects.serializer import (
    Declined,
    Dumped,
    PartSource,
    ReadParts,
    Serializer,
    Source,
)
from keepstone.objects.trees import walk_file, walk_folder

_NAMES: Final = {Form.BYTES: "bytes", Form.TEXT: "text", Form.JSON: "json"}
_BYTE_KINDS: Final = frozenset({bytes, bytearray, memoryview})


class PlainSerializer:
    """One form of `objects.plain` as an artifact of one part."""

    version = 1

    def __init__(self, form: Form) -> None:
        self.id = _NAMES[form]
        self._form = form

    def matches(self, value: object) -> bool:
        if self._form == Form.JSON:
            return is_json_like(value)
        return type(value) is str if self._form == Form.TEXT else type(value) in _BYTE_KINDS

    def dump(self, value: object) -> Dumped:
        encoded = encode_value(value)
        if encoded is None and self._form == Form.JSON and is_json_like(value):
            raise Declined(
                "cannot save value: serializer 'json' saves no arrays and no tensors",
                hint="leave out serializer=",
            )
        if encoded is None or encoded[0] != self._form:
            raise SerializerError(
                f"cannot save value: serializer {self.id!r} does not save a {shown_type(type(value))}",
                hint="leave out serializer=",
            )
        schema = json_schema_of(type(value)) if self._form == Form.JSON else None
        detail = {"schema": schema} if schema else {}
        return Dumped((PartSource("", Source.of_bytes(encoded[1])),), _loaded_name(value), {}, detail)

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        return decode_value(self._form, read(manifest.parts[0]), type)


def _loaded_name(value: object) -> str:
    """Name what loads: equal content is one artifact, whether it came as a list or as a tuple."""
    kind = type(value)
    if fields_of(kind) is not None:
        return type_name(kind)
    if kind in _BYTE_KINDS:
        return "bytes"
    return "list" if kind is tuple else "dict" if isinstance(value, dict) else type_name(kind)


class FileSerializer:
    """One file, with its name and executable bit."""

    id = "file"
    version = 1

    def matches(self, value: object) -> bool:
        return isinstance(value, os.PathLike) and not os.path.isdir(cast("os.PathLike[str]", value))

    def dump(self, value: object) -> Dumped:
        return Dumped((walk_file(cast("os.PathLike[str]", value)),), "file", {}, {})

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        if type is str:
            return decode_value(Form.TEXT, read(manifest.parts[0]))
        return decode_value(Form.BYTES, read(manifest.parts[0]), type)


class FolderSerializer:
    """A folder and all below it; links are kept as links."""

    id = "folder"
    version = 1

    def matches(self, value: object) -> bool:
        return isinstance(value, os.PathLike) and os.path.isdir(cast("os.PathLike[str]", value))

    def dump(self, value: object) -> Dumped:
        return Dumped(tuple(walk_folder(cast("os.PathLike[str]", value))), "folder", {}, {})

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        if type is not dict:
            raise SerializerError(
                f"a folder of {len(manifest.parts):,} parts is no single value",
                hint="use checkout(folder), items(), open one file of it, or load it with type=dict as path → bytes",
            )
        return {part.path: read(part) for part in files_of(manifest)}

    def open(self, manifest: Manifest, read: ReadParts) -> FolderItems:
        return FolderItems(manifest, read)


def _arrays() -> Serializer:
    from keepstone.objects.arrays import ArraySerializer

    return ArraySerializer()


def _tables() -> Serializer:
    from keepstone.objects.tables import TableSerializer

    return TableSerializer()


def _figures() -> Serializer:
    from keepstone.objects.figures import FigureSerializer

    return FigureSerializer()


def _states() -> Serializer:
    from keepstone.objects.stateful import StateSerializer

    return StateSerializer()


def _tensors() -> Serializer:
    from keepstone.objects.tensors import TensorSerializer

    return TensorSerializer()


def _notation(id: str) -> Serializer:  # noqa: A002
    from keepstone.objects.plain_forms import NotationSerializer

    return NotationSerializer(id)


def standard_registry() -> Registry:
    """Return a new registry of the built-in serializers.

    JSON takes every dict and list before tensors are looked for: most hold none, and looking costs as much as encoding.
    """
    serializers: list[Serializer | Later] = [
        PlainSerializer(Form.BYTES),
        PlainSerializer(Form.TEXT),
        FileSerializer(),
        FolderSerializer(),
        Later("npy", _arrays, libraries=("numpy",)),
        Later("arrow", _tables, libraries=("pandas", "polars", "pyarrow"), method="__arrow_c_stream__"),
        Later("figure", _figures, libraries=("matplotlib", "plotly", "PIL")),
        Later("state", _states, method="dump_state"),
        PlainSerializer(Form.JSON),
        Later("tensors", _tensors, libraries=("numpy", "torch")),
        Later("yaml", lambda: _notation("yaml")),
        Later("msgpack", lambda: _notation("msgpack")),
        PickleSerializer(),
    ]
    return Registry(serializers)
