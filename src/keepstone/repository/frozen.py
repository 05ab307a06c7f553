"""Collections that do not change any more: snapshots, and what a collection held at an earlier moment.

Layer: repository. They read as any collection does and refuse every change. A snapshot's values are found by key and
digest: among the entries of the key, of which packs keep the superseded ones, else among the blobs of commits.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

from keepstone.blobs.journal import Row
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError, InvalidInputError, KindError, MalformedError
from keepstone.foundation.format import LEAF_BYTES_MAX, Form
from keepstone.foundation.names import check_key
from keepstone.repository.collection import Collection
from keepstone.repository.leaves import Leaf, LeafRow, decode_leaf, decode_root
from keepstone.repository.rows import EntryRow
from keepstone.repository.session import Session
from keepstone.repository.tracking import note_read
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository

T = TypeVar("T")

_LEAVES_KEPT: Final = 32
"""Leaves of one snapshot in memory, each about 100 KB."""


class Items(Protocol):
    """What a frozen collection reads from."""

    @property
    def title(self) -> str:
        """What it is, for messages: `answers@v3`."""
        ...

    def find(self, key: str) -> Row | EntryRow | None:
        """Return what the key means, None where it is not there."""
        ...

    def read(self, key: str, row: Row | EntryRow) -> bytes:
        """Return the value that `find` gave the row of, verified."""
        ...

    def stored(self, key: str, row: Row | EntryRow) -> Row | EntryRow:
        """Return the row that says where that value lies."""
        ...

    def keys(self) -> Iterator[str]:
        """Yield all keys, sorted."""
        ...

    def count(self) -> int:
        """Return how many there are."""
        ...

    def reduced(self) -> tuple[Any, ...]:
        """Return a function of the repository and a type that makes the same collection, and its other arguments."""
        ...


class FrozenCollection(Collection[T]):
    """A collection as it was: a mapping that is read as any other, and never changes."""

    def __init__(self, repository: Repository, name: str, kind: Any, items: Items) -> None:
        super().__init__(repository, name, kind, "process")
        self._items = items

    def __repr__(self) -> str:
        return f"<Collection {self._items.title!r}, read-only, in {self._session.storage.location}>"

    def __reduce__(self) -> tuple[Any, ...]:
        make, *arguments = self._items.reduced()
        return (make, (self._repository, self.type, *arguments))

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _find(self, key: str) -> Row | EntryRow | None:
        return self._items.find(check_key(key))

    def _read_row(self, key: str, row: Row | EntryRow) -> bytes:
        return self._items.read(key, row)

    def _spans_of(self, key: str) -> list[Span]:
        row = self._items.find(key)
        return [] if row is None else self._session.spans_of(self._items.stored(key, row))

    def _present(self) -> dict[str, None]:
        return dict.fromkeys(self._items.keys())

    def __iter__(self) -> Iterator[str]:
        """Yield the keys, sorted."""
        return self._items.keys()

    def __len__(self) -> int:
        return self._items.count()

    # ---- not writing -------------------------------------------------------------------------------------------------

    def _refuse(self) -> NoReturn:
        raise InvalidInputError(
            f"{self._items.title} is how collection {self.name!r} was, and cannot be changed",
            hint=f"write to store.collection({self.name!r})",
        )

    def __setitem__(self, key: str, value: T) -> None:
        self._refuse()

    def __delitem__(self, key: str) -> None:
        self._refuse()

    def add_many(self, pairs: Iterable[tuple[str, T]] | Mapping[str, T]) -> int:
        """Refuse."""
        self._refuse()

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Refuse."""
        self._refuse()

    def pop(self, key: str, default: Any = None, /) -> Any:
        """Refuse."""
        self._refuse()

    def popitem(self) -> tuple[str, T]:
        """Refuse."""
        self._refuse()

    def clear(self) -> None:
        """Refuse."""
        self._refuse()

    def create(self) -> None:
        """Refuse."""
        self._refuse()

    def flush(self) -> None:
        """Refuse."""
        self._refuse()

    def snapshot(
        self, *, message: str = "", metadata: Mapping[str, Any] | None = None, aliases: Iterable[str] = ()
    ) -> Version:
        """Refuse."""
        self._refuse()


class SnapshotItems:
    """The items of a snapshot; safe to use from many threads. Leaves are read when a key in them is asked for."""

    def __init__(self, session: Session, version: Version) -> None:
        self._session = session
        self._version = version
        self._lock = threading.Lock()
        self._leaves: OrderedDict[int, Leaf] = OrderedDict()
        root = decode_root(version.manifest.detail, len(version.parts), where=version.selector)
        self._count, self._firsts = root.count, root.firsts

    @property
    def title(self) -> str:
        """`answers@v3`."""
        return self._version.selector

    def reduced(self) -> tuple[Any, ...]:
        """Return how another process opens it: by its selector, since a version never changes."""
        return (reopen_snapshot, self._version.selector)

    def count(self) -> int:
        """Return how many items there are; stands in the root."""
        return self._count

    def keys(self) -> Iterator[str]:
        """Yield all keys, sorted; one leaf is in memory at a time."""
        return (row.key for row in self.rows())

    def rows(self) -> Iterator[LeafRow]:
        """Yield key, digest and form of all items, sorted by key."""
        session = self._session
        numbers = range(len(self._firsts))
        with session.blobs.each(numbers, lambda number: session.spans_of(self._leaf_row(number))) as leaves:
            for number in leaves:
                yield from self._leaf(number).rows()

    def find(self, key: str) -> EntryRow | None:
        """Return what the key means, None where it is not there."""
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return None
        leaf = self._leaf(number)
        position = bisect_left(leaf.keys, key)
        if position == len(leaf.keys) or leaf.keys[position] != key:
            return None
        _, digest, form = leaf.row(position)
        return EntryRow(0, b"", digest, form, None)

    def read(self, key: str, row: Row | EntryRow) -> bytes:
        """Return a value as it is stored, verified.

        Raises:
            BlobNotFoundError: a pack that it was in is gone: look again after a refresh.
        """
        found = self.stored(key, row)
        try:
            return self._session.read_row(found)
        except BlobNotFoundError:
            if found is row:
                self._session.entries.refuse_to_guess(self._version.name, None)
            raise

    def stored(self, key: str, row: Row | EntryRow) -> Row | EntryRow:
        """Return the entry of the key that has this value; `row` itself where none has: then the digest finds it."""
        session, name = self._session, self._version.name
        newest = session.peek(name, key)
        if newest is not None and newest.digest == row.digest:
            return newest
        for older in session.entries.history(name, key):
            if older.digest == row.digest and older.place is not None:
                return older
        return row

    def _leaf_row(self, number: int) -> EntryRow | None:
        with self._lock:
            if number in self._leaves:
                return None
        return EntryRow(0, b"", Digest(self._version.parts[number].digest), Form.BYTES, None)

    def _leaf(self, number: int) -> Leaf:
        with self._lock:
            leaf = self._leaves.get(number)
            if leaf is not None:
                self._leaves.move_to_end(number)
                return leaf
        leaf = self._read_leaf(number)
        with self._lock:
            self._leaves[number] = leaf
            if len(self._leaves) > _LEAVES_KEPT:
                self._leaves.popitem(last=False)
        return leaf

    def _read_leaf(self, number: int) -> Leaf:
        digest = Digest(self._version.parts[number].digest)
        leaf = decode_leaf(self._session.read_blob(digest, bytes_max=LEAF_BYTES_MAX), where=self.title)
        if leaf.keys[0] != self._firsts[number]:
            raise MalformedError(f"{self.title} has a leaf in a wrong place", where=self.title)
        return leaf


def snapshot_items(repository: Repository, version: Version) -> SnapshotItems:
    """Return the items of a version that is a snapshot.

    Raises:
        KindError: it is an artifact's.
    """
    if not version.is_snapshot:
        raise KindError(
            f"{version.name!r} is an artifact, not a collection",
            name=version.name,
            kind="artifact",
            hint=f"load it with store.load({version.selector!r})",
        )
    return SnapshotItems(repository.session, version)


def open_snapshot(repository: Repository, version: Version, kind: Any) -> FrozenCollection[Any]:
    """Return a snapshot as a mapping."""
    note_read(version)
    return FrozenCollection(repository, version.name, kind, snapshot_items(repository, version))


def reopen_snapshot(repository: Repository, kind: Any, selector: str) -> FrozenCollection[Any]:
    """Return the snapshot that `selector` means as a mapping: what a pickled one is made of again."""
    return open_snapshot(repository, repository.resolve(selector), kind)
