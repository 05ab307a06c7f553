"""A storage with a read cache before it, and without the storage where there is no connection.

Layer: storage. Only what never changes is kept: packs, commits, checkpoints, the identity. A commit that is trimmed
later stays here as what it was, which is no less right. A store that was put back from a copy may have other commits
under the same numbers: kept ones are handed out up to the one that is known to be there still. Never kept are the hint
LAST and that something is there or absent; offline, all are answered as they were last seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from keepstone.foundation.errors import ObjectNotFoundError, StorageError, StoragePermissionError
from keepstone.foundation.format import (
    CHECKPOINT_LAST_KEY,
    CHECKPOINT_PREFIX,
    LOG_PREFIX,
    PACK_PREFIX,
    STORE_KEY,
)
from keepstone.storage.base import ObjectInfo, Parts, Storage, check_key
from keepstone.storage.keys import check_prefix, check_range
from keepstone.storage.read_cache import ReadCache
from keepstone.storage.wrapper import StorageWrapper

_IMMUTABLE = (PACK_PREFIX, LOG_PREFIX, CHECKPOINT_PREFIX)
WRITTEN_BYTES_MAX = 1024 * 1024
"""What is written is kept up to this size: commits and small packs are read again soon, and offline they are needed."""


class CachedStorage(StorageWrapper):
    """`storage`, reading through `cache`. `offline`: the storage is never asked, and nothing can be written.

    `trusted_tip` is the number of the newest kept commit that the storage is known to have; -1: none is.
    """

    def __init__(
        self,
        storage: Storage,
        cache: ReadCache,
        *,
        offline: bool = False,
        trusted_tip: int = -1,
        keeps_large: bool = True,
    ) -> None:
        super().__init__(storage)
        self._trusted_tip = trusted_tip
        self._met: set[int] = set()
        """Numbers of the later commits that the storage had when it was asked."""
        self.cache = cache
        self.offline = offline
        self._keeps_large = keeps_large
        self._tip_noted = -1
        self._last_noted: bytes | None = None

    def __repr__(self) -> str:
        return f"CachedStorage({self.inner!r}, {self.cache!r}{', offline=True' if self.offline else ''})"

    @property
    def writable(self) -> bool:
        """Whether writing may succeed at all; not offline."""
        return self.inner.writable and not self.offline

    @property
    def reads_at_once(self) -> int:
        """As the storage behind; 1 offline, where no read waits."""
        return 1 if self.offline else self.inner.reads_at_once

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        check_key(key)
        if not _is_kept(key):
            return self._read_hint(key, 0, None)
        size = self.cache.size_of(key) if self._is_trusted(key) else None
        data = None if size is None else self.cache.get(key, 0, size)
        if data is not None and len(data) == size:
            return data
        if self.offline:
            self._refuse(key)
        data = self.inner.read(key)
        self._keep(key, 0, data, ends=True)
        return data

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`.

        Raises:
            ObjectNotFoundError: there is none; offline: the log ended before it when it was last seen.
            StorageError: offline, and these bytes are not in the cache.
        """
        check_key(key)
        check_range(key, start, end)
        if not _is_kept(key):
            return self._read_hint(key, start, end)
        data = self.cache.get(key, start, end) if end > start and self._is_trusted(key) else None
        if data is not None:
            return data
        if self.offline:
            self._refuse(key)
        data = self.inner.read_range(key, start, end)
        self._keep(key, start, data, ends=len(data) < end - start)
        return data

    def size(self, key: str) -> int:
        """Return the object's size in bytes.

        Who asks wants to know whether it is there: what was kept of it does not say so, except offline.
        """
        check_key(key)
        if not self.offline:
            return self.inner.size(key)
        size = self.cache.size_of(key) if _is_kept(key) else None
        if size is None:
            self._refuse(key)
        return size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key.

        Raises:
            StorageError: offline; nobody knows what there is.
        """
        check_prefix(prefix)
        if self.offline:
            self._refuse(f"what lies below {prefix or 'its root'}")
        return self.inner.list(prefix)

    def _read_hint(self, key: str, start: int, end: int | None) -> bytes:
        if not self.offline:
            if key != CHECKPOINT_LAST_KEY:
                return self.inner.read(key) if end is None else self.inner.read_range(key, start, end)
            data = self.inner.read(key)
            self._note_last(data)
            return data[start:end]
        seen = self.cache.last_seen.noted(key) if key == CHECKPOINT_LAST_KEY else None
        if seen is None:
            self._refuse(key)
        return seen[start:end]

    def _note_last(self, data: bytes) -> None:
        if data != self._last_noted:
            self._last_noted = data
            self.cache.last_seen.note(CHECKPOINT_LAST_KEY, data)

    def _is_trusted(self, key: str) -> bool:
        number = _commit_number(key)
        return self.offline or number <= self._trusted_tip or number in self._met

    def _keep(self, key: str, start: int, data: bytes, *, ends: bool) -> None:
        number = _commit_number(key)
        if number >= 0 and not self._is_trusted(key):
            # What is kept under this number may be another's.
            self.cache.forget(key)
            self._met.add(number)
        if self._keeps_large or len(data) <= WRITTEN_BYTES_MAX:
            self.cache.put(key, start, data, ends=ends)
        if number > self._tip_noted:
            self._tip_noted = number
            self.cache.last_seen.note_tip(number)

    def _refuse(self, what: str) -> NoReturn:
        number = _commit_number(what)
        tip = self.cache.last_seen.tip() if number >= 0 else -1
        if number > tip >= 0:
            raise ObjectNotFoundError(
                f"the log of {self.location} ended at commit {tip} when it was last seen", key=what
            )
        raise StorageError(
            f"offline, and {what} of {self.location} is not in the cache",
            path=f"{self.location}/{what}",
            hint="connect, or read it once while connected; what was read lately is kept",
        )

    def without_keeping_large(self) -> CachedStorage:
        """Return the same storage; larger ranges than those that are kept of what is written are not kept."""
        twin = CachedStorage(
            self.inner, self.cache, offline=self.offline, trusted_tip=self._trusted_tip, keeps_large=False
        )
        twin._met = self._met
        return twin

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object, whole or not at all, only if the key is free; as the storage behind."""
        self._require_connection("write", check_key(key))
        self.inner.write_new(key, data)
        if _is_kept(key) and len(data) <= WRITTEN_BYTES_MAX:
            self._keep(key, 0, data, ends=True)

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object from its parts only if the key is free; nothing of it is kept."""
        self._require_connection("write", check_key(key))
        self.inner.write_parts(key, size, parts)

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object that may be lost at any time."""
        self._require_connection("write", check_key(key))
        if _is_kept(key):
            self.cache.forget(key)
        self.inner.write_hint(key, data)
        if key == CHECKPOINT_LAST_KEY:
            self._note_last(data)

    def delete(self, key: str) -> None:
        """Remove an object, here and behind; nothing happens where there is none."""
        self._require_connection("delete", check_key(key))
        self.inner.delete(key)
        if _is_kept(key):
            self.cache.forget(key)

    def settle(self, prefix: str) -> None:
        """Make durable what is already visible below `prefix`; nothing to do offline."""
        if not self.offline:
            self.inner.settle(prefix)

    def _require_connection(self, action: str, key: str) -> None:
        if self.offline:
            raise StoragePermissionError(
                f"cannot {action} {key} of {self.location}: the store was opened offline",
                path=f"{self.location}/{key}",
                hint="connect, and open it without offline=True",
            )


def passing_through(storage: Storage) -> Storage:
    """Return the same storage for copying much: what is kept is used, and large ranges that are read are not kept."""
    return storage.without_keeping_large() if isinstance(storage, CachedStorage) else storage


def without_cache(storage: Storage) -> Storage:
    """Return the medium itself, for those who must see that and not what it once was."""
    return storage.inner if isinstance(storage, CachedStorage) else storage


def behind_cache(storage: Storage) -> Storage:
    """Return what is asked when `storage` must say what is there now; offline, what was there when it was last seen."""
    while isinstance(storage, CachedStorage) and not storage.offline:
        storage = storage.inner
    return storage


def _is_kept(key: str) -> bool:
    return key == STORE_KEY or (key.startswith(_IMMUTABLE) and key != CHECKPOINT_LAST_KEY)


def _commit_number(key: str) -> int:
    """Return the number of the commit that a key is of, -1 for other keys."""
    digits = key.removeprefix(LOG_PREFIX)
    is_commit = key.startswith(LOG_PREFIX) and digits.isascii() and digits.isdigit()
    return int(digits) if is_commit else -1
