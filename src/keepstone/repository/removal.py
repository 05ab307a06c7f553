"""Removing a collection: its items first, then its name.

Layer: repository. Removal is a commit like any other: the history keeps it, and numbers are never given again. The
bytes go when garbage is collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepstone.history.state import State
from keepstone.repository.entries import pack_place
from keepstone.repository.naming import not_found
from keepstone.repository.overlay import read_rows
from keepstone.repository.session import Session
from keepstone.repository.sketch import Sketch
from keepstone.repository.staging import Staging

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository


def remove_collection(repository: Repository, name: str, message: str) -> tuple[str, ...]:
    """Remove all items of the collection, then its name and its snapshots; return what was removed.

    Raises:
        ArtifactNotFoundError: it was removed before.
    """
    from keepstone.repository.collection import Collection

    if repository.naming.kind_of(name) is None:
        raise not_found(repository.session.log.state.refs, name, f"there is no collection {name!r}")
    collection = Collection[object](repository, name, None, "disk")
    session = repository.session
    while True:
        seen = session.log.refresh()
        collection.clear()
        collection.flush()

        def step(sketch: Sketch, seen: State = seen) -> tuple[str, ...] | None:
            # An item that nobody lists would be as good as lost: what came in between goes as well.
            if _was_set_since(session, seen, sketch.state, name):
                return None
            return sketch.remove_collection(name)

        removed = repository.decide(step, Staging(session), message)
        if removed is not None:
            return removed


def _was_set_since(session: Session, seen: State, now: State, name: str) -> bool:
    """Whether a pack that is new since `seen` holds an item of the collection that is still there."""
    for pack in now.packs.values():
        if pack.name in seen.packs or name not in pack.record.collections:
            continue
        for key, row in read_rows(session.blobs, pack_place(pack), name):
            if row.digest is not None:
                newest = session.entries.find(name, key)
                if newest is not None and newest.digest is not None:
                    return True
    return False
