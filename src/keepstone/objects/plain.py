"""Small values as one run of bytes: bytes, text and JSON.

Layer: objects. The hot path of collections. What `decode_value` gives equals what `encode_value` took,
but for the documented changes (bytearray and memoryview load as bytes, tuples as lists, instances as
dicts unless `type` is named); anything else is refused when it is saved.

Object keys keep their insertion order, since that is what users see at load; so dicts with equal content
in another order are different bytes and have different digests.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from keepstone.foundation.errors import InvalidInputError, MalformedError, SerializerError
from keepstone.foundation.format import Form
from keepstone.objects.families import holds_tensors
from keepstone.objects.models import decode_json, fields_of, shown_type
from keepstone.objects.roundtrip import Problem, encode_checked, is_plain, too_deep

_encode = msgspec.json.Encoder().encode
_JSON: Final = Form.JSON
"""Looked up once: reaching into an enum costs more than it seems, and this runs for every saved item."""
_JSON_KINDS: Final = frozenset({dict, list, tuple, int, float, bool, type(None)})
_DICT_KINDS: Final = frozenset({"OrderedDict", "defaultdict", "Counter"})
_BYTE_FORMATS: Final = frozenset({"B", "b", "c"})


def encode_value(value: object) -> tuple[Form, bytes] | None:
    """Return the form and bytes of `value`; None where it is of no such kind and needs a manifest.

    Raises:
        SerializerError: it is JSON-like, but holds something that would not load as it is; names the place.
    """
    kind = type(value)
    if kind in _JSON_KINDS:
        try:
            if is_plain(value):
                return _JSON, _encode(value)
        except (ValueError, TypeError, OverflowError, RuntimeError):
            # Encoding step by step, as for other values, finds the place.
            pass
        if holds_tensors(value):
            return None
        return Form.JSON, _encode_carefully(value)
    if kind is str:
        return Form.TEXT, _encode_text(cast(str, value))
    if kind is bytes:
        return Form.BYTES, cast(bytes, value)
    if kind is bytearray or kind is memoryview:
        return Form.BYTES, _copy_bytes(cast("bytearray | memoryview", value))
    if not is_json_like(value) or (fields_of(kind) is None and holds_tensors(value)):
        return None
    return Form.JSON, _encode_carefully(value)


def refuse_tensors(value: object) -> None:
    """Say where in a JSON-like `value` that `encode_value` left to a manifest the first array or tensor is.

    Raises:
        SerializerError: always, where there is one.
    """
    if is_json_like(value):
        _encode_carefully(value)


def _encode_carefully(value: object) -> bytes:
    try:
        return encode_checked(value)
    except RecursionError as error:
        raise too_deep() from error


def is_json_like(value: object) -> bool:
    """Whether `value` is of a kind that is saved as JSON; what it holds is not looked at."""
    kind = type(value)
    return (
        kind in _JSON_KINDS
        or fields_of(kind) is not None
        or (kind.__module__ == "collections" and kind.__name__ in _DICT_KINDS)
    )


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        shown = ascii(text[max(error.start - 20, 0) : error.end + 20])
        problem = Problem(
            f"character {error.start:,}", f"text with a lone surrogate, {shown},", "decode it properly"
        )
        raise problem.error() from error


def _copy_bytes(value: bytearray | memoryview) -> bytes:
    if isinstance(value, memoryview) and (value.format not in _BYTE_FORMATS or value.ndim != 1):
        raise SerializerError(
            f"cannot save value: bytes keep neither format {value.format!r} nor shape of a memoryview",
            hint="save value.tobytes(), or the array that it is a view of",
        )
    return bytes(value)


def decode_value(form: Form, data: bytes | memoryview, type: Any = None) -> Any:  # noqa: A002
    """Return the value that `encode_value` made `data` of; always a fresh copy.

    `type` builds and validates: a dataclass, `msgspec.Struct`, attrs or pydantic class, or an annotation such
    as `list[Answer]`; without it JSON gives dicts, lists and scalars.

    Raises:
        SerializerError: the value is no `type`; says what was found where.
        MalformedError: `data` is not of that form.
    """
    if form == _JSON:
        return decode_json(data, type)
    if form == Form.BYTES:
        if type is None or type is bytes:
            return bytes(data)
        if type is bytearray:
            return bytearray(data)
        raise _wrong_type("bytes", type)
    if form == Form.TEXT:
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError(f"a text value cannot be read: {error}", where="value") from error
        if type is None or type is str:
            return text
        raise _wrong_type("text", type)
    raise InvalidInputError(
        f"form {form!r} is not one of bytes, text and JSON", hint="read it through its manifest"
    )


def _wrong_type(found: str, kind: object) -> SerializerError:
    return SerializerError(
        f"the stored value is {found}, no {shown_type(kind)}",
        hint="load it without type=, or pass the type that it was saved as",
    )
