"""What a sync does to the names of the target: versions are appended, aliases follow, nothing is taken away unasked.

Layer: operations. Decided anew for every state of the target that the commit is tried on. Versions keep stamp and
writer, so one that is here under another number is known again. A removal of a version stays where it was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from keepstone.blobs.footer import Entry
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import KindError
from keepstone.foundation.format import Form
from keepstone.history.commit import RefChange
from keepstone.history.state import State
from keepstone.repository.refs import VERSIONS, NameRef, read_name_ref, version_key
from keepstone.repository.session import Session

PLACEHOLDER_STAMP: Final = 1
"""Of a tombstone for a version that has not come yet: any version is above it, so it can still come."""
_NOBODY: Final = bytes(8)


class VersionRow(NamedTuple):
    """One version of a name in one store."""

    number: int
    digest: Digest
    stamp: int
    writer: bytes

    @property
    def order(self) -> tuple[int, bytes]:
        """What one version is known by under any number."""
        return self.stamp, self.writer


class NameSource(NamedTuple):
    """What the source has of one name."""

    name: str
    ref: NameRef
    versions: tuple[VersionRow, ...]
    """Those that go over, by number."""
    tombstones: tuple[Entry, ...] = ()
    """Of the versions that were removed; only where all versions go over."""


class SyncedVersion(NamedTuple):
    """A version that came to the target."""

    source: str
    """`name@v3`, as at the source."""
    target: str
    """`name@v5`, as at the target."""
    digest: str


class NameDecision(NamedTuple):
    """What becomes of one name at the target."""

    change: RefChange | None
    entries: tuple[Entry, ...]
    versions: tuple[SyncedVersion, ...]
    withheld: tuple[str, ...]
    """Versions, as at the source, that were removed at the target, and so stay away."""
    numbers: Mapping[bytes, int]
    """By digest of a version that the target has then: its number, the newest of equal ones."""


def read_source(session: Session, name: str, numbers: frozenset[int] | None) -> NameSource:
    """Return what a store has of a name; `numbers`: of the versions only these."""
    ref = read_name_ref(session.log.state.refs[name], name)
    versions: list[VersionRow] = []
    tombstones: list[Entry] = []
    for number in range(1, ref.given + 1):
        row = session.entries.find(VERSIONS, version_key(name, number))
        if row is None:
            continue
        if row.digest is None:
            tombstones.append(Entry(version_key(name, number), row.stamp, row.writer, None, Form.MANIFEST))
        elif numbers is None or number in numbers:
            versions.append(VersionRow(number, row.digest, row.stamp, row.writer))
    return NameSource(name, ref, tuple(versions), tuple(tombstones) if numbers is None else ())


def parted(source: NameRef, target: NameRef) -> bool:
    """Whether a name is of two kinds, and was removed in one of the stores: neither takes it from the other then."""
    return source.kind != target.kind and not (source.is_there and target.is_there)


def check_same_kind(name: str, source: NameRef, target: NameRef, location: str) -> None:
    """Refuse a name that is an artifact in one store and a collection in the other, which is at `location`.

    Raises:
        KindError: it is.
    """
    if target.kind != source.kind:
        raise KindError(
            f"{name!r} is of kind {source.kind} where it comes from, and of kind {target.kind} at {location}",
            name=name,
            kind=target.kind,
            hint="a name keeps its kind for good: keep it under another name in one of the two, and take it away there "
            f"(`keepstone remove {name}`); `--select`, `select=` brings the other names",
        )


def decide_name(session: Session, state: State, source: NameSource, *, begins: bool) -> NameDecision:
    """Return what becomes of the name at the target in `state`, for which its entries must answer.

    `begins`: items of the collection come to be there, or it is new.

    Raises:
        KindError: the name is of the other kind at the target.
    """
    old = state.refs.get(source.name)
    if old is None:
        return _as_new(source)
    ref = read_name_ref(old, source.name)
    check_same_kind(source.name, source.ref, ref, session.storage.location)
    there = _Target.read(session, source.name, ref)
    brought, withheld = there.lacks(source.versions)
    for row, number in brought:
        ref = ref if number < ref.newest else ref.at_version(number, bytes(row.digest))
    if ref.kind == "collection" and not ref.number and begins:
        ref = ref.begun()
    value = ref.encoded()
    change = None if value == old and not brought else RefChange(source.name, old, value)
    numbers = {bytes(row.digest): row.number for row in there.versions}
    for row, number in brought:
        numbers[bytes(row.digest)] = max(number, numbers.get(bytes(row.digest), 0))
    return NameDecision(
        change,
        tuple(_entry(source.name, number, row) for row, number in brought),
        tuple(_synced(source.name, row, number) for row, number in brought),
        tuple(version_key(source.name, row.number) for row in withheld),
        numbers,
    )


def _as_new(source: NameSource) -> NameDecision:
    """A name that the target never had gets the source's numbers, gaps among them."""
    name, ref, versions = source.name, source.ref, source.versions
    known = {row.number for row in versions} | {int(e.key.rpartition("@v")[2]) for e in source.tombstones}
    newest = versions[-1] if versions else None
    given = ref.given if source.tombstones or len(known) == ref.given else (newest.number if newest else 0)
    gaps = [number for number in range(1, given + 1) if number not in known]
    entries = [_entry(name, row.number, row) for row in versions]
    entries += source.tombstones
    entries += [
        Entry(version_key(name, gap), PLACEHOLDER_STAMP, _NOBODY, None, Form.MANIFEST) for gap in gaps
    ]
    number, digest = (newest.number, bytes(newest.digest)) if newest else (0, b"")
    removals = max(ref.removals, 1 if gaps else 0) if source.tombstones or gaps else 0
    if ref.kind == "collection":
        fresh = NameRef(
            "collection", max(1, ref.last), 1 if ref.number or newest else 0, digest, removals, given, number
        )
    else:
        fresh = NameRef("artifact", given, number, digest, removals)
    return NameDecision(
        RefChange(name, None, fresh.encoded()),
        tuple(entries),
        tuple(_synced(name, row, row.number) for row in versions),
        (),
        {bytes(row.digest): row.number for row in versions},
    )


def _entry(name: str, number: int, row: VersionRow) -> Entry:
    return Entry(version_key(name, number), row.stamp, row.writer, row.digest, Form.MANIFEST)


def _synced(name: str, row: VersionRow, number: int) -> SyncedVersion:
    return SyncedVersion(version_key(name, row.number), version_key(name, number), str(row.digest))


class _Target(NamedTuple):
    """What the target has of one name, and had."""

    ref: NameRef
    versions: tuple[VersionRow, ...]
    removed: tuple[VersionRow, ...]
    earlier: tuple[VersionRow, ...]
    """What live versions were known by before they were removed and given back."""
    free: frozenset[int]
    """Numbers of versions that have not come yet."""

    @classmethod
    def read(cls, session: Session, name: str, ref: NameRef) -> _Target:
        versions: list[VersionRow] = []
        removed: list[VersionRow] = []
        earlier: list[VersionRow] = []
        free: set[int] = set()
        for number in range(1, ref.given + 1):
            rows = session.entries.history(VERSIONS, version_key(name, number))
            before = removed if rows and rows[0].digest is None else earlier
            for row in rows:
                if row.digest is not None:
                    known = VersionRow(number, row.digest, row.stamp, row.writer)
                    (versions if row is rows[0] else before).append(known)
            if rows and rows[0].digest is None and rows[0].stamp == PLACEHOLDER_STAMP:
                free.add(number)
        return cls(ref, tuple(versions), tuple(removed), tuple(earlier), frozenset(free))

    def lacks(self, wanted: Sequence[VersionRow]) -> tuple[list[tuple[VersionRow, int]], list[VersionRow]]:
        """Return which versions come, each with its number here, and which stay away since they were removed here."""
        live = Counter(row.digest for row in self.versions)
        gone = Counter(row.digest for row in self.removed)
        by_order = {row.order: gone for row in self.removed}
        by_order |= {row.order: live for row in (*self.earlier, *self.versions)}
        withheld: list[VersionRow] = []
        unknown: list[VersionRow] = []
        for row in wanted:
            # The same version, under whatever number.
            counts = by_order.get(row.order)
            if counts is None:
                unknown.append(row)
                continue
            counts[row.digest] -= 1
            if counts is gone:
                withheld.append(row)
        brought: list[tuple[VersionRow, int]] = []
        newest, last = self.ref.digest if self.ref.newest else b"", self.ref.given
        for row in unknown:
            if live[row.digest] > 0:
                live[row.digest] -= 1
            elif gone[row.digest] > 0:
                gone[row.digest] -= 1
                withheld.append(row)
            elif row.number in self.free:
                brought.append((row, row.number))
            elif row.digest != newest:
                last += 1
                newest = bytes(row.digest)
                brought.append((row, last))
        return brought, withheld


# ---- aliases and pins ----------------------------------------------------------------------------------------------


class MovedAlias(NamedTuple):
    """An alias that follows the source."""

    alias: str
    """`name@prod`."""
    number: int
    """The version that it means at the target now; 0 where it was removed."""


class AliasConflict(NamedTuple):
    """An alias that was moved in both stores; it stays as it is in both."""

    alias: str
    source: str
    """Digest of the version that it means at the source; empty where it was removed."""
    target: str
    """The same of the target."""


class Verdict(NamedTuple):
    """What becomes of a ref that both stores may have moved."""

    value: bytes | None
    """Of the target from now on."""
    is_agreed: bool
    """Whether both have the same then."""
    is_conflict: bool


def three_way(base: bytes | None, source: bytes | None, target: bytes | None) -> Verdict:
    """Return what becomes of the target's value, `base` being what both had when they last had the same."""
    if source == target:
        return Verdict(target, True, False)
    if target == base:
        return Verdict(source, True, False)
    return Verdict(target, False, source != base)
