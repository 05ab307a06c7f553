"""Restoring: what a lock names is brought into a store, from a copy of the store or from a bundle.

Layer: operations. Content is copied and checked first, names are given last, in one commit: a restore that is killed
leaves only packs that nothing refers to, and the next one uses them.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from keepstone.blobs.footer import Entry
from keepstone.blobs.pack import PackBuilder
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import StoreNotFoundError
from keepstone.foundation.format import Form, Origin
from keepstone.history.commit import Draft, RefChange
from keepstone.history.state import State
from keepstone.operations.bundle import Bundle, is_bundle
from keepstone.operations.closure import PackBlobs, blobs_of, items, naming
from keepstone.operations.copying import copy_closures, take_over_leftovers
from keepstone.operations.lock import Lock, LockedName, how_many, read_lock
from keepstone.operations.progress import Progress, ProgressCallback, progress_of
from keepstone.repository.leaves import LeafRow
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.pack_writing import write_pack
from keepstone.repository.refs import VERSIONS, NameRef, check_kind, read_name_ref, version_key
from keepstone.repository.repository import Repository
from keepstone.repository.session import Session
from keepstone.repository.staging import Restage, Staging
from keepstone.storage.calls import Calls
from keepstone.storage.files import path_text
from keepstone.storage.locate import is_url, locate

_ENTRIES_TOGETHER: Final = 50_000


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
    *,
    progress: Progress = False,
) -> RestoreReport:
    """Bring what a lock names into the store. See `Store.restore`."""
    session = repository.session
    session.require_writable()
    wanted, place = _wanted(lock, source, session.calls)
    session.refresh()
    _draft(session, None, session.log.state, wanted.names, [])
    with open_source(wanted, path_text(lock), place, session.calls) as opened:
        return _restore(repository, wanted.names, opened, progress_of(progress, "bytes"))


def check_restorable(lock: str | os.PathLike[str], source: str | os.PathLike[str] | None = None) -> None:
    """Return if a lock can be read and its source opened: before a store is made for what they hold.

    Raises:
        KeepstoneError: as `restore` does.
    """
    calls = Calls()
    wanted, place = _wanted(lock, source, calls)
    with open_source(wanted, path_text(lock), place, calls):
        return


_Source = str | os.PathLike[str] | Repository | None


def _wanted(lock: str | os.PathLike[str], source: _Source, calls: Calls) -> tuple[Lock, _Source]:
    """Return the lock in a file, and where its content is: in the same file if that is a bundle."""
    given = path_text(lock)
    if not is_bundle(given, calls):
        return read_lock(given, calls), source
    with Bundle(given, calls) as bundle:
        return bundle.lock, given if source is None else source


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
    place = named_store(lock, lock_path) if source is None else path_text(source)
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


def _restore(
    repository: Repository,
    names: Sequence[LockedName],
    source: OpenSource,
    progress: ProgressCallback | None,
) -> RestoreReport:
    session = repository.session
    restored: list[Restored] = []

    def stage(staging: Staging) -> frozenset[str]:
        take_over_leftovers(session, staging, source.blobs, names)
        copy_closures(source.blobs, names, staging, progress)
        fresh = _fresh_collections(session, names)
        for line in fresh:
            with naming(line.selector):
                _stage_items(session, staging, source.blobs, line)
        if source.bundle is not None:
            source.bundle.check()
        return frozenset(line.name for line in fresh)

    def build(staging: Staging, state: State, fresh: frozenset[str]) -> Draft | None:
        return _draft(session, staging, state, names, restored, fresh)

    commit = repository.commit_staged(stage, build, origin=Origin.COPY)
    return RestoreReport(tuple(restored), None if commit is None else commit.number)


def _draft(
    session: Session,
    staging: Staging | None,
    state: State,
    names: Sequence[LockedName],
    restored: list[Restored],
    fresh: frozenset[str] = frozenset(),
) -> Draft | None:
    """Return what gives the names; nothing where they are given already. `fresh` collections are made.

    Raises:
        KindError: a name is of another kind here.
        Restage: a collection came to be since its items were staged.
    """
    session.entries.advance(state)
    restored.clear()
    changes: list[RefChange] = []
    entries: list[tuple[str, Entry]] = []
    for name, group in groupby(names, key=attrgetter("name")):
        lines = list(group)
        old = state.refs.get(name)
        before = ref = read_name_ref(old, name) if old is not None else NameRef(lines[0].kind)
        for line in lines:
            check_kind(ref, name, line.kind)
        known = _numbers(session, name, ref)
        if name in fresh:
            if ref.number:
                raise Restage
            ref = msgspec.structs.replace(ref, last=ref.last + 1, number=1)
        last = ref.given
        for line in lines:
            number = known.get(line.digest)
            if number is None:
                last += 1
                number = known[line.digest] = last
                key = version_key(name, number)
                stamp, writer = session.stamp(VERSIONS, key), session.spool.writer
                entries.append((VERSIONS, Entry(key, stamp, writer, line.digest, Form.MANIFEST)))
            restored.append(
                Restored(line.selector, version_key(name, number), str(line.digest), number > ref.given)
            )
        if last > ref.given:
            newest = next(line.digest for line in lines if known[line.digest] == last)
            ref = ref.at_version(last, bytes(newest))
        if ref != before:
            changes.append(RefChange(name, old, ref.encoded()))
    if staging is None or (staging.empty and not changes):
        return None
    message = f"restore {how_many(names)}"
    return staging.draft(state, message=message, refs=tuple(changes), entries=tuple(entries))


def _fresh_collections(session: Session, names: Sequence[LockedName]) -> list[LockedName]:
    """Return the lines of collections that the store does not have, of each the newest."""
    found = {line.name: line for line in names if line.kind == "collection"}
    refs = session.log.state.refs
    return [
        line for name, line in found.items() if name not in refs or not read_name_ref(refs[name], name).number
    ]


def _stage_items(session: Session, staging: Staging, blobs: PackBlobs, line: LockedName) -> None:
    """Make the items of a snapshot those of the collection; their values are staged already."""
    for rows in batched(items(blobs, line), _ENTRIES_TOGETHER):
        builder = PackBuilder(Origin.COPY)
        for key, digest, form in rows:
            builder.add_entry(
                line.name, Entry(key, session.stamp(line.name, key), session.spool.writer, digest, form)
            )
        staging.take_over(write_pack(session, builder.finish(), session.log.state.length), ())


def batched(rows: Iterable[LeafRow], size: int) -> Iterator[list[LeafRow]]:
    """Yield `rows` in lists of at most `size`."""
    rest = iter(rows)
    while batch := list(islice(rest, size)):
        yield batch


def _numbers(session: Session, name: str, ref: NameRef) -> dict[Digest, int]:
    """Return the versions of a name that exist: digest → number, the newest of equal ones."""
    found: dict[Digest, int] = {}
    for number in range(1, ref.given + 1):
        row = session.peek(VERSIONS, version_key(name, number))
        if row is not None and row.digest is not None:
            found[row.digest] = number
    return found
