"""A store as it was at one moment: it answers what the store would have answered then, and cannot be changed.

Layer: repository. Names, versions and aliases are those after the newest commit made by then; a collection holds of
each key what was stamped by then, the highest stamp counts. Both go by the clocks of who wrote. Nothing is copied or
locked: packs keep superseded entries, and the log keeps every commit.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from keepstone.blobs.journal import Row
from keepstone.blobs.replay import rows_until
from keepstone.foundation.errors import HistoryGoneError, InvalidInputError
from keepstone.foundation.names import check_name, format_time, parse_time, shown
from keepstone.history.state import State
from keepstone.history.validate import read_horizon
from keepstone.repository.arguments import check_kind_of
from keepstone.repository.changes import LogEntry, log_entry
from keepstone.repository.collection import Collection
from keepstone.repository.frozen import FrozenCollection, open_snapshot
from keepstone.repository.name_view import Moment
from keepstone.repository.naming import Naming, not_found
from keepstone.repository.refs import Kind, check_kind, read_name_ref
from keepstone.repository.rows import EntryRow
from keepstone.repository.session import Session
from keepstone.repository.sorted_rows import sorted_rows
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository

When = str | int | datetime.date
"""A date or RFC 3339 time, the number of a commit, or a `datetime` with its zone."""

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_CHANGES: Final = frozenset(
    [
        "alias",
        "flush",
        "pin",
        "recover",
        "register",
        "remove",
        "restore",
        "save",
        "transaction",
        "unalias",
        "track",
        "undo",
        "unpin",
    ]
)
"""What a store can do and its past cannot."""


class Past:
    """A store as it was at one moment; made by `Store.at`. Safe to use from many threads."""

    def __init__(self, repository: Repository, moment: Moment) -> None:
        self._repository = repository
        self._moment = moment
        self._naming = Naming(repository.session, moment)
        self._naming.repository = repository

    @property
    def commit(self) -> int:
        """Number of the newest commit that was made by then; -1 before the first."""
        return self._moment.state.number

    @property
    def when(self) -> datetime.datetime:
        """The moment, in UTC."""
        return _EPOCH + datetime.timedelta(microseconds=self._moment.until_ns // 1_000)

    def __repr__(self) -> str:
        return f"<Past of {self._repository.session.storage.location}, {format_time(self._moment.until_ns)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen_past, (self._repository, self.commit, self._moment.until_ns))

    def __getattr__(self, name: str) -> Any:
        if name not in _CHANGES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def _refuse(*_: object, **__: object) -> NoReturn:
            raise InvalidInputError(
                f"cannot {name}: this is the store as it was at {format_time(self._moment.until_ns)}",
                hint=f"call {name} on the store itself",
            )

        return _refuse

    # ---- artifacts ---------------------------------------------------------------------------------------------------

    def load(self, selector: str, *, type: Any = None, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value that `selector` meant, as `Store.load` does.

        Raises:
            ArtifactNotFoundError: there was no such name, version or alias.
        """
        return self.resolve(selector).load(type, allow_pickle=allow_pickle)

    def resolve(self, selector: str) -> Version:
        """Return the version that `selector` meant.

        Raises:
            ArtifactNotFoundError: there was no such name, version or alias.
        """
        return self._naming.resolve(selector)

    def exists(self, selector: str) -> bool:
        """Whether `selector` meant something."""
        return self._naming.exists(selector)

    def names(self, prefix: str = "", *, kind: Kind | None = None) -> list[str]:
        """Return the names that began with `prefix`, sorted."""
        return self._naming.names(prefix, kind)

    def kind(self, name: str) -> Kind | None:
        """Return "artifact" or "collection", None where there was no such name."""
        return self._naming.kind_of(name)

    def versions(self, name: str) -> list[Version]:
        """Return the versions that `name` had, newest first; of a collection, its snapshots.

        Raises:
            ArtifactNotFoundError: there was no such name.
        """
        return self._naming.versions(name)

    def aliases(self, name: str) -> dict[str, int]:
        """Return the aliases of `name` and the numbers of the versions that they meant."""
        found = self._naming.aliases_in(self._moment.state, check_name(name))
        return {alias: ref.number for alias, ref in sorted(found.items())}

    def find(self, prefix: str = "", where: Callable[[Version], bool] | None = None) -> list[Version]:
        """Return the version that was newest of each artifact below `prefix` for which `where` is true."""
        return self._naming.find(prefix, where)

    def history(self, name: str | None = None) -> Iterator[LogEntry]:
        """Yield what had been decided about `name` (about everything), newest first."""
        return (log_entry(commit) for commit in self._repository.history(name, last=self.commit))

    # ---- collections -------------------------------------------------------------------------------------------------

    def collection(self, name: str, *, type: Any = None) -> Collection[Any]:  # noqa: A002
        """Return what the collection `name` held, or a snapshot that it had (`name@v3`); to be read only.

        Raises:
            ArtifactNotFoundError: there was no such collection.
            KindError: the name is an artifact's.
            HistoryGoneError: what it held then is not kept any more.
        """
        if isinstance(name, str) and "@" in name:  # pyright: ignore[reportUnnecessaryIsInstance]
            return open_snapshot(self._repository, self.resolve(name), type)
        return FrozenCollection(self._repository, name, type, self._items(name))

    def _items(self, name: str) -> PastItems:
        value = self._moment.state.refs.get(check_name(name))
        ref = read_name_ref(value, name) if value is not None else None
        if ref is not None:
            check_kind(ref, name, "collection")
        if ref is None or not ref.number:
            raise not_found(
                self._moment.state.refs,
                name,
                f"there was no collection {shown(name)} at {format_time(self._moment.until_ns)}",
            )
        return PastItems(self._repository.session, name, self._moment)


class PastItems:
    """What a collection held at one moment; safe to use from many threads."""

    def __init__(self, session: Session, name: str, moment: Moment) -> None:
        self._session = session
        self._name = name
        self._moment = moment
        # Journals first, as always: what leaves one meanwhile is in the log that is read after.
        session.refresh()
        self._rows = rows_until(session.spool.journals(), name, moment.until_ns, session.calls)
        session.refresh()
        self._horizon = read_horizon(session.log.state.refs, name)
        if moment.until_ns < self._horizon:
            since = format_time(self._horizon)
            raise HistoryGoneError(
                f"what collection {name!r} held at {format_time(moment.until_ns)} is not kept any more",
                name=name,
                since=since,
                hint=f"its history begins at {since}",
            )
        self._count: int | None = None

    @property
    def title(self) -> str:
        """The collection and the moment."""
        return f"{self._name} at {format_time(self._moment.until_ns)}"

    def reduced(self) -> tuple[Any, ...]:
        """Return how another process makes them."""
        return (_reopen_items, self._name, self._moment.state.number, self._moment.until_ns)

    def find(self, key: str) -> Row | EntryRow | None:
        """Return what the key meant, None where it was not there."""
        entries = self._session.entries
        packed: EntryRow | None = None
        for row in entries.history(self._name, key):
            if row.stamp <= self._moment.until_ns:
                packed = row
                break
        entries.refuse_to_guess(self._name, packed)
        found: Row | EntryRow | None = self._rows.get(key)
        if found is None or (packed is not None and packed.order > (found.stamp, found.writer)):
            found = packed
        if found is None or found.digest is None or found.stamp < self._horizon:
            return None
        return found

    def read(self, key: str, row: Row | EntryRow) -> bytes:
        """Return a value as it is stored, verified."""
        return self._session.read_row(row)

    def stored(self, key: str, row: Row | EntryRow) -> Row | EntryRow:
        """Return `row`, which says where its value lies."""
        return row

    def keys(self) -> Iterator[str]:
        """Yield the keys that were there, sorted."""
        rows = sorted_rows(
            self._session.blobs,
            self._session.log.state.packs.values(),
            self._rows,
            self._name,
            since=self._horizon,
            until=self._moment.until_ns,
        )
        return (row.key for row in rows)

    def count(self) -> int:
        """Return how many there were; counted once."""
        if self._count is None:
            self._count = sum(1 for _ in self.keys())
        return self._count


def past_of(repository: Repository, when: When) -> Past:
    """Return the store as it was. See `Store.at`."""
    session = repository.session
    session.refresh()
    if isinstance(when, int) and not isinstance(when, bool):
        state = _state_after(session, when)
        return Past(repository, Moment(state, state.time))
    until = _nanoseconds(when)
    if until >= session.clock.now_ns():
        # The future is not known; now is above every stamp that was seen, whose clock may be ahead of this one.
        return Past(repository, Moment(session.log.state, session.clock.stamp()))
    return Past(repository, Moment(session.log.state_at(session.log.number_at(until)), until))


def _state_after(session: Session, number: int) -> State:
    if number < 0:
        raise InvalidInputError(
            f"commits are numbered from 0: there is none {number}", hint="`keepstone history` lists them"
        )
    return session.log.state_at(number)


def _nanoseconds(when: object) -> int:
    """Return the last nanosecond that `when` covers."""
    if isinstance(when, str):
        try:
            return parse_time(when)
        except InvalidInputError as error:
            error.hint = f"{error.hint}, or the number of a commit"
            raise
    if isinstance(when, datetime.datetime):
        if when.tzinfo is None:
            raise InvalidInputError(
                f"time {when.isoformat()} has no zone",
                hint="use datetime.now(datetime.UTC), or give it a tzinfo",
            )
        since = when - _EPOCH
        return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000 + 999
    if isinstance(when, datetime.date):
        return parse_time(when.isoformat())
    check_kind_of(when, str, "when", "a date, a time or the number of a commit")
    raise AssertionError("unreachable")


def _reopen_past(repository: Repository, number: int, until: int) -> Past:
    repository.session.refresh()
    return Past(repository, Moment(repository.session.log.state_at(number), until))


def _reopen_items(repository: Repository, kind: Any, name: str, number: int, until: int) -> Any:
    return _reopen_past(repository, number, until).collection(name, type=kind)
