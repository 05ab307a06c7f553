"""Classes with fields (msgspec, dataclasses, attrs, pydantic) to JSON, and back when the caller asks.

Layer: objects. pydantic and attrs are never imported here: a class is recognised by what its library put
on it. A class is built only because the caller passed it, never because a store names it.
What an instance holds beside its fields (private attributes, caches) is not kept.
"""

from __future__ import annotations

import functools
from typing import Any, Final, cast

import msgspec

from keepstone.foundation.errors import MalformedError, SerializerError

_ENCODER = msgspec.json.Encoder()
SCHEMA_BYTES_MAX: Final = 32 * 1024
"""A larger JSON Schema is not kept beside a value; it would often be larger than the value."""
_CONTENT_KINDS: Final = frozenset({dict, list, tuple, set, frozenset, str, bytes, int, float})


@functools.lru_cache(maxsize=512)
def fields_of(kind: type) -> tuple[str, ...] | None:
    """Return the names of the fields that `kind` keeps; None where it is no class of the four families."""
    given = cast(Any, kind)
    # A dataclass that is also a dict would be written as the one and lose the other.
    if not _CONTENT_KINDS.isdisjoint(kind.__mro__):
        return None
    if hasattr(kind, "__struct_fields__"):
        return tuple(given.__struct_fields__)
    if is_pydantic(kind) and hasattr(kind, "model_fields"):
        return tuple(given.model_fields)
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        return tuple(field.name for field in dataclasses.fields(given))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in given.__attrs_attrs__)
    return None


@functools.lru_cache(maxsize=512)
def json_schema_of(kind: type) -> dict[str, Any] | None:
    """Return the JSON Schema of a pydantic model; None for other classes, and where it has none or a very large one."""
    make = getattr(kind, "model_json_schema", None)
    if make is None or not is_pydantic(kind):
        return None
    try:
        # By way of JSON, so that it holds nothing else, such as a default that is no JSON.
        data = _ENCODER.encode(make())
    except Exception:
        # Whatever a class makes of its own schema: its values can be saved without.
        return None
    return _decode(data) if len(data) <= SCHEMA_BYTES_MAX else None


def is_pydantic(kind: object) -> bool:
    """Whether `kind` is a pydantic model (or pydantic dataclass)."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def is_instance(value: object, kind: Any) -> bool:
    """Whether `value` is a `kind`; never where that is nothing that can be asked, as a TypedDict."""
    try:
        return isinstance(value, kind)
    except TypeError:
        return False


def type_name(kind: type) -> str:
    """Return how a manifest names `kind`; for people, never imported."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def shown_type(kind: object) -> str:
    """Return `kind` (a class, or an annotation such as list[Answer]) for a message."""
    return kind.__qualname__ if isinstance(kind, type) and not hasattr(kind, "__origin__") else str(kind)


# ---- to JSON -------------------------------------------------------------------------------------


def encode_json(value: object) -> bytes:
    """Return `value` as JSON, object keys in insertion order.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: something in it has no JSON form;
            the caller says what and where.
    """
    try:
        return _ENCODER.encode(value)
    except TypeError:
        # A second encoder, since one with a hook is slower on values that never need it.
        return _encoder_with_hook().encode(value)


@functools.lru_cache(maxsize=1)
def _encoder_with_hook() -> msgspec.json.Encoder:
    return msgspec.json.Encoder(enc_hook=_encode_foreign)


def _encode_foreign(value: object) -> object:
    if is_pydantic(type(value)) and hasattr(value, "model_dump"):
        return msgspec.Raw(_encode_pydantic(value))
    raise TypeError(f"objects of type {shown_type(type(value))} have no JSON form")


def _encode_pydantic(value: object) -> bytes:
    model = cast(Any, value)
    data = b""
    # Aliased fields are validated by alias, by name or by both; what validates again is what was meant.
    for by_alias in (False, True):
        # Warnings would repeat what the round trip check finds anyway, as an error.
        plain = model.model_dump(mode="json", round_trip=True, by_alias=by_alias, warnings=False)
        data = _ENCODER.encode(plain)
        try:
            cast(Any, type(value)).model_validate_json(data)
        except ValueError:
            continue
        return data
    return data


# ---- from JSON -----------------------------------------------------------------------------------


_decode: Final = msgspec.json.Decoder().decode


def decode_json(data: bytes | memoryview, kind: object = None) -> Any:
    """Return the value that `data` encodes: plain dicts, lists and scalars, or a validated `kind`.

    Raises:
        MalformedError: not JSON.
        SerializerError: JSON, but no `kind`; says what was found where.
    """
    try:
        if kind is None:
            return _decode(data)
        if is_pydantic(kind):
            return _decode_pydantic(bytes(data), kind)
        return _decoder_of(kind).decode(data)
    except msgspec.ValidationError as error:
        raise SerializerError(
            f"the stored value is no {shown_type(kind)}: {error}",
            hint="load it without type= to see what was stored, or pass the type that it was saved as",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"a JSON value cannot be read: {error}", where="value") from error
    except RecursionError as error:
        raise SerializerError(
            "the stored value is nested too deeply to be read from here",
            hint="load it from a place with fewer nested calls, or raise sys.setrecursionlimit",
        ) from error


def _decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    try:
        return _cached_decoder(kind)
    except SerializerError:
        raise
    except TypeError:
        # Annotations with unhashable metadata cannot be a key of the cache.
        return _make_decoder(kind)


def _make_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    try:
        return msgspec.json.Decoder(kind, dec_hook=_decode_foreign)
    except Exception as error:
        raise SerializerError(
            f"{shown_type(kind)} cannot be built from JSON: {error}",
            hint="annotate every field with a type that JSON can express, defined at the top of its module",
        ) from error


_cached_decoder = functools.lru_cache(maxsize=512)(_make_decoder)


def _decode_foreign(kind: type, plain: object) -> object:
    if is_pydantic(kind):
        return _decode_pydantic(_ENCODER.encode(plain), kind)
    # msgspec makes a ValidationError of it, which says where; of other errors it makes none.
    raise TypeError(f"{shown_type(kind)} cannot be built from JSON")


def _decode_pydantic(data: bytes, kind: Any) -> Any:
    validate = getattr(kind, "model_validate_json", None) or kind.__pydantic_validator__.validate_json
    try:
        return validate(data)
    except ValueError as error:
        raise SerializerError(
            f"the stored value is no {shown_type(kind)}: {_pydantic_message(error)}",
            hint="load it without type= to see what was stored, or pass the type that it was saved as",
        ) from error


def _pydantic_message(error: ValueError) -> str:
    listing = getattr(error, "errors", None)
    if listing is None:
        return str(error)
    first = listing()[0]
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    return f"{first['msg']} - at `{path}`"
