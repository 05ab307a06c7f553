"""Objects that give and take their own state: `dump_state()` and `load_state(state)`, as DSPy's modules do.

Layer: objects. The state is kept as JSON; one with arrays or tensors in it as those are. It loads as that dict; with
`type=` a class, which is made without arguments, or an instance, as an object that was handed the state.
"""

from __future__ import annotations

from typing import Any, cast

from keepstone.foundation.errors import SerializerError
from keepstone.foundation.format import Form
from keepstone.objects.families import holds_tensors
from keepstone.objects.manifest import Manifest
from keepstone.objects.models import decode_json, shown_type, type_name
from keepstone.objects.plain import encode_value
from keepstone.objects.roundtrip import encode_checked
from keepstone.objects.serializer import Dumped, PartSource, Reader, Source
from keepstone.objects.tensors import TensorSerializer


class StateSerializer:
    """The state of an object, not the object: no code, and no class, is kept."""

    id = "state"
    version = 1
    _tensors = TensorSerializer()

    def matches(self, value: object) -> bool:
        return not isinstance(value, type) and _has_state(type(value))

    def dump(self, value: object) -> Dumped:
        kind = type(value)
        if not self.matches(value):
            raise SerializerError(
                f"cannot save value: {shown_type(kind)} has no dump_state() and load_state()",
                hint="leave out serializer=",
            )
        state = cast(Any, value).dump_state()
        if holds_tensors(state):
            return self._tensors.dump(state)._replace(type_name=type_name(kind))
        try:
            encoded = encode_value(state)
            if encoded is None:
                # Says what in it has no JSON form, and where.
                encode_checked(state)
        except SerializerError as error:
            raise SerializerError(
                f"{error.message}, in the state of {shown_type(kind)}",
                hint=f"dump_state() must give what JSON can keep; {error.hint}",
            ) from error
        if encoded is None or encoded[0] != Form.JSON:
            raise SerializerError(
                f"cannot save value: {shown_type(kind)}.dump_state() gives a {shown_type(type(cast(object, state)))}",
                hint="let dump_state() give a dict of what JSON can keep, and of arrays",
            )
        return Dumped((PartSource("", Source.of_bytes(encoded[1])),), type_name(kind), {}, {})

    def load(self, manifest: Manifest, read: Reader, type: Any = None) -> Any:  # noqa: A002
        # An instance has them too.
        if not _has_state(type):
            return self._load_state(manifest, read, type)
        target = _made(type) if isinstance(type, _Class) else type
        target.load_state(self._load_state(manifest, read, None))
        return target

    def _load_state(self, manifest: Manifest, read: Reader, type: Any) -> Any:  # noqa: A002
        if any(part.path for part in manifest.parts):
            return self._tensors.load(manifest, read, type)
        return decode_json(read(manifest.parts[0]), type)


_Class = type
"""`type` itself, where a parameter has that name."""


def _made(kind: Any) -> Any:
    try:
        return kind()
    except TypeError as error:
        raise SerializerError(
            f"{shown_type(kind)} cannot be made without arguments: {error}",
            hint="make one yourself, and pass it: type=your_object",
        ) from error


def _has_state(kind: Any) -> bool:
    return callable(getattr(kind, "dump_state", None)) and callable(getattr(kind, "load_state", None))
