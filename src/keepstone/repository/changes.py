"""The history as people read it: what each commit decided about names.

Layer: repository.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from keepstone.history.commit import Commit, RefChange
from keepstone.repository.refs import NameRef, read_alias_ref, read_name_ref


class LogEntry(NamedTuple):
    """One commit."""

    number: int
    time: datetime.datetime
    """In UTC, by the clock of who committed."""
    writer: str
    """16 hex digits: one process."""
    message: str
    changes: tuple[str, ...]
    """One line for each name or alias that moved."""
    hash: str
    """64 hex digits; pins the whole store as it was after this commit."""


def log_entry(commit: Commit) -> LogEntry:
    """Return what a commit says."""
    return LogEntry(
        number=commit.number,
        time=datetime.datetime.fromtimestamp(commit.time / 1e9, datetime.UTC),
        writer=commit.writer.hex(),
        message=commit.message,
        changes=tuple(change_line(change) for change in commit.refs if change.old != change.new),
        hash=commit.hash.hex(),
    )


def change_line(change: RefChange) -> str:
    """Return what one step of a ref decided, in words."""
    name = change.name
    if name.startswith(":"):
        return f"{name} {'removed' if change.new is None else 'set'}"
    if "@" in name:
        if change.new is None:
            return f"{name} removed"
        now = read_alias_ref(change.new, name).number
        before = f"v{read_alias_ref(change.old, name).number} → " if change.old else ""
        return f"{name} {before}v{now}"
    return _name_line(
        name,
        read_name_ref(change.old, name) if change.old else None,
        read_name_ref(change.new, name) if change.new else None,
    )


def _name_line(name: str, old: NameRef | None, now: NameRef | None) -> str:
    if now is None or not now.number:
        return f"{name} removed"
    if now.kind == "collection" and (old is None or not old.number):
        return f"{name} created as a collection"
    newest = f"v{now.newest}" if now.newest else "none"
    first = (old.given if old else 0) + 1
    if now.given > first and now.newest == now.given:
        return f"{name} v{first} to {newest}"
    if old is not None and now.newest < old.newest:
        return f"{name} v{old.newest} removed; newest {newest}"
    if old is not None and now.removals > old.removals:
        return f"{name} lost a version; newest {newest}"
    if old is not None and now.removals < old.removals:
        return f"{name} got versions back; newest {newest}"
    return f"{name} {newest}"
