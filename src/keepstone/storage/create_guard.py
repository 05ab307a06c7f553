"""Holding a bucket to its word: what is created only where nothing is must be refused where something is.

Layer: storage. Servers, and proxies on the way to them, can drop the condition of a request without a word; then two
writers overwrite each other's commits. A probe has tried the medium before the store was made. This looks again, once a
session and for one request, whether it still holds on the way that the requests take now.
"""

from __future__ import annotations

import threading
from typing import Final

from keepstone.foundation.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    UnsafeStorageError,
)
from keepstone.foundation.format import PACK_PREFIX
from keepstone.storage import platform
from keepstone.storage.base import Parts, Storage
from keepstone.storage.wrapper import StorageWrapper

_READ_BYTES_MAX: Final = 1024 * 1024
"""Without conditions, what is small is read again."""
_HINT: Final = (
    "use a server that heeds If-None-Match, and a way to it that keeps the header; `single_writer=True`, "
    "`--single-writer` makes a new store there for one program at a time"
)


class CreateGuard(StorageWrapper):
    """A storage whose first object is offered a second time, the same bytes under the same key.

    Packs are not: they may be large, and two that race for the name of one have the same bytes.

    `single_writer` is for media that cannot refuse: then a look before and a look after stand in for the condition,
    which notices a second writer often, and not always.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.single_writer = False
        self._is_checked = False
        self._unsafe: str = ""
        self._lock = threading.Lock()
        platform.renew_lock_after_fork(self)

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopened, (self.inner, self.single_writer))

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object only if the key is free.

        Raises:
            UnsafeStorageError: the medium does not refuse to create what is there; nothing is written from now on.
        """
        if self.single_writer:
            self._write_alone(key, data)
            return
        if self._unsafe:
            raise self._refusal(landed=False)
        self.inner.write_new(key, data)
        if self._is_checked or key.startswith(PACK_PREFIX):
            return
        with self._lock:
            if not self._is_checked:
                self._offer_again(key, data)

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create a large object from its parts; it is not offered twice.

        Raises:
            UnsafeStorageError: as `write_new`.
        """
        if self.single_writer:
            self._write_alone(key, b"".join(parts()))
            return
        if self._unsafe:
            raise self._refusal(landed=False)
        self.inner.write_parts(key, size, parts)

    def _offer_again(self, key: str, data: bytes) -> None:
        try:
            self.inner.write_new(key, data)
        except ObjectExistsError:
            self._is_checked = True
            return
        except StorageError:
            # No answer: what was asked for stands, and the next object is offered twice.
            return
        self._unsafe = key
        raise self._refusal(landed=True)

    def _refusal(self, *, landed: bool) -> UnsafeStorageError:
        return UnsafeStorageError(
            f"{self.location} overwrites what it should refuse to ({self._unsafe}): writers would lose commits",
            path=self.location,
            landed=landed,
            hint=_HINT,
        )

    def _write_alone(self, key: str, data: bytes) -> None:
        try:
            self.inner.size(key)
        except ObjectNotFoundError:
            pass
        else:
            raise ObjectExistsError(f"{self.location}/{key} exists already", key=key)
        self.inner.write_hint(key, data)
        if len(data) <= _READ_BYTES_MAX and self.inner.read(key) != data:
            raise ObjectExistsError(f"{self.location}/{key} was written by somebody else as well", key=key)


def _reopened(inner: Storage, single_writer: bool) -> CreateGuard:
    guard = CreateGuard(inner)
    guard.single_writer = single_writer
    return guard


def guard_of(storage: object) -> CreateGuard | None:
    """Return the guard among the wrappers of `storage`, if there is one."""
    while isinstance(storage, StorageWrapper):
        if isinstance(storage, CreateGuard):
            return storage
        storage = storage.inner
    return None
