"""What a store has promised at each point of a recording, and the work that is recorded: each step notes what it says.

A fact is one thing that can be asked of a store: the versions of a name, where an alias leads, the value of a key. Each
step notes when it began to change a fact, when it had said so, and when that covers a loss of power.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import ArtifactNotFoundError, KeyNotFoundError
from keepstone.repository.version import Version

ABSENT = "absent"
"""The value of a fact that nothing is known of."""


class Fact(NamedTuple):
    """Something that can be asked: `versions` and `aliases` of a name, `exists` of a collection, `item` of a key."""

    kind: str
    name: str
    key: str = ""


class Change(NamedTuple):
    """A fact became something else."""

    value: Any
    begun: float
    """Events that were recorded when the call began."""
    said: float
    """... when the call had returned."""
    kept: float
    """... from when on no loss of power takes it away; infinity where that was not promised."""


class Promises:
    """What may and must be found, by fact."""

    def __init__(self) -> None:
        self.changes: dict[Fact, list[Change]] = defaultdict(list)
        self.created = math.inf
        """Events that were recorded when the store had been created for good; -1: it was there."""

    def allowed(self, fact: Fact, prefix: int, *, whole: bool) -> list[Any]:
        """Return what `fact` may be after a crash at `prefix`; `whole`: all was there that had been written."""
        first, end = self._range(fact, prefix, whole)
        return [change.value for change in self.changes[fact][first:end]]

    def required(self, prefix: int, *, whole: bool) -> tuple[object, ...]:
        """Return something that is equal for two crashes only if the same is allowed after both."""
        ranges = (self._range(fact, prefix, whole) for fact in self.changes)
        return (id(self), self.created <= prefix, *ranges)

    def _range(self, fact: Fact, prefix: int, whole: bool) -> tuple[int, int]:
        first = end = 0
        for i, change in enumerate(self.changes[fact]):
            if (change.said if whole else change.kept) <= prefix:
                first = i
            if change.begun < prefix:
                end = i + 1
        return first, max(first + 1, end)

    def begin_with(self, place: Path, facts: list[Fact]) -> None:
        """Take what a store tells of `facts` for certain."""
        self.created = -1
        with keepstone.open(place, mode="r") as store:
            for fact, value in observe(store, facts).items():
                self.changes[fact].append(Change(value, -1, -1, -1))

    def keep_said(self, now: int) -> None:
        """Note that what was said up to now is kept from now on."""
        for changes in self.changes.values():
            for i, change in enumerate(changes):
                if change.said <= now and change.kept > now:
                    changes[i] = change._replace(kept=now)


def observe(store: Store, facts: list[Fact]) -> dict[Fact, Any]:
    """Ask a store for facts."""
    return {fact: _ASKED[fact.kind](store, fact) for fact in facts}


def _versions(store: Store, fact: Fact) -> Any:
    try:
        found = store.versions(fact.name)
    except ArtifactNotFoundError:
        return ABSENT
    values = {version.number: _loaded(version) for version in found}
    if values:
        assert _loaded(store.resolve(fact.name)) == values[max(values)]
    return values or ABSENT


def _loaded(version: Version) -> Any:
    return version.load(type=dict if version.serializer == "folder" else None)


def _plain(value: Any) -> Any:
    """Return what is loaded where `value` was saved."""
    if isinstance(value, Path):
        return {
            str(path.relative_to(value)): path.read_bytes() for path in value.rglob("*") if path.is_file()
        }
    return value


def _item(store: Store, fact: Fact) -> Any:
    try:
        return store.collection(fact.name)[fact.key]
    except KeyNotFoundError:
        return ABSENT


_ASKED: dict[str, Callable[[Store, Fact], Any]] = {
    "versions": _versions,
    "aliases": lambda store, fact: store.aliases(fact.name) or ABSENT,
    "exists": lambda store, fact: store.kind(fact.name) == "collection",
    "item": _item,
}


class Script:
    """Work on the store at `place` whose calls are recorded; notes what each step promises."""

    def __init__(self, place: Path, promises: Promises, now: Callable[[], int]) -> None:
        self.place = place
        self.promises = promises
        self._now = now
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The open store."""
        if self._store is None:
            self._store = keepstone.open(self.place)
        return self._store

    def another(self, place: Path) -> Script:
        """Return the script of another process, which knows the store as `place`."""
        return Script(place, self.promises, self._now)

    def create(self) -> None:
        """Open, and create."""
        assert self.store is not None
        self.promises.created = min(self.promises.created, self._now())

    def _step(self, changes: dict[Fact, Any], work: Callable[[], object], *, covers: bool = True) -> None:
        begun = self._now()
        before = {fact: len(self.promises.changes[fact]) for fact in changes}
        for fact, value in changes.items():
            if not before[fact]:
                self.promises.changes[fact].append(Change(_nothing(fact), -1, -1, -1))
                before[fact] = 1
            self.promises.changes[fact].append(Change(value, begun, math.inf, math.inf))
        work()
        said = self._now()
        for fact, place in before.items():
            change = self.promises.changes[fact][place]
            self.promises.changes[fact][place] = change._replace(said=said, kept=said if covers else math.inf)

    def newest(self, fact: Fact) -> Any:
        """Return what `fact` was told to be last."""
        changes = self.promises.changes[fact]
        return changes[-1].value if changes else ABSENT

    # ---- artifacts ---------------------------------------------------------------------------------------------------

    def save(self, name: str, value: Any, *, aliases: tuple[str, ...] = (), number: int = 0) -> None:
        """Save; `number` is that of the version it will be, 0: the next one."""
        fact = Fact("versions", name)
        old = self.newest(fact)
        old = {} if old == ABSENT else old
        number = number or max(old, default=0) + 1
        changes: dict[Fact, Any] = {fact: {**old, number: _plain(value)}}
        if aliases:
            known = self.newest(Fact("aliases", name))
            known = {} if known == ABSENT else known
            changes[Fact("aliases", name)] = {**known, **dict.fromkeys(aliases, number)}
        self._step(changes, lambda: self.store.save(name, value, aliases=aliases))

    def transact(self, values: dict[str, Any]) -> None:
        """Save several names in one transaction."""
        changes: dict[Fact, Any] = {}
        for name, value in values.items():
            old = self.newest(Fact("versions", name))
            old = {} if old == ABSENT else old
            changes[Fact("versions", name)] = {**old, max(old, default=0) + 1: _plain(value)}

        def work() -> None:
            with self.store.transaction() as change:
                for name, value in values.items():
                    change.save(name, value)

        self._step(changes, work)

    def alias(self, name: str, number: int, alias: str) -> None:
        fact = Fact("aliases", name)
        known = self.newest(fact)
        known = {} if known == ABSENT else known
        self._step({fact: {**known, alias: number}}, lambda: self.store.alias(f"{name}@v{number}", alias))

    def unalias(self, name: str, alias: str) -> None:
        fact = Fact("aliases", name)
        rest = {known: number for known, number in self.newest(fact).items() if known != alias}
        self._step({fact: rest or ABSENT}, lambda: self.store.unalias(name, alias))

    def remove(self, name: str, number: int = 0) -> None:
        """Remove an artifact, or one of its versions."""
        fact = Fact("versions", name)
        rest = {n: value for n, value in self.newest(fact).items() if number and n != number}
        changes: dict[Fact, Any] = {fact: rest or ABSENT}
        if not number:
            changes[Fact("aliases", name)] = ABSENT
        self._step(changes, lambda: self.store.remove(f"{name}@v{number}" if number else name))

    # ---- collections -------------------------------------------------------------------------------------------------

    def put(
        self, collection: str, items: dict[str, Any], durability: Any = "disk", *, at_once: bool = False
    ) -> None:
        """Set items of a collection."""
        covers = durability != "process"
        handle = self.store.collection(collection, durability=durability)
        exists = Fact("exists", collection)
        groups = [items] if at_once else [{key: value} for key, value in items.items()]
        for group in groups:
            changes: dict[Fact, Any] = {Fact("item", collection, k): _plain(v) for k, v in group.items()}
            if self.newest(exists) is not True:
                changes[exists] = True
            self._step(changes, lambda group=group: _set(handle, group), covers=covers)

    def create_collection(self, name: str) -> None:
        self._step({Fact("exists", name): True}, lambda: self.store.collection(name).create())

    def put_file(self, collection: str, key: str, path: Path) -> None:
        """Set an item that is a file, which is kept in parts."""
        handle = self.store.collection(collection)
        self._step({Fact("item", collection, key): path.read_bytes()}, lambda: _set(handle, {key: path}))

    def delete(self, collection: str, key: str) -> None:
        handle = self.store.collection(collection)
        self._step({Fact("item", collection, key): ABSENT}, lambda: handle.pop(key))

    def remove_collection(self, name: str) -> None:
        changes: dict[Fact, Any] = {
            fact: ABSENT for fact in self.promises.changes if fact.kind == "item" and fact.name == name
        }
        self._step({**changes, Fact("exists", name): False}, lambda: self.store.remove(name))

    # ---- the whole store ---------------------------------------------------------------------------------------------

    def flush(self) -> None:
        self.store.flush()
        self.promises.keep_said(self._now())

    def recover(self) -> None:
        report = self.store.recover()
        assert report.strangers == ()
        self.promises.keep_said(self._now())

    def close(self) -> None:
        """Close; all that was said is on disk."""
        if self._store is not None:
            store, self._store = self._store, None
            store.close()
            self.promises.keep_said(self._now())

    def abandon(self) -> None:
        """Close without promising anything; for the end of a recording."""
        store, self._store = self._store, None
        if store is not None:
            store.close()


def _nothing(fact: Fact) -> Any:
    return False if fact.kind == "exists" else ABSENT


def _set(handle: Any, items: dict[str, Any]) -> None:
    if len(items) == 1:
        for key, value in items.items():
            handle[key] = value
    else:
        handle.add_many(items)
