"""Values of records: plain JSON types, and one canonical encoding of them.

Layer: workflows. What `plain` returns is exactly what a record gives back when it is loaded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError, SerializerError
from keepstone.foundation.format import KEY_BYTES_MAX, Form
from keepstone.foundation.names import check_key
from keepstone.objects.plain import encode_value, refuse_tensors

_CANONICAL = msgspec.json.Encoder(order="deterministic")


def plain(value: object, what: str) -> Any:
    """Return `value` as a fresh copy made of dicts, lists, text, numbers, booleans and None.

    Raises:
        SerializerError: it holds something that would not load as it is; `what` names it in the message.
    """
    if value is None or isinstance(value, (bool, str)):
        encode_value(value)
        return value
    encoded = encode_value(value)
    if encoded is None or encoded[0] != Form.JSON:
        refuse_tensors(value)
        raise SerializerError(
            f"{what} is of type {type(value).__name__}, which a record cannot hold",
            hint="use dicts, lists, text, numbers, dataclasses or structs; save other values with store.save",
        )
    return msgspec.json.decode(encoded[1])


def canonical(value: object) -> bytes:
    """Return the one JSON encoding of a plain value: keys sorted, no spaces; 1 and 1.0 differ."""
    return _CANONICAL.encode(value)


def canonical_digest(value: object) -> str:
    """Return the digest (`b3:…`) of the canonical encoding of a plain value."""
    return str(Digest.of(canonical(value)))


def same(one: object, other: object) -> bool:
    """Whether two plain values are equal as JSON, so that 1, 1.0 and True are three values."""
    return canonical(one) == canonical(other)


def key_text(value: object, where: str) -> str:
    """Return the key of a record for what a key field holds: text as it is, numbers as JSON.

    Text above the limit of a key (4 KiB) is keyed by its digest.

    Raises:
        InvalidInputError: neither text nor a number, or empty.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InvalidInputError(
            f"{where}: the key is {_shown_kind(value)}, not text or a number",
            hint="name another field as the key; keepstone run without --key uses the digest of the line",
        )
    text = value if isinstance(value, str) else canonical(value).decode()
    if not text:
        raise InvalidInputError(
            f"{where}: the key is empty", hint="name a field that is different for each item"
        )
    return short_key(text)


def short_key(text: str) -> str:
    """Return `text` if it can be a key, else its digest where it is too long for one."""
    if 4 * len(text) > KEY_BYTES_MAX:
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > KEY_BYTES_MAX:
            return str(Digest.of(data))
    return check_key(text)


def _shown_kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    return (
        "an object"
        if isinstance(value, dict)
        else "a list"
        if isinstance(value, list)
        else type(value).__name__
    )
