"""What one machine keeps of a store: the journals of its processes, and a catalog.

Layer: repository. Of a store in a local folder both lie in that folder. Of one in a bucket the journals lie in the
user's state folder, since they hold what was acknowledged and not yet published, and the catalog in the user's cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from keepstone.foundation.format import JOURNAL_BYTES_TARGET
from keepstone.repository.catalog import Catalog
from keepstone.repository.identity import Identity
from keepstone.storage.base import Storage
from keepstone.storage.calls import Calls
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import is_bucket

PUBLISH_BYTES: Final = 8 * 1024 * 1024
"""So much is appended to a bucket store's journal before it is published ..."""
PUBLISH_SECONDS: Final = 10.0
"""... or so long."""
IDLE_SECONDS: Final = 60.0
"""So long small things lie in a local store's journal, where all who can read the store read them anyway."""


class LocalSide(NamedTuple):
    """This machine's side of a store."""

    journals: Path | None
    """The folder of its journals; None where they last as long as the session."""
    catalog: Catalog | None
    calls: Calls
    journal_bytes: int
    """From this size on a journal is finished and published."""
    publish_seconds: float
    """From this age on."""
    is_published: bool
    """Whether others read only what is published, so that it is brought there before the session ends."""
    is_lasting: bool
    """Whether syncing a journal is enough for `disk`; else that waits until it is published."""


def local_side(storage: Storage, identity: Identity, *, writable: bool) -> LocalSide:
    """Return this machine's side of the store on `storage`; nothing is made."""
    if isinstance(storage, LocalStorage):
        return LocalSide(
            Path(storage.location) / "journals",
            _catalog_beside(storage) if writable and identity.locks == "local" else None,
            storage.calls,
            JOURNAL_BYTES_TARGET,
            IDLE_SECONDS,
            is_published=False,
            is_lasting=True,
        )
    if not is_bucket(storage.location):
        # In memory, where nothing lasts longer for being published, or on the web, where nothing is written.
        return LocalSide(
            None, None, Calls(), JOURNAL_BYTES_TARGET, IDLE_SECONDS, is_published=True, is_lasting=True
        )
    return _of_bucket(identity.store_id, storage.location, writable=writable)


def _of_bucket(store_id: str, location: str, *, writable: bool) -> LocalSide:
    from keepstone.storage import places

    journals = places.spool_folder(store_id, location)
    catalog = places.cache_folder(store_id, location) / "catalog"
    # There is no file to tell a copied store by, and no need to: the folder is named after the location.
    owner = 0, int(places.location_id(location), 16)
    calls = Calls()
    calls.advice = places.SPOOL_ADVICE
    return LocalSide(
        journals,
        Catalog(catalog, owner) if writable else None,
        calls,
        PUBLISH_BYTES,
        PUBLISH_SECONDS,
        is_published=True,
        is_lasting=places.is_lasting(journals),
    )


def _catalog_beside(storage: LocalStorage) -> Catalog | None:
    root = Path(storage.location)
    try:
        owner = storage.calls.lstat(str(root / "store.json"))
    except OSError:
        # It only makes things fast.
        return None
    return Catalog(root / "cache", (owner.st_dev, owner.st_ino))
