"""Writing a journal's content again, into a new one: its disk failed, or somebody removed its file.

Layer: blobs. The same stamps again, so that both journals say the same, whichever of them is adopted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from keepstone.blobs.journal_writer import Journal
from keepstone.foundation.clock import Clock

if TYPE_CHECKING:
    from keepstone.blobs.spool import Spool, Ticket


def write_again(spool: Spool, journal: Journal) -> None:
    """Append all that a journal holds to this process's current one, and sync that.

    Raises:
        OSError: the medium failed.
        CorruptionError: what was written cannot be read back.
    """
    rescued: Ticket | None = None
    for collection, row in list(journal.all_rows()):
        value = journal.read_value(row) if row.offset >= 0 else None
        rescued = spool.append_as(collection, (row.key, row.form, value, row.digest), row.stamp)
    if rescued:
        rescued.journal.sync(rescued.offset)


def removed_by_somebody(
    own: Iterable[Journal], gone: Container[str], sealed: Container[bytes]
) -> list[Journal]:
    """Return the journals of this process whose files are gone and that no commit adopted.

    They are still open here, so nothing is lost yet.
    """
    return [
        journal
        for journal in own
        if journal.name in gone and not journal.empty and journal.header.journal_id not in sealed
    ]


class OneStamp(Clock):
    """A clock that gives one stamp, which somebody else decided."""

    def __init__(self, stamp: int) -> None:
        super().__init__()
        self._fixed = stamp

    def stamp(self) -> int:
        return self._fixed
