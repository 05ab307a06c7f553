"""Tracking: what a block of code has read and saved, so that what it reads becomes a parent of what it saves.

Layer: repository. A context variable holds the innermost block: tasks of asyncio inherit it, threads do not. Reads are
noted by digest, of whatever store; a read in an inner block counts for the outer ones too, a save takes its parents
from the innermost.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keepstone.repository.version import Version

SEEN_MAX: Final = 1000
"""How many inputs, and how many outputs, are noted; each save repeats all inputs so far."""


class Tracked:
    """What one block has read and saved so far; its tasks share it."""

    def __init__(self, outer: Tracked | None) -> None:
        self.outer = outer
        self.inputs: dict[str, str] = {}
        """Digest → name of each version that was read, in order."""
        self.outputs: dict[str, str] = {}
        """The same of each that was saved."""
        self.left_out = 0
        """How often a version was not noted because there were too many."""

    def note(self, seen: dict[str, str], version: Version) -> None:
        """Note a version among the inputs or the outputs."""
        # No lock: a forked child might inherit it locked. One more than the limit does no harm.
        if len(seen) >= SEEN_MAX and version.digest not in seen:
            self.left_out += 1
        else:
            seen.setdefault(version.digest, version.name)


_innermost: ContextVar[Tracked | None] = ContextVar("keepstone_tracked", default=None)


def innermost() -> Tracked | None:
    """Return what the innermost block has seen; None outside of all."""
    return _innermost.get()


def enter(tracked: Tracked | None) -> None:
    """Make `tracked` the innermost block of this context."""
    # Not by a token: a generator may begin a block in one context and end it in another.
    _innermost.set(tracked)


@contextmanager
def untracked() -> Generator[None]:
    """What is read and saved meanwhile is Keepstone's own book-keeping."""
    before = _innermost.get()
    _innermost.set(None)
    try:
        yield
    finally:
        _innermost.set(before)


def note_read(version: Version) -> None:
    """Note that the content of `version` is read."""
    tracked = _innermost.get()
    while tracked is not None:
        tracked.note(tracked.inputs, version)
        tracked = tracked.outer


def note_saved(version: Version) -> None:
    """Note that `version` was saved, or was there already when it was."""
    tracked = _innermost.get()
    while tracked is not None:
        tracked.note(tracked.outputs, version)
        tracked = tracked.outer


def with_tracked(parents: tuple[str, ...]) -> tuple[str, ...]:
    """Return the digests `parents`, then what the innermost block has read, each once."""
    tracked = _innermost.get()
    return parents if tracked is None else tuple(dict.fromkeys((*parents, *tracked.inputs)))
