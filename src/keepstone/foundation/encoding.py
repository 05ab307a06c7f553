"""Structs to canonical MessagePack and back, with a limit on every size.

Layer: foundation. Canonical means: equal values give equal bytes (map keys sorted), so digests of structs are stable.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from keepstone.foundation.errors import InvalidInputError, MalformedError

T = TypeVar("T")


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return bytes(value)
    raise InvalidInputError(f"cannot be encoded: {value!r}")


# A Digest is a kind of bytes; msgspec takes bytes themselves only.
_ENCODER = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_as_bytes)
_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(value: object) -> bytes:
    """Return `value` (structs, dicts, lists, text, bytes, numbers) as canonical MessagePack."""
    return _ENCODER.encode(value)


def encode_bounded(value: object, *, bytes_max: int, what: str) -> bytes:
    """Return `value` as canonical MessagePack of at most `bytes_max` bytes.

    Raises:
        InvalidInputError: it is longer.
    """
    data = encode(value)
    if len(data) > bytes_max:
        raise InvalidInputError(
            f"{what} takes {len(data):,} bytes; the limit is {bytes_max:,}",
            hint="keep large content in the value itself, or in an artifact of its own",
        )
    return data


def decode(data: bytes | memoryview, kind: type[T], *, what: str, bytes_max: int) -> T:
    """Return the value of type `kind` that `data` encodes.

    Raises:
        MalformedError: too long, not MessagePack, or not of that type.
    """
    if len(data) > bytes_max:
        raise MalformedError(f"{what} is {len(data):,} bytes long; the limit is {bytes_max:,}", where=what)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{what} cannot be read: {error}", where=what) from error
