"""Looking at a place before a store is kept there, and at what stands in the way of one that is.

Layer: operations. Nothing is changed: what a probe writes lies below `probe/` and is removed again.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final, NamedTuple

from keepstone.blobs.spool import Stranger
from keepstone.foundation.errors import (
    InvalidInputError,
    KeepstoneError,
    ObjectNotFoundError,
    StoreNotFoundError,
    UnsafeStorageError,
)
from keepstone.foundation.format import STORE_KEY
from keepstone.operations.other_hosts import OtherHost, other_hosts
from keepstone.repository.identity import Identity, read_identity, require_empty
from keepstone.repository.local_side import local_side
from keepstone.repository.medium import is_for_one_writer, probe_ref
from keepstone.repository.opening import close_repository, open_repository
from keepstone.storage import platform
from keepstone.storage.base import Storage
from keepstone.storage.locate import is_bucket, is_web, locate
from keepstone.storage.probe import ProbeReport, probe

_READS: Final = 5


class StoreFound(NamedTuple):
    """The store that is there."""

    id: str
    commits: int
    recorded: str
    """What it knows of its place: `many writers`, `one writer`, or empty where no probe was recorded."""
    waiting: int
    """Journals of this machine that are not published."""
    strangers: tuple[Stranger, ...]
    elsewhere: tuple[OtherHost, ...]
    """What machines of other names have left here, and nobody has published."""


class DoctorReport(NamedTuple):
    """What was found at a place."""

    location: str
    read_ms: float
    """What asking for a small object takes, median of a few."""
    store: StoreFound | None
    probed: ProbeReport | None
    """What racing writers found out; None where there was no need, or it went wrong."""
    problem: str
    """Why several may not write there, or why that was not found out; empty where they may."""
    is_untried: bool
    """Whether `problem` is only that it could not be tried: of the medium itself nothing is known then."""
    hint: str
    refusal: str
    """Why no store can be made there; empty where there is one, or one can be made."""
    journals: str
    """Folder on this machine of what is not published yet."""
    is_lasting: bool
    """Whether that folder survives a loss of power; else `disk` waits until an item is published."""

    @property
    def ok(self) -> bool:
        """Whether a store can be kept there by several at once."""
        return not (self.problem or self.refusal)


def examine_place(location: str) -> DoctorReport:
    """Say whether a store can be kept at a folder or URL, and how the one that is there is.

    Raises:
        InvalidInputError: not a location.
        StorageError: it cannot be reached, or not be read.
    """
    storage = locate(location)
    read_ms = _read_ms(storage)
    identity = _identity(storage)
    store = None if identity is None else _store(location)
    side = None if identity is None else local_side(storage, identity, writable=False)
    refusal = "" if identity is not None else _refusal(storage)
    # Whether several may write to a bucket is worth knowing where its root is taken as well.
    tried = _try_out(storage) if storage.writable or identity is not None else _Tried()
    return DoctorReport(
        location=storage.location,
        read_ms=read_ms,
        store=store,
        probed=tried.report,
        problem=tried.problem,
        is_untried=tried.is_untried,
        hint=tried.hint,
        refusal=refusal,
        journals=str(side.journals) if side is not None and side.journals is not None else "",
        is_lasting=side is None or side.is_lasting,
    )


def _read_ms(storage: Storage) -> float:
    taken: list[float] = []
    for _ in range(_READS):
        began = time.perf_counter()
        try:
            storage.read_range(STORE_KEY, 0, 1024)
        except ObjectNotFoundError:
            pass
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _identity(storage: Storage) -> Identity | None:
    try:
        return read_identity(storage)
    except StoreNotFoundError:
        return None


def _store(location: str) -> StoreFound:
    repository = open_repository(locate(location, writable=False), create=False, writable=False)
    try:
        session = repository.session
        state = session.log.state
        recorded = "one writer" if is_for_one_writer(state) else ""
        if probe_ref(session.storage.location) in state.refs:
            recorded = "many writers"
        return StoreFound(
            session.identity.store_id,
            state.length,
            recorded,
            len(session.spool.journals()),
            session.spool.strangers,
            other_hosts(session),
        )
    finally:
        close_repository(repository)


def _refusal(storage: Storage) -> str:
    if is_web(storage.location):
        return "a store on the web can only be read"
    if not storage.writable:
        return "no permission to write there"
    try:
        require_empty(storage)
    except InvalidInputError as error:
        return error.message
    return ""


class _Tried(NamedTuple):
    report: ProbeReport | None = None
    problem: str = ""
    hint: str = ""
    is_untried: bool = False


def _try_out(storage: Storage) -> _Tried:
    if not storage.writable:
        return _Tried(problem=f"{storage.location} can only be read")
    if not is_bucket(storage.location):
        folder = Path(storage.location)
        if folder.is_absolute() and platform.is_network_filesystem(storage.location):
            return _Tried(hint="a network file system: other machines' journals are read, and never adopted")
        return _Tried()
    try:
        return _Tried(probe(storage))
    except UnsafeStorageError as error:
        return _Tried(problem=error.message, hint=error.hint)
    except KeepstoneError as error:
        return _Tried(problem=error.message, hint=error.hint, is_untried=True)
