"""Cutting: the pieces of large content, by what its first bytes say that it is.

Layer: blobs. Format: docs/format.md §6, where it is the writer's choice: readers follow the recipe, and a blob's name
is the digest of the whole, however it was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from keepstone.blobs.fastcdc import new_chopper
from keepstone.blobs.incoming import Incoming
from keepstone.blobs.tensor_cuts import TensorCutter

_STEP_BYTES: Final = 4 * 1024 * 1024


def cut(incoming: Incoming) -> Iterator[bytes]:
    """Yield the pieces of what comes in, each of at most 1 MiB; together they are the content, whatever it holds."""
    chopper = new_chopper()
    yield from TensorCutter(incoming, chopper).pieces()
    while data := incoming.take_some(_STEP_BYTES):
        yield from chopper.feed(data)
    yield from chopper.finish()
