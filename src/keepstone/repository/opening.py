"""Opening and closing: who holds which store in this process, across forks and at exit.

Layer: repository. All who open a store in one process share one repository, and with it one journal.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from typing import Any, NamedTuple

from keepstone.foundation.errors import (
    KeepstoneError,
    StorageBusyError,
    StoragePermissionError,
    StoreNotFoundError,
)
from keepstone.history.checkpoint import Found
from keepstone.history.commit import RefChange
from keepstone.repository.identity import (
    Identity,
    create_identity,
    read_identity,
    require_empty,
)
from keepstone.repository.repository import Repository
from keepstone.repository.sealer import Sealer
from keepstone.repository.session import Session
from keepstone.storage.base import Storage
from keepstone.storage.calls import preparing
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import is_bucket, is_elsewhere, locate
from keepstone.storage.platform import is_network_filesystem

_GITIGNORE = b"*\n"
_CACHEDIR_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n"


class _Held:
    """A repository and how many hold it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.holders = 1


class _Turn:
    """Whose lock is held by the one who opens a store; forgotten when nobody has it in a variable any more."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_Key = tuple[str, bool, bool]
"""Location, whether it is written to, and whether offline."""


class _Holders(dict[_Key, _Held]):
    """A class so that weak references to it can be made."""


_held = _Holders()
_turns: weakref.WeakValueDictionary[_Key, _Turn] = weakref.WeakValueDictionary()
_alive: weakref.WeakSet[Repository] = weakref.WeakSet()
_lock = threading.Lock()
"""Guards the three; never held while anything is waited for."""


def open_repository(
    storage: Storage, *, create: bool, writable: bool, offline: bool = False, single_writer: bool = False
) -> Repository:
    """Return this process's repository of the store on `storage`; give it back with `close_repository`.

    Raises:
        StoreNotFoundError: there is no store, and none is to be created.
        InvalidInputError: there is something else.
        UnsafeStorageError: none was created, since the medium would lose commits.
    """
    try:
        place = _look_at(storage, create=create and writable, offline=offline, single_writer=single_writer)
    except StorageBusyError as error:
        _speak_of_offline(error, storage)
        raise
    storage, identity = place.storage, place.identity
    writable = writable and storage.writable
    key = storage.location, writable, offline
    # Who waits for one store must not keep others from theirs: a bucket may take long, or hang.
    turn = _turn_at(key)
    with turn.lock:
        repository = _held_here(key, identity)
        if repository is None:
            session = Session(
                storage,
                identity,
                writable=writable,
                offline=offline,
                single_writer=single_writer,
                known=place.known,
            )
            if session.medium is not None and place.examined is not None:
                session.medium.record(place.examined)
            repository = Repository(session, Sealer(session))
            with _lock:
                _held[key] = _Held(repository)
                _alive.add(repository)
            _register_worker_exit()
        repository.sealer.start_folding()
        return repository


def _held_here(key: _Key, identity: Identity) -> Repository | None:
    """Return the repository that this process has of that store, held once more."""
    with _lock:
        held = _held.get(key)
        if held is None or held.repository.session.identity != identity:
            return None
        held.holders += 1
        return held.repository


def _turn_at(key: _Key) -> _Turn:
    with _lock:
        turn = _turns.get(key)
        if turn is None:
            turn = _turns[key] = _Turn()
        return turn


class _Place(NamedTuple):
    """What is at a location."""

    storage: Storage
    identity: Identity
    known: Found | None = None
    """Of a bucket that this machine has read before."""
    examined: RefChange | None = None
    """Of a bucket that a store was just made in: what was found out about it."""


def _look_at(storage: Storage, *, create: bool, offline: bool, single_writer: bool) -> _Place:
    if not is_elsewhere(storage.location):
        return _Place(storage, _identify(storage, create=create, single_writer=single_writer)[0])
    from keepstone.repository.read_from_bucket import cached_storage, known_store, offline_storage

    if offline:
        storage = offline_storage(storage)
        return _Place(storage, read_identity(storage))
    known = known_store(storage)
    if known is not None:
        return _Place(known.storage, known.identity, known.found)
    identity, examined = _identify(storage, create=create, single_writer=single_writer)
    return _Place(cached_storage(storage, identity), identity, examined=examined)


def _identify(storage: Storage, *, create: bool, single_writer: bool) -> tuple[Identity, RefChange | None]:
    """Return what the store is; of one that is made in a bucket also what was found out about that."""
    try:
        return read_identity(storage), None
    except StoreNotFoundError:
        if not create:
            raise
    if not storage.writable:
        raise StoragePermissionError(
            f"cannot create a store at {storage.location}: no permission to write there",
            path=storage.location,
            hint="choose another folder, or ask its owner",
        )
    local = isinstance(storage, LocalStorage)
    locks = "none" if local and is_network_filesystem(storage.location) else "local"
    require_empty(storage)
    examined = _examined(storage, single_writer=single_writer) if is_bucket(storage.location) else None
    # Opening is what was asked for: it may be repeated, whatever stands already.
    with preparing():
        identity = create_identity(storage, locks=locks)
    if local:
        # A store inside a project is neither source code nor worth a place in backups of code.
        with contextlib.suppress(KeepstoneError):
            storage.write_hint(".gitignore", _GITIGNORE)
            storage.write_hint("CACHEDIR.TAG", _CACHEDIR_TAG)
    return identity, examined


def _speak_of_offline(error: StorageBusyError, storage: Storage) -> None:
    if is_elsewhere(storage.location):
        from keepstone.storage.places import cached_store

        if cached_store(storage.location) is not None:
            error.hint += "; what was read here before can be read with `--offline`, `offline=True`"


def _examined(storage: Storage, *, single_writer: bool) -> RefChange:
    from keepstone.repository.medium import examine

    return examine(storage, single_writer=single_writer)


def reopen_repository(location: str, writable: bool, offline: bool = False) -> Repository:
    """Return the repository at a location, for what was pickled; it is held until the process ends."""
    storage = locate(location, writable=None if writable else False)
    return open_repository(storage, create=False, writable=writable, offline=offline)


def close_repository(repository: Repository) -> None:
    """Let go of a repository; the last one to do so brings everything to disk.

    Raises:
        StorageError: that failed; what was acknowledged at its level is still there.
    """
    with _lock:
        for key, held in list(_held.items()):
            if held.repository is repository:
                held.holders -= 1
                if held.holders > 0:
                    return
                del _held[key]
    _close(repository)


def _close(repository: Repository) -> None:
    try:
        repository.sealer.close()
    finally:
        # Whatever failed, nothing stays open.
        repository.session.close()


def _close_all() -> None:
    with _lock:
        repositories = [held.repository for held in _held.values()]
        _held.clear()
    for repository in repositories:
        # At exit there is nobody to tell; what was acknowledged is in a journal.
        with contextlib.suppress(KeepstoneError, OSError):
            _close(repository)


def _register_worker_exit() -> None:
    # Workers of multiprocessing leave by os._exit, which skips atexit; their own list of exit calls is run. A forked
    # worker empties that list first, so it is told again after it has.
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _close_all, exitpriority=10)
        util.register_after_fork(_held, _finalize_worker)


def _finalize_worker(_: object) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, _close_all, exitpriority=10)  # pyright: ignore


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    # Who held them is not here.
    _turns.clear()
    for repository in list(_alive):
        repository.sealer.after_fork()
        repository.session.after_fork()
    if _held:
        _register_worker_exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_close_all)
