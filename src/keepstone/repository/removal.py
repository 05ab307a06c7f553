"""Removing a collection: its items first, then its name.

Layer: repository. Removal is a commit like any other: the history keeps it, and numbers are never given again. The
bytes go when garbage is collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepstone.repository.naming import not_found
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
    collection.clear()
    collection.flush()

    return repository.decide(
        lambda sketch: sketch.remove_collection(name), Staging(repository.session), message
    )
