"""Permissions that count for root as well, so that what is refused to others can be tried by anybody."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_VERSION_3: Final = 0x20080522
_DAC_OVERRIDE: Final = 1 << 1
_DAC_READ_SEARCH: Final = 1 << 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def modes_count() -> Iterator[None]:
    """Let this thread do only what the modes of files and folders allow their owner, until the block is left."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may write everywhere here, and cannot lay that down for a while")
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Set * 2)()

    def change(call: str) -> None:
        if getattr(libc, call)(ctypes.byref(header), sets):
            raise OSError(ctypes.get_errno(), call)

    change("capget")
    before = sets[0].effective
    sets[0].effective = before & ~(_DAC_OVERRIDE | _DAC_READ_SEARCH)
    change("capset")
    try:
        yield
    finally:
        sets[0].effective = before
        change("capset")


@contextmanager
def only_readable(place: Path) -> Iterator[None]:
    """Let nobody change what the folders at and below `place` hold, until the block is left."""
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with modes_count():
            yield
    finally:
        for folder in folders:
            folder.chmod(0o755)
