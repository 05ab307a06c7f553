"""What a store knows of the medium that it lies on: whether many may write there at once.

Layer: repository. Format: docs/format.md §9. A bucket is probed once a place, before the first commit there, and the
outcome is a ref: a copy of the store in another bucket is a place of its own. Folders and memory need no probe.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import StorageError, UnsafeStorageError
from keepstone.foundation.format import REF_VALUE_BYTES_MAX, SINGLE_WRITER
from keepstone.history.commit import Draft, RefChange
from keepstone.history.state import State
from keepstone.history.validate import FEATURES_REF, Features
from keepstone.storage import platform
from keepstone.storage.base import Storage
from keepstone.storage.create_guard import guard_of
from keepstone.storage.locate import is_bucket
from keepstone.storage.places import location_id

if TYPE_CHECKING:
    from keepstone.history.log import Log

PROBE_PREFIX: Final = ":probe/"


class ProbeRecord(msgspec.Struct, frozen=True, array_like=True):
    """The value of a `:probe/<place>` ref: creating-if-absent was raced there, and had one winner each time."""

    time: int
    """When, in nanoseconds."""
    rounds: int
    threads: int


def probe_ref(location: str) -> str:
    """Return the ref that says that a place was probed."""
    return PROBE_PREFIX + location_id(location)


def is_for_one_writer(state: State) -> bool:
    """Whether the store was made for a single writer."""
    value = state.refs.get(FEATURES_REF)
    if value is None:
        return False
    return SINGLE_WRITER in decode(value, Features, what=FEATURES_REF, bytes_max=REF_VALUE_BYTES_MAX).write


def examine(storage: Storage, *, single_writer: bool) -> RefChange:
    """Probe a bucket; return what the first commit there records.

    Raises:
        UnsafeStorageError: it loses commits of writers that race, and is not meant for a single one.
    """
    # Most stores are folders, and most buckets were probed before.
    from keepstone.storage.probe import probe

    try:
        report = probe(storage)
    except UnsafeStorageError:
        if not single_writer:
            raise
        _trust_one_writer(storage)
        return RefChange(FEATURES_REF, None, encode(Features(write=(SINGLE_WRITER,))))
    record = ProbeRecord(time.time_ns(), report.rounds, report.threads)
    return RefChange(probe_ref(storage.location), None, encode(record))


class Medium:
    """Sees to it that nothing is committed to a place that would lose commits."""

    def __init__(self, storage: Storage, log: Log, *, single_writer: bool = False) -> None:
        self._storage = storage
        self._log = log
        self._wants_single_writer = single_writer
        self._is_vouched_for = not is_bucket(storage.location)
        self._lock = threading.Lock()
        platform.renew_lock_after_fork(self)

    def vouch(self) -> None:
        """Return if commits to this place are safe; the first time at a new place it is probed.

        Raises:
            UnsafeStorageError: they are not; nothing was changed.
        """
        if self._is_vouched_for:
            return
        with self._lock:
            refs = self._log.state.refs
            if is_for_one_writer(self._log.state):
                _trust_one_writer(self._storage)
                self._is_vouched_for = True
            elif probe_ref(self._storage.location) in refs:
                self._is_vouched_for = True
            elif not self._is_vouched_for:
                try:
                    self.record(examine(self._storage, single_writer=self._wants_single_writer))
                except StorageError as error:
                    # What landed is an object of the probe, or its record: nothing of whoever wants to commit.
                    error.landed = False
                    raise

    def record(self, found: RefChange) -> None:
        """Commit what `examine` found."""
        # The commit itself must not ask.
        self._is_vouched_for = True
        try:
            self._log.append(lambda state: _draft(state, found))
        except BaseException:
            self._is_vouched_for = False
            raise


def _draft(state: State, found: RefChange) -> Draft | None:
    # Of two who examine a place at once one is enough.
    return None if found.name in state.refs else Draft(message="probe", refs=(found,))


def _trust_one_writer(storage: Storage) -> None:
    guard = guard_of(storage)
    if guard is not None:
        guard.single_writer = True
