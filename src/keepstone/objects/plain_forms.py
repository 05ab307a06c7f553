"""YAML and MessagePack on request: the values that JSON takes, written in another notation.

Layer: objects. `serializer="yaml"` is for content that people read and compare, `"msgpack"` for what other programs
read. What is kept is what JSON would keep, under the same checks; it is read back and compared before it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.foundation.format import Form
from keepstone.objects.libraries import import_library
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.models import decode_json, encode_json, fields_of, shown_type, type_name
from keepstone.objects.plain import encode_value, refuse_tensors
from keepstone.objects.roundtrip import first_difference, is_plain
from keepstone.objects.serializer import Dumped, PartSource, Source

_SHOWN: Final = {"yaml": "YAML", "msgpack": "MessagePack"}


class NotationSerializer:
    """Plain values in the notation that the caller named."""

    version = 1

    def __init__(self, id: str) -> None:  # noqa: A002
        self.id = id

    def matches(self, value: object) -> bool:
        return False

    def dump(self, value: object) -> Dumped:
        plain = self._plain(value)
        try:
            data = _encode_yaml(plain) if self.id == "yaml" else msgspec.msgpack.encode(plain)
            same = first_difference(plain, self._decode(data))
        except (OverflowError, ValueError, MalformedError) as error:
            raise SerializerError(
                f"cannot save value: {_SHOWN[self.id]} cannot hold it: {error}",
                hint="leave out serializer= to save it as JSON",
            ) from error
        if same is not None:
            raise SerializerError(
                f"cannot save value: {_SHOWN[self.id]} would change what stands at ${same}",
                hint="leave out serializer= to save it as JSON",
            )
        shown: object = value if fields_of(type(value)) is not None else plain
        return Dumped((PartSource("", Source.of_bytes(data)),), type_name(type(shown)), {}, {})

    def _plain(self, value: object) -> Any:
        encoded = encode_value(value)
        if encoded is None:
            refuse_tensors(value)
        if encoded is None or encoded[0] == Form.BYTES:
            raise SerializerError(
                f"cannot save value: serializer {self.id!r} does not save a {shown_type(type(value))}",
                hint="leave out serializer=",
            )
        return value if encoded[0] == Form.TEXT else decode_json(encoded[1])

    def _decode(self, data: bytes) -> Any:
        return _decode_yaml(data) if self.id == "yaml" else msgspec.msgpack.decode(data)

    def load(self, manifest: Manifest, read: Callable[[Part], bytes], type: Any = None) -> Any:  # noqa: A002
        try:
            plain = self._decode(read(manifest.parts[0]))
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            raise MalformedError(
                f"a {_SHOWN[self.id]} value cannot be read: {error}", where="value"
            ) from error
        if not is_plain(plain):
            # Keys of numbers, raw bytes, dates: not ours.
            raise MalformedError(f"a {_SHOWN[self.id]} value holds what JSON has not", where="value")
        return plain if type is None else decode_json(encode_json(plain), type)


def _encode_yaml(plain: Any) -> bytes:
    import_library("yaml", "YAML is written with it", instead="or leave out serializer= to save it as JSON")
    return msgspec.yaml.encode(plain)


def _decode_yaml(data: bytes) -> Any:
    yaml = import_library("yaml", "this was saved as YAML", instead="then load it again")
    # A few lines in which each repeats the one before stand for gigabytes. Nothing here writes such repeats.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=loader)):
            raise MalformedError("a YAML value repeats a part of itself by reference", where="value")
    except yaml.YAMLError as error:
        raise MalformedError(f"a YAML value cannot be read: {error}", where="value") from error
    return msgspec.yaml.decode(data)
