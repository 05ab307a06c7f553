"""Who works on a store in the tests of this folder: sessions in this process, processes beside it, forked children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from tests.faults.processes import forked
from tests.machines.model import VALUES, Operation, Raised, word_of

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import InvalidInputError, KeepstoneError, StorageFullError
from keepstone.repository.merging import merge
from keepstone.repository.past import Past

ANSWER_SECONDS_MAX = 60


def perform(store: Store, operation: Operation) -> Any:
    """Do `operation` on a real store; return its answer as plain data."""
    try:
        return _PERFORM[operation.verb](store, *operation.arguments)
    except KeepstoneError as error:
        return Raised(type(error).__name__)


def _save(store: Store, name: str, word: str, aliases: tuple[str, ...], expected: str | None) -> Any:
    version = store.save(name, VALUES[word], aliases=aliases, expected=expected)
    assert word_of(version.load()) == word
    return version.number, version.created_new


def _load(store: Store, selector: str) -> Any:
    version = store.resolve(selector)
    return version.number, word_of(version.load())


def _put(store: Store, name: str, key: str, value: Any, durability: Any) -> None:
    store.collection(name, durability=durability)[key] = value


def _delete(store: Store, name: str, key: str) -> None:
    del store.collection(name)[key]


def _recover(store: Store) -> None:
    report = store.recover()
    assert not report.damaged
    assert not report.strangers


def _merge(store: Store) -> None:
    merge(store.repository.session, packs_min=2)


def _snapshot(store: Store, name: str) -> tuple[int, bool]:
    version = store.collection(name).snapshot()
    return version.number, version.created_new


def _read_snapshot(store: Store, name: str, number: int | None) -> dict[str, Any]:
    return dict(store.collection(f"{name}@latest" if number is None else f"{name}@v{number}"))


def _transact(
    store: Store, saves: tuple[tuple[str, str], ...], alias: str | None, fails: bool
) -> tuple[int, ...]:
    with store.transaction() as change:
        versions = [change.save(name, VALUES[word]) for name, word in saves]
        for name in dict.fromkeys(name for name, _ in saves if alias):
            change.alias(name, str(alias))
        for name, word in dict(saves).items():
            assert word_of(change.load(name)) == word
        if fails:
            raise StorageFullError("what a program does in the block may fail")
    return tuple(version.number for version in versions)


def _undo(store: Store) -> None:
    # A journal may be sealed at any moment; that decides nothing about names.
    newest = next((entry for entry in store.history() if entry.changes), None)
    if newest is None:
        raise InvalidInputError("nothing was decided yet")
    store.undo(newest)


_PERFORM: dict[str, Callable[..., Any]] = {
    "save": _save,
    "load": _load,
    "exists": Store.exists,
    "names": Store.names,
    "versions": lambda store, name: [(v.number, v.digest) for v in store.versions(name)],
    "aliases": Store.aliases,
    "alias": lambda store, selector, alias, expected: store.alias(selector, alias, expected=expected).number,
    "unalias": Store.unalias,
    "remove": Store.remove,
    "put": _put,
    "add_many": lambda store, name, pairs, level: store.collection(name, durability=level).add_many(pairs),
    "delete": _delete,
    "get": lambda store, name, key: store.collection(name)[key],
    "contains": lambda store, name, key: key in store.collection(name),
    "length": lambda store, name: len(store.collection(name)),
    "keys": lambda store, name: sorted(store.collection(name)),
    "missing": lambda store, name, keys: list(store.collection(name).missing(keys)),
    "clear": lambda store, name: store.collection(name).clear(),
    "remove_collection": Store.remove,
    "snapshot": _snapshot,
    "read_snapshot": _read_snapshot,
    "remove_snapshot": lambda store, name, number: store.remove(f"{name}@v{number}"),
    "transact": _transact,
    "undo": _undo,
    "flush": Store.flush,
    "recover": _recover,
    "merge": _merge,
}


def content(store: Store) -> dict[str, Any]:
    """Return everything that can be seen in a store, as of now; see `Model.content`."""
    store.repository.session.refresh()
    return seen_in(store)


def seen_in(store: Store | Past) -> dict[str, Any]:
    """Return everything that can be seen in a store, or that could be at a moment of its past."""
    names = store.names()
    artifacts = [name for name in names if store.kind(name) == "artifact"]
    return {
        "names": names,
        "artifacts": {
            name: ([(v.number, v.digest) for v in store.versions(name)], store.aliases(name))
            for name in artifacts
        },
        "collections": {
            name: (dict(store.collection(name)), [v.number for v in store.versions(name)])
            for name in sorted(set(names) - set(artifacts))
        },
    }


class Neighbour:
    """A process of its own that does what it is told over a pipe; it can be killed at any moment."""

    def __init__(self, place: Path) -> None:
        self._pipe, other = Pipe()
        self.pid = forked(lambda: self._serve(place, other))
        other.close()

    def _serve(self, place: Path, pipe: Connection) -> None:
        self._pipe.close()
        store = keepstone.open(place)
        while True:
            try:
                operation = pipe.recv()
            except EOFError:
                # Whoever asked is gone. The journal is left as by a process that died.
                return
            pipe.send(perform(store, operation))

    def do(self, operation: Operation) -> Any:
        """Have `operation` done; return its answer."""
        self._pipe.send(operation)
        if not self._pipe.poll(ANSWER_SECONDS_MAX):
            self.kill()
            raise AssertionError(f"no answer to {operation} within {ANSWER_SECONDS_MAX} s")
        return self._pipe.recv()

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._pipe.close()

    def kill_during(self, operation: Operation, after_seconds: float) -> tuple[Any] | None:
        """Begin `operation` and kill the process a moment later; return its answer in a tuple, if there was one."""
        self._pipe.send(operation)
        deadline = time.monotonic() + after_seconds
        while time.monotonic() < deadline:
            pass
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        try:
            return (self._pipe.recv(),) if self._pipe.poll(0) else None
        except (EOFError, ConnectionResetError):
            return None
        finally:
            self._pipe.close()


def in_forked_child(store: Store, operation: Operation) -> Any:
    """Fork, and let the child do `operation` through the store object that it inherited; return its answer."""
    pipe, other = Pipe()
    pid = forked(lambda: other.send(perform(store, operation)))
    other.close()
    try:
        assert pipe.poll(ANSWER_SECONDS_MAX), f"no answer to {operation} from a forked child"
        return pipe.recv()
    finally:
        os.waitpid(pid, 0)
        pipe.close()
