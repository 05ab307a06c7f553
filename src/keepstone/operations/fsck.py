"""Checking a store: every structure, and on request every byte. A question never changes anything.

Layer: operations. Damage is what a check is for, so none raises: each becomes a finding that names what it touches, and
the check goes on. It needs the storage alone, so it works where the store cannot be opened, or only be read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from keepstone.foundation.errors import (
    StorageBusyError,
    StorageError,
    StoragePermissionError,
    StoreNotFoundError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import CHECKPOINT_PREFIX, LOG_PREFIX, PACK_PREFIX, STORE_KEY, log_key
from keepstone.history.slots import Slots
from keepstone.operations.findings import UNREADABLE, Finding, Findings, FsckReport, Severity, told
from keepstone.operations.fsck_catalog import check_catalog
from keepstone.operations.fsck_journals import check_journals, open_journals
from keepstone.operations.fsck_log import check_log
from keepstone.operations.fsck_names import check_names
from keepstone.operations.fsck_packs import check_packs
from keepstone.operations.fsck_pins import check_pins
from keepstone.operations.planned_reads import planning
from keepstone.repository.identity import read_identity
from keepstone.repository.repository import Repository
from keepstone.storage.base import ObjectInfo, Storage
from keepstone.storage.cached import without_cache
from keepstone.storage.draft import TEMPORARY_PREFIX
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import is_bucket, locate
from keepstone.storage.wrapper import StorageWrapper

__all__ = ["Finding", "FsckReport", "Severity", "fsck", "fsck_location", "fsck_storage"]

_T = TypeVar("_T")
_MOVED_MAX: Final = 3
"""How often a check that found damage is begun again because the store moved on meanwhile."""


def fsck(repository: Repository, *, read_data: bool = False) -> FsckReport:
    """Check an open store; see `Store.fsck`."""
    return fsck_storage(without_cache(repository.session.storage), read_data=read_data)


def fsck_location(location: str, *, read_data: bool = False) -> FsckReport:
    """Check the store at a folder or URL, whether it can be opened or not.

    Raises:
        StoreNotFoundError: there is nothing of a store.
        InvalidInputError: not a location.
    """
    return fsck_storage(locate(location, writable=False), read_data=read_data)


def fsck_storage(
    storage: Storage, *, read_data: bool = False, now_ns: Callable[[], int] = time.time_ns
) -> FsckReport:
    """Return what is wrong with the store on `storage`; creates and changes nothing.

    `read_data` hashes every pack and reads every value of the journals; else only structures are read.

    Raises:
        StoreNotFoundError: there is nothing of a store.
        StorageError: it lies in a bucket that did not answer, or refuses: that says nothing about the store.
    """
    if not is_bucket(storage.location):
        return _checked(storage, read_data, now_ns)
    # What is fetched ahead in vain is asked for again: only that answer counts.
    answering = _Answering(planning(storage))
    report = _checked(answering, read_data, now_ns)
    answering.require_answers()
    return report


def _checked(storage: Storage, read_data: bool, now_ns: Callable[[], int]) -> FsckReport:
    for _ in range(_MOVED_MAX - 1):
        report, following = _check(storage, read_data, now_ns())
        # What was removed while it was looked at is not damage: look at the newer state.
        if report.ok or not _exists(storage, log_key(following)):
            return report
    return _check(storage, read_data, now_ns())[0]


def _check(storage: Storage, read_data: bool, now_ns: int) -> tuple[FsckReport, int]:
    """Return what one pass found, and the number of the slot behind the last that it saw."""
    findings = Findings()
    store_id = _check_identity(storage, findings)
    journals = open_journals(storage, store_id, findings)
    log = check_log(storage, store_id, findings)
    check_journals(storage, journals, log, store_id, findings, read_data=read_data, now_ns=now_ns)
    packs = check_packs(storage, log, findings, read_data=read_data, now_ns=now_ns)
    check_names(storage, log.state, packs, journals.rows(), findings)
    check_pins(storage, log.state, packs, findings)
    slots = Slots(storage, store_id or bytes(16), sleep=lambda seconds: None, random=lambda: 0.0)
    check_catalog(storage, log.state, packs, findings, lambda number: _hash_at(slots, number))
    _count_unfinished(storage, findings)
    return findings.report(), log.length


def _check_identity(storage: Storage, findings: Findings) -> bytes | None:
    try:
        return read_identity(storage).id_bytes
    except StoreNotFoundError:
        if not any(_holds(storage, prefix) for prefix in (LOG_PREFIX, PACK_PREFIX, CHECKPOINT_PREFIX)):
            raise
        problem = "is missing; restore this small file from any copy of the store"
    except UNREADABLE as error:
        if isinstance(error, UnsupportedFormatError):
            findings.damage("I15", STORE_KEY, told(error))
            return None
        problem = told(error)
    findings.damage("I3", STORE_KEY, f"{problem}; until then the store cannot be opened")
    return None


def _count_unfinished(storage: Storage, findings: Findings) -> None:
    if not isinstance(storage, LocalStorage):
        return
    for prefix in (LOG_PREFIX, PACK_PREFIX, CHECKPOINT_PREFIX):
        below = Path(storage.location, prefix).rglob(f"{TEMPORARY_PREFIX}*")
        count = sum(1 for _ in below)
        if count:
            findings.litter(prefix, f"{count:,} unfinished writes: under way, or left by a crash")


def _holds(storage: Storage, prefix: str) -> bool:
    return next(iter(storage.list(prefix)), None) is not None


def _exists(storage: Storage, key: str) -> bool:
    try:
        storage.size(key)
    except UNREADABLE:
        return False
    return True


def _hash_at(slots: Slots, number: int) -> bytes | None:
    if number < 0:
        return bytes(32)
    try:
        commit = slots.find(number)
    except UNREADABLE:
        return None
    return None if commit is None else commit.hash


class _Answering(StorageWrapper):
    """A storage that is not asked any more once it did not answer.

    What a bucket does not answer, or does not allow, says nothing about the store; and after waiting patiently for one
    object nobody should wait as long for each of the others.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self._silence: StorageError | None = None

    def require_answers(self) -> None:
        """Return if all questions were answered.

        Raises:
            StorageError: the first that was not.
        """
        if self._silence is not None:
            raise self._silence

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        return self._ask(lambda: self.inner.read(key))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object."""
        return self._ask(lambda: self.inner.read_range(key, start, end))

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        return self._ask(lambda: self.inner.size(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key."""
        found = self._ask(lambda: self.inner.list(prefix))
        while (info := self._ask(lambda: next(found, None))) is not None:
            yield info

    def _ask(self, question: Callable[[], _T]) -> _T:
        self.require_answers()
        try:
            return question()
        except (StorageBusyError, StoragePermissionError) as error:
            self._silence = error
            raise
