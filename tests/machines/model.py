"""A store as plain dicts: what each operation must answer, and what the store must hold afterwards.

An operation is data, a verb and its arguments, so that the model and a real store (actors.py) are asked the very same.
An answer is plain data too; an error is `Raised` with the name of its class.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keepstone

VALUES: dict[str, Any] = {
    "zero": 0,
    "one": 1,
    "empty": "",
    "text": "ü",
    "bytes": b"bytes",
    "tree": {"b": [1, {"a": None}]},
    "large": "".join(map(str, range(60_000))),
    "cut": bytes(range(256)) * 5_000,
}
"""What artifacts are made of, by the word that operations say; few, so that a value comes back.

`large` does not fit into a commit, `cut` is kept in pieces.
"""


def word_of(value: object) -> str:
    """Return the word for one of `VALUES`."""
    return next(word for word, known in VALUES.items() if known == value and type(known) is type(value))


class Raised(NamedTuple):
    """An error, by the name of its class."""

    error: str


class Operation(NamedTuple):
    """What somebody does to a store."""

    verb: str
    arguments: tuple[Any, ...] = ()


NOT_FOUND = Raised("ArtifactNotFoundError")
CONFLICT = Raised("RefConflictError")
NO_KEY = Raised("KeyNotFoundError")


def digests() -> dict[str, str]:
    """Return the digest of each of `VALUES` as an artifact, by its word."""
    with keepstone.open("memory://digests-of-the-model") as store:
        return {word: store.save("one", value).digest for word, value in VALUES.items()}


@dataclass
class Artifact:
    """One name: its versions, the numbers given so far, its aliases."""

    last: int = 0
    versions: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        return max(self.versions, default=0)


@dataclass
class Snapshots:
    """The versions of one collection."""

    last: int = 0
    contents: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        return max(self.contents, default=0)


class Model:
    """What a store holds."""

    def __init__(self, digest_of: dict[str, str]) -> None:
        self.digest_of = digest_of
        self.artifacts: dict[str, Artifact] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.existing: set[str] = set()
        """Collections that are there; one without items among them."""
        self.snapshots: dict[str, Snapshots] = {}
        self.before: tuple[dict[str, Artifact], dict[str, Snapshots]] | None = None
        """Names before they were changed last; None where that made or removed a collection, or never was."""

    def copy(self) -> Model:
        """Return a model that goes its own way."""
        other = Model(self.digest_of)
        other.artifacts = copy.deepcopy(self.artifacts)
        other.collections = {name: dict(items) for name, items in self.collections.items()}
        other.existing = set(self.existing)
        other.snapshots = copy.deepcopy(self.snapshots)
        other.before = self.before
        return other

    def with_collection_for(self, operation: Operation) -> Model:
        """Return the model after the first half of a put: its collection is there, by a commit of its own."""
        other = self.copy()
        if operation.verb == "put":
            other.existing.add(operation.arguments[0])
            other.before = None
        return other

    def apply(self, operation: Operation) -> Any:
        """Do `operation`; return its answer."""
        names, existing = copy.deepcopy((self.artifacts, self.snapshots)), set(self.existing)
        answer = getattr(self, operation.verb)(*operation.arguments)
        if existing != self.existing:
            self.before = None
        elif names != (self.artifacts, self.snapshots):
            self.before = names
        return answer

    def content(self) -> dict[str, Any]:
        """Return everything that can be seen, as `actors.content` does."""
        return {
            "names": self.names(),
            "artifacts": {
                name: (self.versions(name), self.aliases(name))
                for name, artifact in sorted(self.artifacts.items())
                if artifact.versions
            },
            "collections": {
                name: (self.collections.get(name, {}), self._snapshots(name))
                for name in sorted(self.existing)
            },
        }

    # ---- artifacts -----------------------------------------------------------------------------------

    def save(self, name: str, word: str, aliases: tuple[str, ...], expected: str | None) -> Any:
        known = self.artifacts.get(name, Artifact())
        present = self._digest(known, known.newest) if known.versions else None
        if expected not in ("any", present):
            return CONFLICT
        artifact = self.artifacts.setdefault(name, known)
        same = present == self.digest_of[word]
        number = artifact.newest if same else artifact.last + 1
        artifact.last = max(artifact.last, number)
        artifact.versions[number] = word
        artifact.aliases.update(dict.fromkeys(aliases, number))
        return number, not same

    def _digest(self, artifact: Artifact, number: int) -> str:
        return self.digest_of[artifact.versions[number]]

    def _resolve(self, selector: str) -> tuple[str, int] | Raised:
        name, _, what = selector.partition("@")
        artifact = self.artifacts.get(name)
        if artifact is None or not artifact.versions:
            return NOT_FOUND
        if what in ("", "latest"):
            number = artifact.newest
        elif what.startswith("b3:"):
            fits = [n for n in artifact.versions if self._digest(artifact, n).startswith(what)]
            number = max(fits, default=0)
        elif what[1:].isdigit():
            number = int(what[1:])
        else:
            number = artifact.aliases.get(what, 0)
        return (name, number) if number in artifact.versions else NOT_FOUND

    def load(self, selector: str) -> Any:
        found = self._resolve(selector)
        if isinstance(found, Raised):
            return found
        return found[1], self.artifacts[found[0]].versions[found[1]]

    def exists(self, selector: str) -> Any:
        return selector in self.existing or not isinstance(self._resolve(selector), Raised)

    def names(self) -> Any:
        return sorted({name for name, a in self.artifacts.items() if a.versions} | self.existing)

    def versions(self, name: str) -> Any:
        artifact = self.artifacts.get(name)
        if artifact is None:
            return NOT_FOUND
        return [(n, self._digest(artifact, n)) for n in sorted(artifact.versions, reverse=True)]

    def aliases(self, name: str) -> Any:
        artifact = self.artifacts.get(name)
        return dict(artifact.aliases) if artifact else {}

    def alias(self, selector: str, alias: str, expected: str | None) -> Any:
        found = self._resolve(selector)
        if isinstance(found, Raised):
            return found
        artifact = self.artifacts[found[0]]
        present = artifact.aliases.get(alias)
        if expected != "any":
            wanted = None
            if expected is not None:
                meant = self._resolve(expected)
                if isinstance(meant, Raised):
                    return meant
                wanted = self._digest(self.artifacts[meant[0]], meant[1])
            if (None if present is None else self._digest(artifact, present)) != wanted:
                return CONFLICT
        artifact.aliases[alias] = found[1]
        return found[1]

    def unalias(self, name: str, alias: str) -> Any:
        artifact = self.artifacts.get(name)
        if artifact is None or alias not in artifact.aliases:
            return NOT_FOUND
        del artifact.aliases[alias]
        return None

    def remove(self, selector: str) -> Any:
        found = self._resolve(selector)
        if isinstance(found, Raised):
            return found
        name, number = found
        artifact = self.artifacts[name]
        if "@" in selector:
            if number in artifact.aliases.values():
                return Raised("ConflictError")
            del artifact.versions[number]
            return (f"{name}@v{number}",)
        gone = tuple(f"{name}@v{n}" for n in sorted(artifact.versions, reverse=True))
        artifact.versions, artifact.aliases = {}, {}
        return gone

    def undo(self) -> Any:
        """Take back the newest change of names; numbers that were given stay given."""
        if self.before is None:
            return Raised("InvalidInputError")
        artifacts, snapshots = copy.deepcopy(self.before)
        for name, artifact in self.artifacts.items():
            artifacts.setdefault(name, Artifact()).last = artifact.last
        for name, kept in self.snapshots.items():
            snapshots.setdefault(name, Snapshots()).last = kept.last
        self.artifacts, self.snapshots = artifacts, snapshots
        return None

    # ---- collections ---------------------------------------------------------------------------------

    def put(self, name: str, key: str, value: Any, durability: str) -> Any:
        return self.add_many(name, {key: value}, durability) and None

    def add_many(self, name: str, pairs: dict[str, Any], durability: str) -> Any:
        if pairs:
            self.existing.add(name)
        self.collections.setdefault(name, {}).update(pairs)
        return len(pairs)

    def delete(self, name: str, key: str) -> Any:
        if key not in self.collections.get(name, {}):
            return NO_KEY
        del self.collections[name][key]
        return None

    def get(self, name: str, key: str) -> Any:
        return self.collections.get(name, {}).get(key, NO_KEY)

    def contains(self, name: str, key: str) -> Any:
        return key in self.collections.get(name, {})

    def length(self, name: str) -> Any:
        return len(self.collections.get(name, {}))

    def keys(self, name: str) -> Any:
        return sorted(self.collections.get(name, {}))

    def missing(self, name: str, keys: list[str]) -> Any:
        return [key for key in keys if key not in self.collections.get(name, {})]

    def clear(self, name: str) -> Any:
        self.collections.get(name, {}).clear()

    def remove_collection(self, name: str) -> Any:
        if name not in self.existing:
            return NOT_FOUND
        self.existing.discard(name)
        self.collections[name] = {}
        gone = self._snapshots(name)
        self.snapshots.setdefault(name, Snapshots()).contents = {}
        return (name, *(f"{name}@v{number}" for number in gone))

    # ---- snapshots -----------------------------------------------------------------------------------

    def _snapshots(self, name: str) -> list[int]:
        return sorted(self.snapshots.get(name, Snapshots()).contents, reverse=True)

    def snapshot(self, name: str) -> Any:
        if name not in self.existing:
            return NOT_FOUND
        kept = self.snapshots.setdefault(name, Snapshots())
        items = dict(self.collections.get(name, {}))
        if kept.contents.get(kept.newest) == items:
            return kept.newest, False
        kept.last += 1
        kept.contents[kept.last] = items
        return kept.last, True

    def read_snapshot(self, name: str, number: int | None) -> Any:
        kept = self.snapshots.get(name, Snapshots())
        return kept.contents.get(kept.newest if number is None else number, NOT_FOUND)

    def remove_snapshot(self, name: str, number: int) -> Any:
        if number not in self._snapshots(name):
            return NOT_FOUND
        del self.snapshots[name].contents[number]
        return (f"{name}@v{number}",)

    # ---- several at once -----------------------------------------------------------------------------

    def transact(self, saves: tuple[tuple[str, str], ...], alias: str | None, fails: bool) -> Any:
        if fails:
            return Raised("StorageFullError")
        numbers = tuple(self.save(name, word, (), "any")[0] for name, word in saves)
        for name in dict.fromkeys(name for name, _ in saves if alias):
            self.alias(name, str(alias), "any")
        return numbers

    # ---- what changes nothing ------------------------------------------------------------------------

    def flush(self) -> Any:
        return None

    def recover(self) -> Any:
        return None

    def merge(self) -> Any:
        return None
