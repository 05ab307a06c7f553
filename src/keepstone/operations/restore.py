"""Restoring: what a lock names is brought into a store, from a copy of the store or from a bundle.

Layer: operations. Content is copied and checked first, names are given last, in one commit: a restore that is killed
leaves only packs that nothing refers to, and the next one uses them.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from keepstone.blobs.footer import Entry
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import StoreNotFoundError
from keepstone.foundation.format import Form, Origin
from keepstone.history.commit import Draft, RefChange
from keepstone.history.state import State
from keepstone.operations.bundle import Bundle, is_bundle
from keepstone.operations.closure import PackBlobs, blobs_of, naming
from keepstone.operations.copying import copy_closures, take_over_leftovers
from keepstone.operations.lock import Lock, LockedName, read_lock
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.refs import VERSIONS, NameRef, check_kind, read_name_ref, version_key
from keepstone.repository.repository import Repository
from keepstone.repository.session import Session
from keepstone.repository.staging import Staging
from keepstone.storage.calls import Calls
from keepstone.storage.locate import is_url, locate


class Restored(NamedTuple):
    """One name of a lock, and what it is in the store that it was brought into."""

    locked: str
    """`name@v3` as the lock has it."""
    selector: str
    """`name@v1` as it is here."""
    digest: str
    created_new: bool
    """Whether the store did not have it."""


class RestoreReport(NamedTuple):
    """What restoring did."""

    names: tuple[Restored, ...]
    commit: int | None
    """Number of the commit that brought it; None where everything was here."""


def restore(
    repository: Repository,
    lock: str | os.PathLike[str],
    source: str | os.PathLike[str] | Repository | None = None,
) -> RestoreReport:
    """Bring what a lock names into the store. See `Store.restore`."""
    session = repository.session
    session.require_writable()
    given = os.fspath(lock)
    if is_bundle(given, session.calls):
        if source is None:
            source = given
        with Bundle(given, session.calls) as bundle:
            wanted = bundle.lock
    else:
        wanted = read_lock(given, session.calls)
    session.refresh()
    _draft(session, None, session.log.state, wanted.names, [])
    with open_source(wanted, given, source, session.calls) as opened:
        return _restore(repository, wanted.names, opened)


class OpenSource(NamedTuple):
    """Where blobs are copied from."""

    blobs: PackBlobs
    bundle: Bundle | None


@contextmanager
def open_source(
    lock: Lock, lock_path: str, source: str | os.PathLike[str] | Repository | None, calls: Calls
) -> Generator[OpenSource]:
    """Open what a lock is to be restored from: a store, a bundle, or the store that the lock itself names."""
    if isinstance(source, Repository):
        source.session.refresh()
        yield OpenSource(blobs_of(source.session), None)
        return
    place = named_store(lock, lock_path) if source is None else os.fspath(source)
    touched = f"{lock.names[0].selector} and {len(lock.names) - 1} more" if lock.names else "nothing"
    if not is_url(place) and not os.path.isdir(place):
        with naming(touched):
            bundle = Bundle(place, calls)
        with bundle:
            yield OpenSource(bundle.blobs, bundle)
        return
    with naming(touched):
        opened = open_repository(locate(place, writable=False), create=False, writable=False)
    try:
        yield OpenSource(blobs_of(opened.session), None)
    finally:
        close_repository(opened)


def named_store(lock: Lock, lock_path: str) -> str:
    """Return where a lock says that its store is.

    Raises:
        NotFoundError: it does not say, or there is none.
    """
    folder = os.path.dirname(os.path.realpath(lock_path))
    place = lock.location
    if place and not is_url(place):
        place = os.path.normpath(os.path.join(folder, place))
    if place and (is_url(place) or os.path.exists(os.path.join(place, "store.json"))):
        return place
    said = f"its store is not at {place}" if place else "it does not say where its store is"
    copies = f"; copies are at {', '.join(lock.remotes)}" if lock.remotes else ""
    raise StoreNotFoundError(
        f"{lock_path!r} names things, but {said}{copies}",
        location=place,
        hint="say where they are: a copy of the store, or a bundle (`--from`, `source=`, `store=`)",
    )


def _restore(repository: Repository, names: Sequence[LockedName], source: OpenSource) -> RestoreReport:
    session = repository.session
    restored: list[Restored] = []

    def stage(staging: Staging) -> None:
        take_over_leftovers(session, staging, source.blobs, names)
        copy_closures(source.blobs, names, staging)
        if source.bundle is not None:
            source.bundle.check()

    def build(staging: Staging, state: State, _: None) -> Draft | None:
        return _draft(session, staging, state, names, restored)

    commit = repository.commit_staged(stage, build, origin=Origin.COPY)
    return RestoreReport(tuple(restored), None if commit is None else commit.number)


def _draft(
    session: Session,
    staging: Staging | None,
    state: State,
    names: Sequence[LockedName],
    restored: list[Restored],
) -> Draft | None:
    """Return what gives the names; nothing where they are given already.

    Raises:
        KindError: a name is of another kind here.
    """
    session.entries.advance(state)
    restored.clear()
    changes: list[RefChange] = []
    entries: list[tuple[str, Entry]] = []
    for name, group in groupby(names, key=attrgetter("name")):
        lines = list(group)
        old = state.refs.get(name)
        ref = read_name_ref(old, name) if old is not None else NameRef(lines[0].kind)
        for line in lines:
            check_kind(ref, name, line.kind)
        known = _numbers(session, name, ref)
        last = ref.last
        for line in lines:
            number = known.get(line.digest)
            if number is None:
                last += 1
                number = known[line.digest] = last
                stamp, writer = session.clock.stamp(), session.spool.writer
                key = version_key(name, number)
                entries.append((VERSIONS, Entry(key, stamp, writer, line.digest, Form.MANIFEST)))
            restored.append(
                Restored(line.selector, version_key(name, number), str(line.digest), number > ref.last)
            )
        if last > ref.last:
            newest = next(line.digest for line in lines if known[line.digest] == last)
            made = NameRef(ref.kind, last, last, bytes(newest), ref.removals)
            changes.append(RefChange(name, old, made.encoded()))
    if staging is None or (staging.empty and not changes):
        return None
    message = f"restore {len(names)} versions"
    return staging.draft(state, message=message, refs=tuple(changes), entries=tuple(entries))


def _numbers(session: Session, name: str, ref: NameRef) -> dict[Digest, int]:
    """Return the versions of a name that exist: digest → number, the newest of equal ones."""
    found: dict[Digest, int] = {}
    for number in range(1, ref.last + 1):
        row = session.peek(VERSIONS, version_key(name, number))
        if row is not None and row.digest is not None:
            found[row.digest] = number
    return found
