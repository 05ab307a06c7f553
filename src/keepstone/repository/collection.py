"""Collections: mappings from any text to values, over millions of keys, kept the moment they are set.

Layer: repository. A value that is set is one append to this process's journal; all processes of the machine see it at
once, all others when the journal is sealed. The newest entry of a key wins, so two writers never conflict.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast, get_args

from blake3 import blake3

from keepstone.blobs.footer import Entry
from keepstone.blobs.journal import Row
from keepstone.blobs.runs import Span
from keepstone.blobs.spool import Item, Ticket
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    InvalidInputError,
    KeyNotFoundError,
)
from keepstone.foundation.format import JOURNAL_VALUE_BYTES_MAX, Form
from keepstone.foundation.names import check_key, shown
from keepstone.history.commit import Draft, RefChange
from keepstone.history.state import State
from keepstone.history.validate import read_horizon
from keepstone.objects.manifest import decode_manifest
from keepstone.objects.plain import decode_value, encode_value
from keepstone.repository.refs import NameRef, check_kind, read_name_ref
from keepstone.repository.rows import EntryRow
from keepstone.repository.staging import Staging
from keepstone.storage.calls import preparing

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository
    from keepstone.repository.version import Version

T = TypeVar("T")

Durability = Literal["process", "disk", "store"]
DURABILITIES: Final = get_args(Durability)
_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024


class Collection(MutableMapping[str, T], Generic[T]):
    """One collection of a store; safe to use from many threads.

    `durability` says what a set item survives when the call returns: `process` a `kill -9`, `disk` a loss of power,
    `store` is published to all. Loads are fresh copies.
    """

    def __init__(self, repository: Repository, name: str, kind: Any, durability: Durability) -> None:
        if durability not in DURABILITIES:
            raise InvalidInputError(
                f"unknown durability {durability!r}", hint="use 'process', 'disk' or 'store'"
            )
        self._repository = repository
        self._session = repository.session
        self.name = name
        self.type = kind
        self.durability: Durability = durability
        self._exists_in: State | None = None
        """The state in which it was seen to be there; a later one may say that it was removed."""

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} in {self._session.storage.location}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self._repository, self.name, self.type, self.durability))

    # ---- writing -----------------------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: T) -> None:
        check_key(key)
        encoded = encode_value(value)
        if encoded is None or len(encoded[1]) > JOURNAL_VALUE_BYTES_MAX:
            self._put_published(key, value)
            return
        form, raw = encoded
        if self._exists_in is not self._session.log.state:
            self._create_first()
        spool, digest = self._session.spool, Digest(blake3(raw).digest())
        if self._session.clock.unfollowed:
            ticket = self._session.append(self.name, [(key, form, raw, digest)])
        else:
            ticket = spool.append_value(self.name, key, form, raw, digest)
        if spool.is_full:
            self._repository.sealer.hand_over()
        if self.durability != "process":
            self._settle(ticket)

    def add_many(self, pairs: Iterable[tuple[str, T]] | Mapping[str, T]) -> int:
        """Set many items, each as `collection[key] = value` would, with one wait at the end; return how many.

        Raises:
            Exception: what iterating `pairs` raises; the items before it are kept.
        """
        count = size = 0
        batch: list[Item] = []
        ticket: Ticket | None = None
        try:
            for key, value in map(_pair, _pairs(pairs)):
                item = self._item(key, value)
                count += 1
                if item is None:
                    # A commit of one of them; whoever hears of its error may well repeat them all.
                    with preparing():
                        self._put_published(key, value)
                    continue
                batch.append(item)
                size += len(item[2] or b"")
                if size >= _BATCH_BYTES_MAX or len(batch) >= 1000:
                    ticket = self._append(batch)
                    batch, size = [], 0
        finally:
            if batch:
                ticket = self._append(batch)
            if ticket:
                self._settle(ticket)
        return count

    def update(self, other: Any = (), /, **items: T) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Set many items with one wait at the end, as `dict.update` takes them."""
        if hasattr(other, "keys"):
            self.add_many((key, other[key]) for key in other.keys())  # noqa: SIM118 - only keys() is promised
        else:
            self.add_many(other)
        self.add_many(items)

    def __delitem__(self, key: str) -> None:
        check_key(key)
        if self._session.find(self.name, key) is None:
            raise self._absent(key)
        self._settle(self._append([(key, Form.BYTES, None, None)]))

    def clear(self) -> None:
        """Remove every item."""
        keys = list(self)
        for start in range(0, len(keys), 1000):
            ticket = self._append([(key, Form.BYTES, None, None) for key in keys[start : start + 1000]])
            if start + 1000 >= len(keys):
                self._settle(ticket)

    def flush(self) -> None:
        """Return when everything that was set is published: readable by all, and on this store's medium."""
        self._session.require_writable()
        self._repository.sealer.flush()

    def snapshot(
        self, *, message: str = "", metadata: Mapping[str, Any] | None = None, aliases: Iterable[str] = ()
    ) -> Version:
        """Keep the content of this moment as the next version of the collection's name; published when it returns.

        It holds what was acknowledged before the call, by any process of this machine, and of what is set meanwhile
        some or nothing. `Store.collection("name@v3")` reads it. What equals the newest snapshot makes no new version
        (`created_new` is False); `aliases` move either way.

        Raises:
            ArtifactNotFoundError: the collection does not exist yet.
            StorageError: the medium failed; there is no snapshot.
        """
        from keepstone.repository.snapshot import take_snapshot

        return take_snapshot(self._repository, self.name, message, metadata, aliases)

    def _item(self, key: str, value: T) -> Item | None:
        check_key(key)
        encoded = encode_value(value)
        if encoded is None or len(encoded[1]) > JOURNAL_VALUE_BYTES_MAX:
            return None
        form, raw = encoded
        return key, form, raw, Digest.of(raw)

    def _append(self, items: list[Item]) -> Ticket:
        if self._exists_in is not self._session.log.state:
            self._create_first()
        spool = self._session.spool
        ticket = self._session.append(self.name, items)
        if spool.is_full:
            self._repository.sealer.hand_over()
        return ticket

    def _settle(self, ticket: Ticket) -> None:
        if self.durability == "process":
            return
        if self.durability == "store" or not self._session.local.is_lasting:
            self.flush()
        else:
            self._session.spool.sync(ticket)

    def _put_published(self, key: str, value: T) -> None:
        # Too large for the journal, or made of parts: a commit of its own, with the entry in it.
        if self._exists_in is not self._session.log.state:
            self._create_first()
        session = self._session

        def stage(staging: Staging) -> tuple[Digest, int]:
            encoded = encode_value(value)
            if encoded is not None:
                return staging.add_bytes(encoded[1]), encoded[0]
            return self._repository.stage_artifact(staging, value), Form.MANIFEST

        def build(staging: Staging, state: State, staged: tuple[Digest, int]) -> Draft:
            entry = Entry(key, session.stamp(self.name, key), session.spool.writer, *staged)
            return staging.draft(state, entries=((self.name, entry),))

        self._repository.commit_staged(stage, build)

    def create(self) -> None:
        """Make the collection exist, empty, if it does not.

        Raises:
            KindError: the name is an artifact's.
        """
        self._session.require_writable()

        def build(state: State) -> Draft | None:
            old = state.refs.get(self.name)
            ref = read_name_ref(old, self.name) if old is not None else NameRef("collection")
            check_kind(ref, self.name, "collection")
            if ref.number:
                return None
            return Draft(refs=(RefChange(self.name, old, ref.begun().encoded()),))

        state = self._session.log.state
        if build(state) is not None:
            self._session.log.append(build)
            self._session.catch_up()
            state = self._session.log.state
        # Stamped below it, what is set now would be dead already.
        self._session.clock.follow(read_horizon(state.refs, self.name))
        known = self._exists_in
        if known is None or known.refs.get(self.name) != state.refs.get(self.name):
            # Also where a neighbour made it: an item must not outlive its collection.
            self._session.settle()
        self._exists_in = state

    def _create_first(self) -> None:
        with preparing():
            self.create()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> T:
        session = self._session
        while True:
            row = self._find(key)
            if row is None:
                raise self._absent(check_key(key))
            try:
                raw = self._read_row(key, row)
            except BlobNotFoundError:
                # Packed anew in between: look it up again, as long as there is news.
                tip = session.log.state.number
                session.refresh()
                if session.log.state.number == tip:
                    raise
                continue
            if row.form == Form.MANIFEST:
                return self._repository.load_manifest(decode_manifest(raw), self.type)
            return decode_value(cast(Form, row.form), raw, self.type)

    def _find(self, key: str) -> Row | EntryRow | None:
        return self._session.find(self.name, key)

    def _read_row(self, key: str, row: Row | EntryRow) -> bytes:
        return self._session.read_row(row)

    def _absent(self, key: str) -> KeyNotFoundError:
        return KeyNotFoundError(
            f"collection {self.name!r} has no key {shown(key)}",
            collection=self.name,
            key=key,
            hint="`in`, `get` and `missing` ask without an error",
        )

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(check_key(key)) is not None

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of one moment: what is set or removed meanwhile is not seen."""
        return iter(list(self._present()))

    def items(self) -> ItemsView[str, T]:
        """Return a view of keys and values; where reading waits, iterating it reads ahead, and much of it at once."""
        return _Items(self, self._each_key)

    def values(self) -> ValuesView[T]:
        """Return a view of the values, read as `items` does."""
        return _Values(self, self._each_key)

    def _each_key(self) -> AbstractContextManager[Iterator[str]]:
        """Give the keys, each to be read when its turn comes."""
        return self._session.blobs.each(iter(self), self._spans_of)

    def _spans_of(self, key: str) -> list[Span]:
        return self._session.spans_of(self._session.peek(self.name, key))

    def __len__(self) -> int:
        return self._repository.count_of(self.name)

    def missing(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield those of `keys`, in order, that are not there at the moment of the call; streams.

        Reads key columns once, however many keys are asked: 1 s for a million.
        """
        present = self._present()
        return (key for key in keys if check_key(key) not in present)

    def _present(self) -> dict[str, None]:
        session = self._session
        session.refresh()
        # Journals first: what another thread seals in between is in the packs that are read after.
        rows = session.spool.rows(self.name)
        present = session.entries.keys(self.name)
        contested = session.entries.has_tombstones(self.name) or session.entries.horizon(self.name) > 0
        for key, row in rows.items():
            newest = session.peek(self.name, key) if contested or row.digest is None else row
            if newest is not None and newest.digest is not None:
                present[key] = None
            else:
                present.pop(key, None)
        return present

    def digest_of(self, key: str) -> Digest:
        """Return the digest of a key's value as it is stored.

        Raises:
            KeyNotFoundError: there is no such key.
        """
        row = self._find(check_key(key))
        if row is None or row.digest is None:
            raise self._absent(key)
        return row.digest


_EachKey = Callable[[], AbstractContextManager[Iterator[str]]]


class _Items(ItemsView[str, T]):
    def __init__(self, collection: Collection[T], each_key: _EachKey) -> None:
        super().__init__(collection)
        self._collection, self._each_key = collection, each_key

    def __iter__(self) -> Iterator[tuple[str, T]]:
        with self._each_key() as keys:
            for key in keys:
                yield key, self._collection[key]


class _Values(ValuesView[T]):
    def __init__(self, collection: Collection[T], each_key: _EachKey) -> None:
        super().__init__(collection)
        self._collection, self._each_key = collection, each_key

    def __iter__(self) -> Iterator[T]:
        with self._each_key() as keys:
            for key in keys:
                yield self._collection[key]


def _pairs(pairs: Iterable[tuple[str, T]] | Mapping[str, T]) -> Iterable[tuple[str, T]]:
    return cast("Mapping[str, T]", pairs).items() if isinstance(pairs, Mapping) else pairs


def _pair(pair: Any) -> tuple[str, Any]:
    if not isinstance(pair, tuple | list) or len(cast("list[Any]", pair)) != 2:
        raise InvalidInputError(
            f"not a pair of key and value: {pair!r}", hint="pass (key, value) pairs, or a mapping"
        )
    return cast("tuple[str, Any]", pair)


def _reopen(repository: Repository, name: str, kind: Any, durability: Durability) -> Collection[Any]:
    return Collection(repository, name, kind, durability)
