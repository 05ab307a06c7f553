"""Statistics: how much of what is in a store.

Layer: operations.
"""

from __future__ import annotations

from typing import NamedTuple

from keepstone.foundation.format import CHECKPOINT_PREFIX, LOG_PREFIX, PACK_PREFIX
from keepstone.repository.name_view import Published
from keepstone.repository.repository import Repository


class StoreStats(NamedTuple):
    """Sizes are bytes on the medium."""

    location: str
    artifacts: int
    versions: int
    collections: int
    entries: int
    """Items of collections, each key once."""
    commits: int
    packs: int
    pack_bytes: int
    log_bytes: int
    checkpoint_bytes: int
    journals: int
    journal_bytes: int

    @property
    def total_bytes(self) -> int:
        """All but caches."""
        return self.pack_bytes + self.log_bytes + self.checkpoint_bytes + self.journal_bytes


def stats(repository: Repository) -> StoreStats:
    """Return how much of what is in the store."""
    session = repository.session
    names = repository.naming.names("", "artifact")
    collections = repository.naming.names("", "collection")
    state = session.log.state
    view = Published(session, state)
    sizes = {
        prefix: sum(item.size for item in session.storage.list(prefix))
        for prefix in (PACK_PREFIX, LOG_PREFIX, CHECKPOINT_PREFIX)
    }
    journals = session.spool.journals()
    return StoreStats(
        location=session.storage.location,
        artifacts=len(names),
        versions=sum(1 for name in names for _ in repository.naming.found_in(view, name)),
        collections=len(collections),
        entries=sum(repository.count_of(name) for name in collections),
        commits=state.length,
        packs=len(state.packs),
        pack_bytes=sizes[PACK_PREFIX],
        log_bytes=sizes[LOG_PREFIX],
        checkpoint_bytes=sizes[CHECKPOINT_PREFIX],
        journals=len(journals),
        journal_bytes=sum(journal.end for journal in journals),
    )
