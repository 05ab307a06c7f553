"""Who waits: the hint by which a writer that loses one slot after another makes itself heard.

Layer: history. Format: docs/format.md, "The log". Who wins every slot has no reason to read, and nothing in the log
tells it of those who lost; so they say it in one small object, which is replaced and never removed. It may say anything
and be lost at any time: it costs others a moment, never a commit.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Final, NamedTuple

from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.format import WAITING_KEY
from keepstone.storage.base import Storage

_LAYOUT: Final = struct.Struct("<8sQQ")


class Waiting(NamedTuple):
    """The content of `turns/waiting`."""

    writer: bytes
    number: int
    """The slot that it asked for."""
    nanoseconds: int
    """How long making a commit takes it."""


def read_waiting(storage: Storage) -> Waiting | None:
    """Return who said last that it waits; None if nobody did, or nobody can tell."""
    try:
        data = storage.read_range(WAITING_KEY, 0, _LAYOUT.size + 1)
        return Waiting(*_LAYOUT.unpack(data))
    except (KeepstoneError, struct.error):
        return None


def write_waiting(storage: Storage, waiting: Waiting) -> None:
    """Say who waits, where that is possible."""
    with suppress(KeepstoneError):
        storage.write_hint(WAITING_KEY, _LAYOUT.pack(*waiting))
