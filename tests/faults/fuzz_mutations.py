"""What fuzzing does to valid bytes: flips, cuts, splices, lies about sizes, deep nesting, bombs. All from one seed."""

from __future__ import annotations

import functools
import random
import struct
from typing import Any

import msgspec
import zstandard

BYTES_MAX = 200_000
"""No input is longer."""
NUMBERS = (0, 1, -1, 2, 127, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62)
NUMBERS += (2**63 - 1, 2**64 - 1, -(2**31), -(2**63), 2**40)
_TEXTS = ("", "\0", "..", "/", "a/../b", "\ufffe", "x" * 5_000, "name@v1", ":versions", "b3:")


def mutated(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return `data` with a few changes to its bytes; `others` are spliced in."""
    result = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        _MUTATIONS[random.randrange(len(_MUTATIONS))](random, result, others)
    return bytes(result[:BYTES_MAX])


def noise(random: random.Random) -> bytes:
    """Return random bytes, short ones mostly."""
    return random.randbytes(random.choice((0, 1, 7, 16, 64, 300, 5_000)))


def restructured(random: random.Random, data: bytes) -> bytes:
    """Return the MessagePack `data` with one or two of its values changed, still MessagePack."""
    value: Any = msgspec.msgpack.decode(data)
    for _ in range(random.choice((1, 1, 2))):
        value = _changed(random, value)
    try:
        return msgspec.msgpack.encode(value)[:BYTES_MAX]
    except (OverflowError, RecursionError, UnicodeEncodeError):
        return data


def bomb(random: random.Random) -> bytes:
    """Return a zstd frame that is small, and says or is large."""
    size = random.choice((1_000, 10**6, 70 * 10**6, 300 * 10**6))
    if random.random() < 0.5:
        return _claiming(random.choice((size, 2**31, 2**40, 2**62)))
    return _large(size, random.random() < 0.5)


@functools.cache
def _large(size: int, is_known: bool) -> bytes:
    """A zstd frame of `size` zeros, made piece by piece: who makes it takes no memory."""
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=is_known)
    stream = compressor.compressobj(size=size) if is_known else compressor.compressobj()
    pieces = [stream.compress(bytes(min(10**6, size - start))) for start in range(0, size, 10**6)]
    return b"".join((*pieces, stream.flush()))


def _claiming(size: int) -> bytes:
    """A zstd frame of one empty last block, whose header claims `size` bytes."""
    return struct.pack("<IB", 0xFD2FB528, 0xE0) + struct.pack("<Q", size) + b"\x01\0\0"


# ---- bytes -------------------------------------------------------------------------------------------------


def _flip(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _insert(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    place = random.randrange(len(data) + 1)
    data[place:place] = random.randbytes(random.choice((1, 2, 8, 100)))


def _delete(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    place = random.randrange(len(data) + 1)
    del data[place : place + random.choice((1, 2, 8, 100))]


def _cut(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def _repeat(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    place = random.randrange(len(data) + 1)
    part = bytes(data[place : place + random.choice((1, 8, 64, 1_000))])
    data[place:place] = part * random.choice((1, 2, 20))


def _splice(random: random.Random, data: bytearray, others: list[bytes]) -> None:
    other = random.choice(others)
    start = random.randrange(len(other) + 1)
    place = random.randrange(len(data) + 1)
    data[place : place + random.choice((0, 8, 64))] = other[start : start + random.choice((4, 32, 500))]


def _lie(random: random.Random, data: bytearray, _: list[bytes]) -> None:
    """Put a huge or odd number where a size may stand."""
    code, size = random.choice((("<Q", 8), ("<I", 4), (">Q", 8), (">I", 4), ("<H", 2)))
    if len(data) >= size:
        place = random.randrange(len(data) - size + 1)
        data[place : place + size] = struct.pack(code, random.choice(NUMBERS) % 2 ** (8 * size))


_MUTATIONS = (_flip, _set, _insert, _delete, _cut, _repeat, _splice, _lie)


# ---- values ------------------------------------------------------------------------------------------------


def _changed(random: random.Random, value: Any) -> Any:
    """Return `value` with one thing in it changed, at any depth."""
    if isinstance(value, list) and value and random.random() < 0.85:
        items = list(value)
        place = random.randrange(len(items))
        action = random.random()
        if action < 0.75:
            items[place] = _changed(random, items[place])
        elif action < 0.85:
            del items[place]
        elif action < 0.95:
            items.insert(place, items[random.randrange(len(items))])
        else:
            items *= random.choice((2, 100))
        return items
    if isinstance(value, dict) and value and random.random() < 0.85:
        changed = dict(value)
        key = random.choice(list(changed))
        action = random.random()
        if action < 0.7:
            changed[key] = _changed(random, changed[key])
        elif action < 0.85:
            del changed[key]
        else:
            changed[random.choice(_TEXTS)] = changed[key]
        return changed
    return _leaf(random, value)


def _leaf(random: random.Random, value: Any) -> Any:
    action = random.random()
    if isinstance(value, int) and action < 0.85:
        return random.choice((*NUMBERS, value + 1, value - 1, -value))
    if isinstance(value, bytes) and action < 0.85:
        if action < 0.15:
            return bomb(random)
        if action < 0.3:
            return value[: random.randrange(len(value) + 1)]
        return mutated(random, value, [value, b"\0" * 40])
    if isinstance(value, str) and action < 0.85:
        return random.choice((*_TEXTS, value[:-1], value + "x"))
    if action < 0.93:
        return random.choice((None, True, 0, -1, "", b"", [], {}, 1.5, b"\0" * 32, 2**63))
    return _nested(random.choice((10, 150, 300, 900, 5_000)), random.choice(([], {})))


def _nested(depth: int, kind: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if isinstance(kind, list) else {"a": value}
    return value
