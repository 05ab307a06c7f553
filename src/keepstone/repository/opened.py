"""Parts of a version that are read as they are touched: as files, as items, as memory.

Layer: repository. Nothing is read before it is asked for, and no more than that, but for what reading on and on fetches
ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from keepstone.blobs.blob_file import BlobFile
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError, InvalidInputError, KindError
from keepstone.objects.manifest import Part
from keepstone.repository.session import Session
from keepstone.storage.base import MapsFiles
from keepstone.storage.wrapper import medium

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository
    from keepstone.repository.version import Version


class PartReader:
    """Reads the parts of one version, every read verified; pickles as the version."""

    def __init__(self, repository: Repository, version: Version) -> None:
        self._repository = repository
        self._version = version

    @property
    def title(self) -> str:
        """The version, for messages; its name alone as long as it has no number."""
        return self._version.title

    def __call__(self, part: Part) -> bytes:
        """Return the part's bytes."""
        return b"".join(self._version.stream(part))

    def open(self, part: Part) -> BlobFile:
        """Return the part as a file that reads what is touched."""
        return self._version.open_part(part)

    def ahead(self, parts: Iterable[Part]) -> AbstractContextManager[None]:
        """While this lasts, parts that will be read in this order are read ahead, where that saves waiting."""
        return self._repository.session.reading_ahead(Digest(part.digest) for part in parts)


def open_items(repository: Repository, version: Version, kind: Any) -> Mapping[str, Any]:
    """Return the items of a version that is no snapshot.

    Raises:
        KindError: its value is no folder, nor anything else that has items.
        InvalidInputError: a type is asked for, and the items are of types of their own.
    """
    if kind is not None:
        raise InvalidInputError(
            f"{version.title} is a {version.type_name}: its items are what they were saved as",
            hint="leave out the type; it is for snapshots of collections",
        )
    items = repository.registry.open(version.manifest, PartReader(repository, version))
    if items is None:
        raise KindError(
            f"{version.title} is one value of serializer {version.serializer!r}, and has no items",
            name=version.name,
            kind="artifact",
            hint=f"load it with store.load({version.title!r})",
        )
    return items


def map_part(session: Session, part: Part, what: str) -> memoryview:
    """Return a part as memory that is the pack's own; `what` names it.

    Raises:
        InvalidInputError: it is stored in another way.
    """
    storage = medium(session.storage)
    if not isinstance(storage, MapsFiles):
        raise _not_mappable(what, f"the store at {session.storage.location} is no folder of this machine")
    digest = Digest(part.digest)
    while True:
        tip = session.log.state.number
        place = session.find_blob(digest)
        try:
            view = session.blobs.mapped(place, digest, storage)
        except BlobNotFoundError:
            # Packed anew in between: look it up again, as long as there is news.
            session.refresh()
            if session.log.state.number == tip:
                raise
            continue
        if view is None:
            raise _not_mappable(what, "it is stored in pieces, or compressed")
        return view


def _not_mappable(what: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} cannot be mapped into memory: {why}",
        hint="open() reads parts of it just as well; or map a file of a checkout",
    )
