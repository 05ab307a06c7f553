"""Replaying journals: what they said of a collection's keys at an earlier moment.

Layer: blobs. A journal that is open for reading remembers the newest entry of each key only; older ones stand in the
file and are read again when somebody asks for the past.
"""

from __future__ import annotations

from collections.abc import Iterable

from keepstone.blobs.journal import JournalFile, Row
from keepstone.blobs.journal_header import read_journal_header
from keepstone.storage.calls import Calls, translated


def rows_until(journals: Iterable[JournalFile], collection: str, until: int, calls: Calls) -> dict[str, Row]:
    """Return the newest entry of each key of `collection` that is stamped at or before `until`, tombstones among them.

    Raises:
        StorageError: a journal could not be read.
    """
    newest: dict[str, Row] = {}
    for journal in journals:
        if collection not in journal.rows:
            continue
        rows: Iterable[Row] = list(journal.rows[collection].values())
        if any(row.stamp > until for row in rows):
            rows = _replayed(journal, collection, calls)
        for row in rows:
            known = newest.get(row.key)
            if row.stamp <= until and (
                known is None or (row.stamp, row.writer) > (known.stamp, known.writer)
            ):
                newest[row.key] = row
    return newest


def _replayed(journal: JournalFile, collection: str, calls: Calls) -> list[Row]:
    content = journal.content
    try:
        header, start = read_journal_header(journal.name, content.descriptor, calls)
    except OSError as error:
        raise translated(error, "read", f"journal {journal.name}") from error
    again = JournalFile(journal.name, -1, header, start, calls, keep_history=True)
    # The same open file: it may have been sealed and unlinked since.
    again.content = content
    again.poll()
    rows = [row for name, row in again.history if name == collection]
    # What is damaged although it had been synced is remembered, and no part of the history: it reads as an error.
    rows.extend(again.rows.get(collection, {}).values())
    return rows
