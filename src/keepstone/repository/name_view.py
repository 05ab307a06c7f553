"""What names mean at one moment: in a state of the log, or as they were at an earlier time.

Layer: repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ArtifactNotFoundError
from keepstone.history.state import State
from keepstone.repository.refs import VERSIONS, NameRef, read_name_ref, version_key
from keepstone.repository.session import Session


class Found(NamedTuple):
    """Which version a selector means; its manifest was not read."""

    name: str
    number: int
    digest: Digest
    stamp: int
    """When it was made [ns]; 0 for one that is not committed yet."""

    @property
    def selector(self) -> str:
        """`name@v3`."""
        return version_key(self.name, self.number)


class View(Protocol):
    """What names mean at one moment."""

    @property
    def refs(self) -> Mapping[str, bytes]:
        """The refs of that moment."""
        ...

    def find_version(self, name: str, number: int) -> Found | None:
        """Return a version, None where there is no such one."""
        ...


class Published:
    """What names mean in one state of the log, which must be the present one or a little older."""

    def __init__(self, session: Session, state: State) -> None:
        # Entries that lag behind the refs would show versions that are gone, and miss those that were made.
        session.entries.advance(state)
        self._session = session
        self.state = state

    @property
    def refs(self) -> Mapping[str, bytes]:
        """The refs of the state."""
        return self.state.refs

    def find_version(self, name: str, number: int) -> Found | None:
        """Return a version, None where there is no such one."""
        row = self._session.peek(VERSIONS, version_key(name, number), is_settled=self._was_kept(name, number))
        return None if row is None or row.digest is None else Found(name, number, row.digest, row.stamp)

    def _was_kept(self, name: str, number: int) -> bool:
        """Whether the log itself says that a version was never removed, whatever a damaged pack may hold."""
        ref = ref_of(self.refs, name)
        return ref is not None and (not ref.removals or ref.newest == number)


class Moment(NamedTuple):
    """A moment in the life of a store."""

    state: State
    """After the newest commit that was made by then."""
    until_ns: int
    """The last nanosecond of it: entries stamped later are not seen."""


class Departed:
    """What names meant at an earlier moment."""

    def __init__(self, session: Session, moment: Moment) -> None:
        self._session = session
        self._moment = moment
        self.state = moment.state

    @property
    def refs(self) -> Mapping[str, bytes]:
        """The refs of that moment."""
        return self.state.refs

    def find_version(self, name: str, number: int) -> Found | None:
        """Return a version, None where there was no such one.

        The log itself says that the newest was there. Of any other, what was said last by then counts: a version that
        was removed may have been given back.
        """
        ref = ref_of(self.refs, name)
        if ref is None or number > ref.newest:
            return None
        rows = self._session.entries.history(VERSIONS, version_key(name, number))
        kept = [row for row in rows if row.digest is not None]
        by_then = [
            row for row in (kept if number == ref.newest else rows) if row.stamp <= self._moment.until_ns
        ]
        # Where a clock was ahead of its commit's, what was there is stamped later; the first stamp is the saving's.
        row = by_then[0] if by_then else kept[-1] if kept else None
        self._session.entries.refuse_to_guess(VERSIONS, row)
        return None if row is None or row.digest is None else Found(name, number, row.digest, row.stamp)


class VersionGoneError(ArtifactNotFoundError):
    """A ref means a version that is not there: somebody removed it after the state of the ref."""


def ref_of(refs: Mapping[str, bytes], name: str) -> NameRef | None:
    """Return what a name's ref says, None where the name was never there."""
    value = refs.get(name)
    return None if value is None else read_name_ref(value, name)
