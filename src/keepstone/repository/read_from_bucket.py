"""How a store in a bucket is read: through what this machine has kept of it, or offline from that alone.

Layer: repository. Imported where a bucket is opened; a store in a folder needs none of it.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from keepstone.foundation.errors import (
    CorruptionError,
    DivergedError,
    KeepstoneError,
    NotFoundError,
    StorageError,
    StoreNotFoundError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import STORE_KEY
from keepstone.history.checkpoint import Found
from keepstone.history.commit import WRITER_BYTES
from keepstone.history.log import Log
from keepstone.repository.identity import Identity, encode_identity, read_identity
from keepstone.storage.base import Storage
from keepstone.storage.cached import CachedStorage
from keepstone.storage.places import cache_bytes_max, cache_folder, cached_store
from keepstone.storage.read_cache import ReadCache


class KnownStore(NamedTuple):
    """A store in a bucket as this machine saw it, and as it still was a moment ago."""

    identity: Identity
    storage: Storage
    found: Found


def known_store(storage: Storage) -> KnownStore | None:
    """Return the store in a bucket as this machine last saw it, if it is still that one; costs one request.

    The newest commit that is known here must stand in the bucket, with its hash: that pins all before it, and the
    store's id. A store that was removed, made anew or put back from a copy does not have it, and is read from the
    beginning; nothing that is kept here of the other counts any more.

    Raises:
        StorageError: the bucket could not be asked.
    """
    store_id = cached_store(storage.location)
    if store_id is None:
        return None
    cache = _cache(store_id, storage.location)
    try:
        kept = _kept_of(CachedStorage(storage, cache, offline=True), cache)
    except UnsupportedFormatError:
        return None
    if kept is None or _hash_at(storage, kept.identity, kept.tip) != kept.tip_hash:
        cache.clear()
        return None
    if kept.found is None:
        return None
    return KnownStore(kept.identity, CachedStorage(storage, cache, trusted_tip=kept.tip), kept.found)


class _Kept(NamedTuple):
    """What is kept here of a store, as it was last seen."""

    identity: Identity
    tip: int
    """The number of the newest commit that was seen."""
    tip_hash: bytes
    found: Found | None = None
    """The state then; None where some of it had to make room."""


def _kept_of(storage: Storage, cache: ReadCache) -> _Kept | None:
    """Return what is kept; None where it does not hold together, or does not say of which history it is.

    Raises:
        UnsupportedFormatError: a newer release keeps it.
    """
    try:
        identity = read_identity(storage)
        log = _log(storage, identity)
        try:
            state = log.open()
        except StorageError:
            # Older commits that are left are handed out later, below a checkpoint that vouches for none of them.
            tip = cache.last_seen.tip()
            return _Kept(identity, tip, log.commit_at(tip).hash)
    except UnsupportedFormatError:
        raise
    except KeepstoneError:
        return None
    return _Kept(identity, state.number, bytes(state.hash), log.found) if state.number >= 0 else None


def _hash_at(storage: Storage, identity: Identity, number: int) -> bytes | None:
    try:
        return _log(storage, identity).commit_at(number).hash
    except (NotFoundError, CorruptionError, DivergedError, UnsupportedFormatError):
        return None


def _log(storage: Storage, identity: Identity) -> Log:
    return Log(storage, store_id=identity.id_bytes, writer=bytes(WRITER_BYTES))


def cached_storage(storage: Storage, identity: Identity) -> Storage:
    """Return a storage that keeps what is read here, and asks for it once."""
    cache = _cache(identity.store_id, storage.location)
    # Offline it is the first that is asked for.
    if cache.size_of(STORE_KEY) is None:
        cache.put(STORE_KEY, 0, encode_identity(identity), ends=True)
    with contextlib.suppress(OSError):
        # Of all that were ever at this location it is the one that is there now.
        os.utime(cache_folder(identity.store_id, storage.location))
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
    return ReadCache(cache_folder(store_id, location) / "reads", bytes_max=cache_bytes_max())
