"""What machines of other names have left of a bucket store's journals, where this one can see them.

Layer: operations. A home that machines share holds a folder for each; and a machine that was given another name finds
its own journals under the old one. Locks do not reach across machines, so nobody but a person can tell the two apart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from keepstone.repository.session import Session


class OtherHost(NamedTuple):
    """A folder of journals beside this machine's own."""

    host: str
    folder: Path
    journals: int
    """Those that are there: of programs that run there, or that ended before they could publish them."""


def other_hosts(session: Session) -> tuple[OtherHost, ...]:
    """Return whose journals lie beside this machine's, sorted; empty ones and those of local stores are left out."""
    own = session.local.journals
    if session.medium is None or own is None:
        return ()
    found: list[OtherHost] = []
    for folder in _folders(own.parent):
        count = sum(1 for name in _names(folder) if not name.startswith("."))
        if folder.name != own.name and count:
            found.append(OtherHost(folder.name, folder, count))
    return tuple(found)


def _folders(parent: Path) -> list[Path]:
    return [parent / name for name in sorted(_names(parent)) if (parent / name).is_dir()]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        # It is only told about; what cannot be looked at cannot be published either.
        return []
