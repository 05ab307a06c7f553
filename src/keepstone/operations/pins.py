"""Pins: what lock files name is protected from garbage collection, by refs in the log.

Layer: operations. Format: docs/format.md §9. A pin is known by where its lock file stands and by its text; so copies of
a lock, and what stands there on another branch, have pins of their own. The new pin is in the log before the lock
file changes, and the old one leaves it after: a crash in between protects too much, never too little.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    ConflictError,
    InvalidInputError,
    KeepstoneError,
    NotFoundError,
    StoragePermissionError,
)
from keepstone.foundation.format import LOCK_BYTES_MAX
from keepstone.foundation.names import parse_selector
from keepstone.history.commit import Draft, RefChange
from keepstone.history.state import State
from keepstone.operations.lock import (
    MAGIC,
    Lock,
    LockedName,
    format_lock,
    how_many,
    location_for,
    make_lock,
    parse_lock,
    read_lock_text,
)
from keepstone.repository.arguments import check_kind_of, listed
from keepstone.repository.collection import Collection
from keepstone.repository.frozen import SnapshotItems
from keepstone.repository.name_view import Published, VersionGoneError
from keepstone.repository.refs import VERSIONS, read_name_ref, version_key
from keepstone.repository.repository import Repository
from keepstone.repository.session import Session
from keepstone.repository.staging import Restage, Staging
from keepstone.storage.calls import preparing
from keepstone.storage.files import path_text, write_file
from keepstone.storage.locate import is_url

PIN_PREFIX: Final = ":pins/"
_ID_DIGITS: Final = 32
_WHERE_BYTES_MAX: Final = 16 * 1024


class PinnedLock(msgspec.Struct, frozen=True, array_like=True):
    """The blob that a pin's ref names."""

    where: Annotated[str, Meta(max_length=_WHERE_BYTES_MAX)]
    """Path of the lock file, from the store's folder; absolute where they share nothing but the root."""
    lock: Annotated[bytes, Meta(max_length=LOCK_BYTES_MAX)]
    """Its text."""


class Pin(NamedTuple):
    """One pin of a store."""

    id: str
    """32 hex digits; `unpin` takes them, too."""
    path: str
    """Where the lock file was when it was pinned."""
    names: tuple[LockedName, ...]


class Pinned(NamedTuple):
    """What pinning did."""

    path: str
    lock: Lock
    protected: bool
    """Whether garbage collection knows of it; not where the store can only be read."""


# ---- pinning -------------------------------------------------------------------------------------------------------


def pin(
    repository: Repository,
    selectors: Iterable[str],
    path: str | os.PathLike[str],
    remotes: Iterable[str] | None = None,
) -> Pinned:
    """Write the lock file of what `selectors` mean now, and protect it. See `Store.pin`."""
    session, target = repository.session, path_text(path)
    asked = _selected(selectors)
    # What cannot be done is refused before a collection gets a snapshot for it.
    old = _present_text(session, target)
    kept = _remotes_of(old, target) if remotes is None else _checked(remotes)
    _require_there(repository, asked)
    with preparing():
        wanted = [_frozen(repository, selector) for selector in asked]
    if not session.writable:
        # By number, and so of one moment each: nothing is committed that would have to fit together.
        numbered = [repository.resolve(selector).selector for selector in wanted]
        lock = _resolved(repository, session.log.state, numbered, target, kept)
        _write(session, target, lock)
        return Pinned(target, lock, protected=False)
    locks: list[Lock] = []

    def stage(staging: Staging) -> tuple[Lock, Digest]:
        session.refresh()
        lock = _resolved(repository, session.log.state, wanted, target, kept)
        locks[:] = [lock]
        return lock, staging.add_bytes(_blob(session, target, format_lock(lock).encode()))

    def build(staging: Staging, state: State, staged: tuple[Lock, Digest]) -> Draft | None:
        return _draft(session, staging, state, *staged)

    # The protection first: the lock file is what was asked for.
    with preparing():
        made = repository.commit_staged(stage, build)
    try:
        _write(session, target, locks[0])
    except KeepstoneError:
        if made is not None and _is_certainly_other(session, target, locks[0]):
            # Nobody has this lock: it need not be protected. Where that fails, too, `pins()` shows it.
            _drop_quietly(session, _id_of(session, target, locks[0]))
        raise
    if old is not None and old != format_lock(locks[0]).encode():
        _drop(session, [_ref(_digest_of(_blob(session, target, old)))], "")
    return Pinned(target, locks[0], protected=True)


def _checked(remotes: Iterable[str]) -> tuple[str, ...]:
    checked = listed(remotes, "remotes")
    for remote in checked:
        check_kind_of(remote, str, f"remote {remote!r}", "a URL of a copy of the store, as text")
        if not remote or "\0" in remote:
            raise InvalidInputError(f"not a remote: {remote!r}", hint="name the URL of a copy of the store")
    return checked


def _is_certainly_other(session: Session, path: str, lock: Lock) -> bool:
    try:
        return read_lock_text(path, session.calls) != format_lock(lock).encode()
    except NotFoundError:
        return True
    except KeepstoneError:
        return False


def _selected(selectors: Iterable[str]) -> tuple[str, ...]:
    if isinstance(selectors, str):
        raise InvalidInputError(f"names is the text {selectors!r}, not a list", hint=f"write [{selectors!r}]")
    wanted = tuple(selectors)
    if not wanted:
        raise InvalidInputError("there is nothing to pin", hint="name at least one artifact or collection")
    return wanted


def _require_there(repository: Repository, selectors: Sequence[str]) -> None:
    view = repository.naming.present()
    for selector in selectors:
        if (
            parse_selector(selector).name == selector
            and repository.naming.kind_in(view, selector) == "collection"
        ):
            continue
        # One that is removed at this moment is looked for again when the lock is made.
        with contextlib.suppress(VersionGoneError):
            repository.naming.find_in(view, selector)


def _resolved(
    repository: Repository, state: State, selectors: Sequence[str], path: str, remotes: Sequence[str]
) -> Lock:
    session = repository.session
    lines = [_line(repository, state, selector) for selector in selectors]
    return make_lock(session.identity.store_id, location_for(session.storage.location, path), remotes, lines)


def _line(repository: Repository, state: State, selector: str) -> LockedName:
    try:
        found = repository.naming.find_in(Published(repository.session, state), selector)
    except VersionGoneError as error:
        # Removed since this state: look again.
        raise Restage from error
    kind = read_name_ref(state.refs[found.name], found.name).kind
    return LockedName(found.name, found.number, found.digest, kind)


def _frozen(repository: Repository, selector: str) -> str:
    """Return a selector of a version: of a collection as it is now, the snapshot that holds just that.

    Raises:
        StoragePermissionError: it needs a new snapshot, and the store can only be read.
    """
    name = parse_selector(selector).name
    if name != selector or repository.naming.kind_of(name) != "collection":
        return selector
    if repository.session.writable:
        return Collection[Any](repository, name, None, "disk").snapshot(message="pin").selector
    try:
        version = repository.resolve(f"{name}@latest")
        frozen = SnapshotItems(repository.session, version)
        live = Collection[Any](repository, name, None, "disk")
        same = all(row.key in live and live.digest_of(row.key) == row.digest for row in frozen.rows())
        if same and len(live) == frozen.count():
            return version.selector
    except ArtifactNotFoundError:
        # It has no snapshot.
        pass
    raise StoragePermissionError(
        f"collection {name!r} has changed since its newest snapshot, and this store can only be read",
        path=repository.session.storage.location,
        hint=f"pin a snapshot that it has, such as {name}@latest, or pin where the store can be written",
    )


def _draft(session: Session, staging: Staging, state: State, lock: Lock, digest: Digest) -> Draft | None:
    session.entries.advance(state)
    for line in lock.names:
        row = session.peek(VERSIONS, version_key(line.name, line.number))
        if row is None or row.digest != line.digest:
            # Removed meanwhile: resolve again, which says so.
            raise Restage
    ref = _ref(digest)
    before = state.refs.get(ref)
    if before == digest:
        return None
    # What a name's ref reaches need not be named pack by pack: stating it is enough, since a removal moves it.
    stated = [RefChange(n, state.refs[n], state.refs[n]) for n in sorted({line.name for line in lock.names})]
    refs = (RefChange(ref, before, bytes(digest)), *stated)
    return staging.draft(state, message=f"pin {how_many(lock.names)}", refs=refs)


def _present_text(session: Session, path: str) -> bytes | None:
    """Return what stands at the lock's path.

    Raises:
        ConflictError: something that is no lock.
    """
    try:
        old = read_lock_text(path, session.calls)
    except NotFoundError:
        return None
    if old and MAGIC.encode() not in old[:4096]:
        raise ConflictError(
            f"{path!r} exists already and is no lock", hint="choose another path for the lock"
        )
    return old


def _remotes_of(old: bytes | None, path: str) -> tuple[str, ...]:
    try:
        return parse_lock(old, where=path).remotes if old else ()
    except KeepstoneError:
        # Merged by hand, or damaged: it is about to be replaced.
        return ()


def _write(session: Session, path: str, lock: Lock) -> None:
    text = format_lock(lock).encode()
    write_file(path, lambda write: write(text), replace=True, calls=session.calls)


# ---- refs ----------------------------------------------------------------------------------------------------------


def _where(session: Session, path: str) -> str:
    # A path of undecodable bytes cannot stand in MessagePack text.
    return _path_from_store(session, path).encode("utf-8", "backslashreplace").decode()


def _path_from_store(session: Session, path: str) -> str:
    place, store = os.path.realpath(path), session.storage.location
    if is_url(store):
        return place
    store = os.path.realpath(store)
    if os.path.commonpath([place, store]) == os.path.sep:
        return place
    return os.path.relpath(place, store)


def _blob(session: Session, path: str, text: bytes) -> bytes:
    return encode(PinnedLock(_where(session, path), text))


def _digest_of(blob: bytes) -> Digest:
    return Digest.of(blob)


def _ref(digest: Digest) -> str:
    return PIN_PREFIX + digest.hex()[:_ID_DIGITS]


def _id_of(session: Session, path: str, lock: Lock) -> str:
    return _ref(_digest_of(_blob(session, path, format_lock(lock).encode())))


def _drop(session: Session, refs: Sequence[str], message: str) -> None:
    def build(state: State) -> Draft | None:
        changes = [RefChange(ref, state.refs[ref], None) for ref in refs if ref in state.refs]
        return Draft(message=message, refs=tuple(changes)) if changes else None

    session.log.append(build)
    session.catch_up()


def _drop_quietly(session: Session, ref: str) -> None:
    try:
        _drop(session, [ref], "")
    except KeepstoneError:
        return


# ---- what is pinned ------------------------------------------------------------------------------------------------


def pins(repository: Repository) -> tuple[Pin, ...]:
    """Return the pins of a store, by path.

    Raises:
        CorruptionError: what one of them says is damaged.
    """
    repository.session.refresh()
    return tuple(
        sorted((_read(repository, ref)[0] for ref in _refs(repository)), key=lambda p: (p.path, p.id))
    )


def _refs(repository: Repository) -> list[str]:
    return sorted(ref for ref in repository.session.log.state.refs if ref.startswith(PIN_PREFIX))


def _read(repository: Repository, ref: str) -> tuple[Pin, PinnedLock]:
    session = repository.session
    value = session.log.state.refs[ref]
    raw = session.read_blob(Digest(value), bytes_max=2 * LOCK_BYTES_MAX)
    pinned = decode(raw, PinnedLock, what=f"pin {ref}", bytes_max=2 * LOCK_BYTES_MAX)
    path = pinned.where
    if not is_url(session.storage.location):
        path = os.path.normpath(os.path.join(os.path.realpath(session.storage.location), pinned.where))
    return Pin(ref.removeprefix(PIN_PREFIX), path, parse_lock(pinned.lock, where=f"pin {ref}").names), pinned


def unpin(repository: Repository, lock: str | os.PathLike[str]) -> Pin:
    """Take the protection of a lock away; return what was pinned. The file stays. See `Store.unpin`."""
    session, given = repository.session, path_text(lock)
    session.require_writable()
    session.refresh()
    chosen = _chosen(repository, given)
    _drop(session, [PIN_PREFIX + chosen.id], f"unpin {how_many(chosen.names)}")
    return chosen


def _chosen(repository: Repository, given: str) -> Pin:
    session = repository.session
    known = [_read(repository, ref) for ref in _refs(repository)]
    for found, _ in known:
        if found.id == given:
            return found
    where = _where(session, given)
    same = [(found, pinned) for found, pinned in known if pinned.where == where]
    try:
        text = read_lock_text(given, session.calls)
        exact = [found for found, pinned in same if pinned.lock == text]
    except NotFoundError:
        exact = []
    candidates = exact or [found for found, _ in same]
    if not candidates:
        raise NotFoundError(
            f"{given!r} is not pinned in the store at {session.storage.location}",
            hint="`keepstone list --pins` shows what is; unpin takes the id from there, too",
        )
    if len(candidates) > 1:
        raise ConflictError(
            f"{given!r} was pinned {len(candidates)} times with different content, and none is in the file now",
            hint=f"unpin each by its id: {', '.join(found.id for found in candidates)}",
        )
    return candidates[0]
