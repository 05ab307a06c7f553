"""How a store in a bucket is read: through what this machine has kept of it, or offline from that alone.

Layer: repository. Imported where a bucket is opened; a store in a folder needs none of it.
"""

from __future__ import annotations

from keepstone.foundation.errors import StoreNotFoundError
from keepstone.foundation.format import STORE_KEY
from keepstone.repository.identity import Identity, encode_identity
from keepstone.storage.base import Storage
from keepstone.storage.cached import CachedStorage
from keepstone.storage.places import cache_folder, cached_store
from keepstone.storage.read_cache import ReadCache


def cached_storage(storage: Storage, identity: Identity) -> Storage:
    """Return a storage that keeps what is read here, and asks for it once."""
    cache = _cache(identity.store_id, storage.location)
    # Offline it is the first that is asked for.
    if cache.size_of(STORE_KEY) is None:
        cache.put(STORE_KEY, 0, encode_identity(identity), ends=True)
    return CachedStorage(storage, cache)


def offline_storage(storage: Storage) -> Storage:
    """Return what this machine has of a store in a bucket.

    Raises:
        StoreNotFoundError: nothing.
    """
    store_id = cached_store(storage.location)
    if store_id is None:
        raise StoreNotFoundError(
            f"nothing of the store at {storage.location} is kept on this machine",
            location=storage.location,
            hint="open it once while connected; what is read then can be read offline",
        )
    return CachedStorage(storage, _cache(store_id, storage.location), offline=True)


def _cache(store_id: str, location: str) -> ReadCache:
    return ReadCache(cache_folder(store_id, location) / "reads")
