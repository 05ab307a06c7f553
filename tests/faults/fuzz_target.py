"""A decoder to fuzz, valid bytes for it, and how input is made of them.

What `fuzz_mutations` makes of bytes, sealed again: so that it passes the checks and reaches what lies behind them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.fuzz_mutations import mutated, restructured

from keepstone.foundation.format import Kind
from keepstone.foundation.frame import compress_frame, decode_frame, encode_frame

STORE = bytes(16)
ID = bytes(range(16))
"""Of a journal, or of a transaction."""


class Target(NamedTuple):
    """One decoder, valid input for it, and how input is made."""

    name: str
    seeds: list[bytes]
    decode: Callable[[bytes], object]
    make: Callable[[random.Random, bytes, list[bytes]], bytes] = mutated


def restructured_input(random: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Change the values in `data`, which are sealed by nothing."""
    return restructured(random, data)


def resealed(
    random: random.Random,
    data: bytes,
    others: list[bytes],
    *,
    kind: Kind,
    open_payload: Callable[[bytes], bytes],
    squeeze: bool = False,
) -> bytes:
    """Change the payload of a frame, as values or as bytes, and seal it again."""
    payload = open_payload(data)
    changed = restructured(random, payload) if random.random() < 0.8 else mutated(random, payload, others)
    return compress_frame(kind, changed) if squeeze else encode_frame(kind, changed)


def payload_of(kind: Kind, data: bytes) -> bytes:
    return decode_frame(data, 0, kind=kind, where="seed")[0]
