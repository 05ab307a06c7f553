"""An entry of the read cache: a range of one object, in a file that can tell whether it is still what was written.

Layer: storage. The header says which bytes of which object these are, and carries a check for each 64 KiB, so that a
part of a large range is read and checked without the rest. Checks are keyed by the header: what is right elsewhere, in
another file or at another place of this one, is wrong here.
"""

from __future__ import annotations

import struct
from typing import Final

from blake3 import blake3

from keepstone.storage.calls import Calls, read_all

_MAGIC: Final = b"KPSTCCH1"
_HEAD: Final = struct.Struct("<8sQQBHI")
"""Magic, first byte, byte after the last, whether the object ends there, length of the key, number of blocks."""
_BLOCK_BYTES: Final = 64 * 1024
_CHECK_BYTES: Final = 16
_HEADER_BYTES_GUESS: Final = 4096
"""The first read of an entry: holds the checks of 15 MiB."""


class DamagedEntry(Exception):
    """The file is not, or not wholly, what was written to it."""


def encode_entry(key: str, start: int, data: bytes, *, ends: bool) -> bytes:
    """Return the file of bytes [start, start + len(data)) of an object; `ends`: there are no more."""
    name = key.encode()
    blocks = range(0, len(data), _BLOCK_BYTES)
    head = _HEAD.pack(_MAGIC, start, start + len(data), ends, len(name), len(blocks)) + name
    seed = blake3(head).digest()
    view = memoryview(data)
    checks = [_check(seed, number, view[at : at + _BLOCK_BYTES]) for number, at in enumerate(blocks)]
    header = b"".join((head, *checks))
    return b"".join((header, _check(seed, len(blocks), header), data))


def read_entry(calls: Calls, fd: int, key: str, first: int, last: int, start: int, end: int) -> bytes:
    """Return bytes [start, end) of the object from the open entry that should hold [first, last) of it.

    Raises:
        DamagedEntry: it does not, or they are not what was written.
        OSError: the medium failed.
    """
    name = key.encode()
    fixed = _HEAD.size + len(name)
    data = read_all(calls, fd, 0, max(_HEADER_BYTES_GUESS, fixed))
    blocks = -(-(last - first) // _BLOCK_BYTES)
    size = fixed + (blocks + 1) * _CHECK_BYTES
    if len(data) < size:
        data += read_all(calls, fd, len(data), size - len(data))
    if len(data) < size:
        raise DamagedEntry
    head = data[:fixed]
    magic, *range_, ends, length, count = _HEAD.unpack_from(head)
    sound = (magic, *range_, length, count) == (_MAGIC, first, last, len(name), blocks)
    if not sound or ends > 1 or head[_HEAD.size :] != name:
        raise DamagedEntry
    seed = blake3(head).digest()
    if _check(seed, blocks, data[: size - _CHECK_BYTES]) != data[size - _CHECK_BYTES : size]:
        raise DamagedEntry
    number_min, number_max = (start - first) // _BLOCK_BYTES, (end - 1 - first) // _BLOCK_BYTES
    at = number_min * _BLOCK_BYTES
    content = read_all(calls, fd, size + at, min((number_max + 1) * _BLOCK_BYTES, last - first) - at)
    view = memoryview(content)
    for number in range(number_min, number_max + 1):
        place = fixed + number * _CHECK_BYTES
        block = view[(number - number_min) * _BLOCK_BYTES :][:_BLOCK_BYTES]
        if _check(seed, number, block) != data[place : place + _CHECK_BYTES]:
            raise DamagedEntry
    return content[start - first - at : end - first - at]


def _check(seed: bytes, number: int, block: bytes | memoryview) -> bytes:
    hasher = blake3(struct.pack("<I", number), key=seed)
    hasher.update(block)
    return hasher.digest(_CHECK_BYTES)
