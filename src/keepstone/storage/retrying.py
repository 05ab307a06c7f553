"""A storage whose calls are tried again where that may help.

Layer: storage. Only `StorageBusyError` is tried again: the medium did not answer, or asked for patience. Whether a
write took effect is then unknown; where the key turns out to be taken, the object is read back: one's own bytes are a
success.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from keepstone.foundation.errors import ObjectExistsError, ObjectNotFoundError, StorageBusyError
from keepstone.foundation.format import PACK_PREFIX
from keepstone.storage.base import ObjectInfo, Parts, Storage
from keepstone.storage.listing import Listing
from keepstone.storage.wrapper import StorageWrapper

TRIES_MAX: Final = 6
SECONDS_MAX: Final = 120
"""No new try begins later than this after the first."""
FIRST_WAIT_SECONDS: Final = 0.1
WAIT_SECONDS_MAX: Final = 10.0
COMPARED_BYTES_MAX: Final = 1 << 20
"""A larger pack is its own if the size is right: its name is the digest of its bytes."""

LOGGER: Final = "keepstone.waiting"
"""Who wants to know why a call takes long listens to this logger, at level INFO."""
TOLD_SECONDS_MIN: Final = 0.5
"""Shorter delays are nobody's concern, and said at level DEBUG."""
_log = logging.getLogger(LOGGER)
_T = TypeVar("_T")


class Retrying(StorageWrapper):
    """A storage, patiently: at most six tries, with waits that grow threefold and are spread by chance.

    `sleep`, `draw` (a number in [0, 1)) and `now` (seconds) are injected by tests.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(storage)
        self._sleep = sleep
        self._draw = draw
        self._now = now

    def __reduce__(self) -> tuple[object, ...]:
        return (Retrying, (self.inner,))

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        return self._patiently(lambda: self.inner.read(key))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`."""
        return self._patiently(lambda: self.inner.read_range(key, start, end))

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        return self._patiently(lambda: self.inner.size(key))

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object, whole or not at all, only if the key is free; durable on return.

        Raises:
            ObjectExistsError: the key is taken, by other bytes; or it was taken before the first try.
            StorageBusyError: no try was answered; the object may exist, or may yet come to.
        """
        self._create(
            lambda: self.inner.write_new(key, data), lambda: self._holds(key, len(data), lambda: data)
        )

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object from its parts, as `write_new`; another try begins with the first part."""
        self._create(
            lambda: self.inner.write_parts(key, size, parts),
            lambda: self._holds(key, size, lambda: b"".join(parts())),
        )

    def _create(self, write: Callable[[], None], is_ours: Callable[[], bool]) -> None:
        unknown = False

        def attempt() -> None:
            nonlocal unknown
            try:
                write()
            except StorageBusyError:
                unknown = True
                raise
            except ObjectExistsError:
                if not unknown or not is_ours():
                    raise

        self._patiently(attempt)

    def _holds(self, key: str, size: int, data: Callable[[], bytes]) -> bool:
        try:
            if size > COMPARED_BYTES_MAX and key.startswith(PACK_PREFIX):
                return self.size(key) == size
            return self.read(key) == data()
        except ObjectNotFoundError:
            # Taken a moment ago and gone now: somebody removed it, and it was not ours to say that it landed.
            return False

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        self._patiently(lambda: self.inner.write_hint(key, data))

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        self._patiently(lambda: self.inner.delete(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key."""
        # Asked for at once, so that a wrong prefix is refused at the call.
        return self._listed(prefix, self.inner.list(prefix))

    def _listed(self, prefix: str, found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        last = ""

        def following() -> ObjectInfo | None:
            nonlocal found
            try:
                return next((info for info in found if info.key > last), None)
            except StorageBusyError:
                if not isinstance(found, Listing):
                    # It may be a generator, which is over now: begin again, and pass over what was handed out.
                    found = self.inner.list(prefix)
                raise

        while (info := self._patiently(following)) is not None:
            last = info.key
            yield info

    def settle(self, prefix: str) -> None:
        """Make durable what is already visible below `prefix`."""
        self._patiently(lambda: self.inner.settle(prefix))

    def _patiently(self, attempt: Callable[[], _T]) -> _T:
        began = self._now()
        for tries in range(1, TRIES_MAX + 1):
            try:
                return attempt()
            except StorageBusyError as error:
                wait = min(FIRST_WAIT_SECONDS * 3 ** (tries - 1), WAIT_SECONDS_MAX) * (0.5 + self._draw())
                elapsed = self._now() - began
                if tries == TRIES_MAX or error.landed or elapsed + wait > SECONDS_MAX:
                    if tries == 1:
                        raise
                    raise StorageBusyError(
                        f"{error.message} (tried {tries} times in {elapsed:.0f} s)",
                        path=error.path,
                        landed=error.landed,
                        hint=error.hint,
                    ) from error
                level = logging.INFO if elapsed + wait >= TOLD_SECONDS_MIN else logging.DEBUG
                _log.log(level, "%s; trying again in %.1f s", error.message, wait)
            self._sleep(wait)
        raise AssertionError("unreachable")
