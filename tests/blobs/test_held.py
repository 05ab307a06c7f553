"""Locks that this process holds, and its forked children do not."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.processes import finished, forked, needs_fork

from keepstone.blobs.held import open_locked
from keepstone.storage.calls import Calls


@needs_fork
def test_a_lock_is_free_when_its_holder_lets_go_whatever_children_live(tmp_path: Path) -> None:
    path, flags = str(tmp_path / "lock"), os.O_RDWR | os.O_CREAT
    held = open_locked(Calls(), path, flags)
    assert held is not None
    (ready, is_ready), (end, may_end) = os.pipe(), os.pipe()
    child = forked(lambda: (os.write(is_ready, b"!"), os.read(end, 1)))
    os.read(ready, 1)

    held.close()

    again = open_locked(Calls(), path, flags)
    os.write(may_end, b"!")
    assert finished(child)
    assert again is not None
    again.close()
