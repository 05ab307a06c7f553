"""Store: the front door. A repository, plus what is done to the whole of it.

Layer: api. Opening by location is safe to repeat: all `Store`s of one place in a process share what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from keepstone.api.exchange import Exchange
from keepstone.api.origins import Origins
from keepstone.api.upkeep import Upkeep
from keepstone.foundation.errors import InvalidInputError, StorageError
from keepstone.foundation.names import check_name
from keepstone.objects.serializer import Serializer
from keepstone.repository.arguments import check_kind_of
from keepstone.repository.changes import LogEntry, log_entry
from keepstone.repository.collection import Collection, Durability
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.refs import Kind, check_kind, read_name_ref
from keepstone.repository.repository import ANY, Repository
from keepstone.repository.secret_watch import Secrets
from keepstone.repository.version import Version
from keepstone.storage.locate import is_bucket, is_elsewhere, locate

if TYPE_CHECKING:
    # Each is imported when it is first asked for: most programs never do.
    from keepstone.operations.locked import Locked
    from keepstone.repository.diff import Diff
    from keepstone.repository.past import Past, When
    from keepstone.repository.transaction import Transaction

T = TypeVar("T")
Mode = Literal["a", "r"]


class Store(Upkeep, Exchange, Origins):
    """Artifacts, their versions, and collections, at one place; safe to use from many threads.

    Use `keepstone.open`. Pickles as location and options, so it can be handed to worker processes.
    """

    def __init__(
        self,
        location: str,
        *,
        create: bool = False,
        mode: Mode = "a",
        offline: bool = False,
        single_writer: bool = False,
    ) -> None:
        if mode not in ("a", "r"):
            raise InvalidInputError(
                f"unknown mode {mode!r}", hint="use 'a' to read and write, 'r' to read only"
            )
        storage = locate(location, writable=False if mode == "r" else None)
        if offline and not is_elsewhere(storage.location):
            offline = False
        self._mode: Mode = mode
        self._offline = offline
        self._repository: Repository | None = open_repository(
            storage, create=create, writable=mode == "a", offline=offline, single_writer=single_writer
        )
        self._location = storage.location

    @property
    def location(self) -> str:
        """Where the store is: an absolute path or a URL."""
        return self._location

    @property
    def id(self) -> str:
        """The store's own id, 32 hex digits; copies of its folder share it."""
        return self.repository.session.identity.store_id

    @property
    def repository(self) -> Repository:
        """What this is a door to.

        Raises:
            StorageError: the store was closed.
        """
        if self._repository is None:
            raise StorageError(
                f"the store at {self._location} was closed", path=self._location, hint="open it again"
            )
        return self._repository

    def __repr__(self) -> str:
        return f"<Store {self._location}{'' if self._mode == 'a' else ', read-only'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self._location, self._mode, self._offline))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring everything to disk and let go; closing twice is allowed.

        Raises:
            StorageError: that failed; what was acknowledged at its level is still there.
        """
        repository, self._repository = self._repository, None
        if repository is not None:
            close_repository(repository)

    # ---- artifacts ---------------------------------------------------------------------------------------------------

    def save(
        self,
        name: str,
        value: object,
        *,
        metadata: Mapping[str, Any] | None = None,
        parents: Iterable[str | Version] = (),
        aliases: Iterable[str] = (),
        message: str = "",
        expected: str | None = ANY,
        serializer: str | None = None,
        secrets: Secrets = "warn",
    ) -> Version:
        """Keep `value` as the next version of `name`; it is published when this returns.

        What equals the newest version in content, metadata and parents makes no new one (`created_new` is False);
        `aliases` move either way. `expected` is the digest that the newest version must have, None for "no version
        yet". `serializer` names one where the value's type does not decide. `secrets` says what to do where text or
        JSON of up to 1 MiB looks like it holds credentials: "warn" (a `SecretsWarning`, when the store does not have
        the content yet), "refuse" or "off".

        Raises:
            InvalidInputError: a name, an alias or metadata cannot be accepted, or credentials are refused.
            SerializerError: nothing here can write the value, or it would not load as it is.
            RefConflictError: only with `expected`: somebody was first.
            KindError: the name is a collection's.
            StorageError: the medium failed; nothing was saved.
        """
        return self.repository.save(
            name,
            value,
            metadata=metadata,
            parents=parents,
            aliases=aliases,
            message=message,
            expected=expected,
            serializer=serializer,
            secrets=secrets,
        )

    def load(self, selector: str, *, type: Any = None, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value that `selector` means, a fresh copy; `type` builds and validates a class of yours.

        Raises:
            ArtifactNotFoundError: there is no such name, version or alias.
            CorruptionError: its bytes are damaged; nothing wrong is returned.
            SerializerError: the value does not fit `type`, or what wrote it is not installed here.
        """
        return self.repository.load(selector, type, allow_pickle=allow_pickle)

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` means now.

        Raises:
            ArtifactNotFoundError: there is no such name, version or alias.
        """
        return self.repository.resolve(selector)

    def exists(self, selector: str) -> bool:
        """Whether `selector` means something now."""
        return self.repository.naming.exists(selector)

    def names(self, prefix: str = "", *, kind: Kind | None = None) -> list[str]:
        """Return the names that begin with `prefix`, sorted; all, or those of artifacts or of collections."""
        check_kind_of(prefix, str, "prefix", "text")
        if kind not in (None, "artifact", "collection"):
            raise InvalidInputError(f"unknown kind {kind!r}", hint="use 'artifact', 'collection' or None")
        return self.repository.naming.names(prefix, kind)

    def kind(self, name: str) -> Kind | None:
        """Return "artifact" or "collection", None where there is no such name."""
        self.repository.session.refresh()
        return self.repository.naming.kind_of(name)

    def versions(self, name: str) -> list[Version]:
        """Return the versions of `name`, newest first.

        Raises:
            ArtifactNotFoundError: there is no such name.
        """
        return self.repository.naming.versions(name)

    def aliases(self, name: str) -> dict[str, int]:
        """Return the aliases of `name` and the numbers of the versions that they mean."""
        session = self.repository.session
        session.refresh()
        found = self.repository.naming.aliases_in(session.log.state, check_name(name))
        return {alias: ref.number for alias, ref in sorted(found.items())}

    def find(self, prefix: str = "", where: Callable[[Version], bool] | None = None) -> list[Version]:
        """Return the newest version of each artifact below `prefix` for which `where` is true.

        A version whose metadata lacks what `where` looks up (KeyError) does not match.
        """
        if where is not None:
            check_kind_of(where, Callable, "where", "a function of a version")
        return self.repository.naming.find(prefix, where)

    def alias(self, selector: str, alias: str, *, expected: str | None = ANY, message: str = "") -> Version:
        """Let `alias` mean what `selector` means now; return that version.

        `expected` is a selector of the version that the alias must mean now, None for "no such alias yet".

        Raises:
            RefConflictError: only with `expected`: it means something else.
        """
        return self.repository.alias(selector, alias, expected=expected, message=message)

    def unalias(self, name: str, alias: str, *, message: str = "") -> None:
        """Remove an alias; the version that it meant stays."""
        self.repository.unalias(name, alias, message=message)

    def remove(self, selector: str, *, message: str = "") -> tuple[str, ...]:
        """Remove one version (`name@v3`), or a name with all that is under it; return what was removed.

        The history keeps the removal, and a number is never given again.

        Raises:
            ConflictError: an alias still means the version.
        """
        return self.repository.remove(selector, message=message)

    def transaction(self, *, message: str = "") -> Transaction:
        """Return a transaction: `with store.transaction(message="publish") as change:` changes several names, or none.

        `change` saves, loads, resolves, aliases and removes as a store does; all of it becomes one commit when the
        block ends, and nothing where it ends with an exception. What is read through `change` must mean the same at
        that moment (compare and set). A block that changes nothing makes no commit.

        Raises:
            RefConflictError: when the block ends: something that was read, or expected, has changed; nothing happened.
            StorageError: the medium failed; nothing happened, unless it says `landed`.
        """
        return self.repository.transaction(message)

    def diff(self, a: str | Version, b: str | Version, *, texts: bool = False) -> Diff:
        """Return what differs between two versions: texts by line, JSON by place, folders by file, and metadata.

        Printed, it is short; its fields say all. Other content is compared by size and digest, as are texts above 1 MiB
        and JSON above 16 MiB; equal content is never loaded. `texts` adds the lines of short text files in folders.

        Raises:
            ArtifactNotFoundError: a selector means nothing.
            CorruptionError: what must be looked at is damaged.
        """
        from keepstone.repository.diff import diff

        return diff(self.repository, a, b, texts=texts)

    def undo(self, commit: int | LogEntry, *, message: str = "") -> LogEntry:
        """Take back what a commit decided about names, by its number or as `history` yields it; return the new commit.

        Versions that it made are removed, what it removed is back under its old numbers (with the time of the undo),
        and aliases mean what they meant. Numbers are never given again. An undo can be undone.

        Raises:
            RefConflictError: a name has moved since; the message says by which commit.
            ConflictError: an alias that was set later means a version that would go.
            InvalidInputError: the commit changed no names, or made or removed a collection.
            NotFoundError: there is no such commit, or what it removed was collected as garbage.
        """
        from keepstone.repository.undo import undo

        number = commit.number if isinstance(commit, LogEntry) else commit
        return log_entry(undo(self.repository, number, message))

    def history(self, name: str | None = None) -> Iterator[LogEntry]:
        """Yield what was decided about `name` (about everything), newest first."""
        return (log_entry(commit) for commit in self.repository.history(name))

    def at(self, when: When) -> Past:
        """Return the store as it was at a moment: to be read as this one, and not to be changed.

        `when` is a date (`"2026-11-20"`: its end, UTC), an RFC 3339 time, a `datetime` with a zone, or the number of a
        commit. Of a time to come it is the store as it is now; before the first commit it is empty. Moments go by the
        clocks of those who wrote.

        Raises:
            InvalidInputError: not a date or time.
            NotFoundError: there is no commit of that number yet.
        """
        from keepstone.repository.past import past_of

        return past_of(self.repository, when)

    # ---- collections -------------------------------------------------------------------------------------------------

    @overload
    def collection(self, name: str, *, type: type[T], durability: Durability = "disk") -> Collection[T]: ...

    @overload
    def collection(
        self, name: str, *, type: None = None, durability: Durability = "disk"
    ) -> Collection[Any]: ...

    def collection(self, name: str, *, type: Any = None, durability: Durability = "disk") -> Collection[Any]:  # noqa: A002
        """Return the mapping `name`: text to values of any kind, kept the moment they are set.

        Nothing is written before the first item. `type` builds a dataclass, Struct, pydantic or attrs instance of
        each value. `durability` is what a set item survives when the call returns: "process" a `kill -9`, "disk" a
        loss of power, "store" is published to all.

        A selector (`name@v3`, `name@prod`, `name@latest`, `name@2026-11-20`) gives a snapshot of it: what it held
        then, to be read only.

        Raises:
            KindError: the name is an artifact's.
            ArtifactNotFoundError: there is no such snapshot.
        """
        if isinstance(name, str) and "@" in name:  # pyright: ignore[reportUnnecessaryIsInstance]
            from keepstone.repository.frozen import open_snapshot

            return open_snapshot(self.repository, self.repository.resolve(name), type)
        value = self.repository.session.log.state.refs.get(check_name(name))
        if value is not None:
            check_kind(read_name_ref(value, name), name, "collection")
        return Collection(self.repository, name, type, durability)

    def flush(self) -> None:
        """Return when everything that this process set in collections is published."""
        self.repository.session.require_writable()
        self.repository.sealer.flush()

    # ---- serializers -------------------------------------------------------------------------------------------------

    def register(self, serializer: Serializer) -> None:
        """Use `serializer` for the values that it matches, before all others, in this process."""
        for member in ("id", "version", "matches", "dump", "load"):
            if not hasattr(serializer, member):
                raise InvalidInputError(
                    f"{type(serializer).__name__} is no serializer: it has no {member!r}",
                    hint="docs/contributing.md shows what a serializer has",
                )
        self.repository.registry.register(serializer)


def open(  # noqa: A001
    location: str | os.PathLike[str],
    *,
    create: bool | None = None,
    mode: Mode = "a",
    offline: bool = False,
    single_writer: bool = False,
) -> Store:
    """Open the store at `location`, a folder or a URL; a new folder becomes a store unless `create=False`.

    A bucket becomes one only with `create=True`. `mode="r"` only reads, and works where writing is not permitted.
    `offline` uses of a store that is elsewhere only what this machine has: what was read before, and what waits here to
    be published. `single_writer` makes a store in a bucket that cannot tell two writers apart, for one at a time.

    Raises:
        StoreNotFoundError: there is none, and none was created.
        InvalidInputError: the folder holds something else, or is a file.
        UnsupportedFormatError: a newer release made it.
        UnsafeStorageError: none was created, since the bucket would lose commits of writers that race.
    """
    check_kind_of(location, str | bytes | os.PathLike, "location", "a path or a URL")
    place = os.fspath(location)
    if create is None:
        # A folder is made by whoever writes there; a bucket costs money, and a typo in it would be another.
        create = mode == "a" and not is_bucket(place)
    return Store(place, create=create, mode=mode, offline=offline, single_writer=single_writer)


def locked(
    lock: str | os.PathLike[str] = "keepstone.lock",
    store: str | os.PathLike[str] | Store | None = None,
) -> Locked:
    """Return read-only access to exactly the versions that a lock names; offline, and found by digest.

    `store` is where they are (a path, a URL, a `Store`); None is the store that the lock names.

    Raises:
        NotFoundError: there is no such lock.
        StoreNotFoundError: the store that it names is not there.
        MalformedError: a line of the lock is wrong; the message says which.
    """
    from keepstone.operations.locked import Locked

    return Locked(lock, store.location if isinstance(store, Store) else store)


def _reopen(location: str, mode: Mode, offline: bool = False) -> Store:
    return Store(location, create=False, mode=mode, offline=offline)
