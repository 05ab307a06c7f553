"""The commit that a sync makes at the target: which refs move, which versions get which numbers, what is in conflict.

Layer: operations. A function of both states, built again whenever the target has moved on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from keepstone.blobs.footer import Entry
from keepstone.foundation.digest import Digest
from keepstone.history.commit import RefChange
from keepstone.history.state import State
from keepstone.history.validate import HORIZON_PREFIX
from keepstone.operations.pins import PIN_PREFIX
from keepstone.operations.sync_names import (
    AliasConflict,
    MovedAlias,
    NameDecision,
    NameSource,
    SyncedVersion,
    decide_name,
    three_way,
)
from keepstone.repository.refs import VERSIONS, AliasRef, read_alias_ref
from keepstone.repository.session import Session


class Scope(NamedTuple):
    """What a sync may touch at the target, as far as the source has moved it."""

    names: tuple[NameSource, ...]
    """With versions to bring, or collections; sorted."""
    aliases: frozenset[str]
    """Refs of aliases."""
    pins: frozenset[str]
    """Refs of pins."""
    horizons: Mapping[str, bytes]
    """Refs of horizons, and what they are at the source."""
    begun: frozenset[str]
    """Collections of which items go over that are not removed."""
    refs: Mapping[str, bytes]
    """All refs of the source."""
    withheld: tuple[str, ...] = ()
    """Names that stay away, since they were of another kind at the target, and removed."""


class Decision(NamedTuple):
    """What the commit says, and what there is to tell."""

    refs: tuple[RefChange, ...]
    entries: tuple[tuple[str, Entry], ...]
    names: tuple[str, ...]
    """Names that the target did not have."""
    versions: tuple[SyncedVersion, ...]
    withheld: tuple[str, ...]
    aliases: tuple[MovedAlias, ...]
    conflicts: tuple[AliasConflict, ...]
    agreed: Mapping[str, bytes]
    """Aliases and pins that both have then; the others of the scope are not agreed upon, or gone."""
    settled: frozenset[str]
    """Refs of the scope upon which both agree then."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing moves."""
        return all(change.old == change.new for change in self.refs) and not self.entries


def decide(target: Session, state: State, scope: Scope, agreed: Mapping[str, bytes]) -> Decision:
    """Return what the sync makes of the target in `state`; `agreed` is what both had when they last had the same.

    Raises:
        KindError: a name is of the other kind there.
    """
    target.entries.advance(state)
    names: dict[str, NameDecision] = {}
    for source in scope.names:
        names[source.name] = decide_name(target, state, source, begins=source.name in scope.begun)
    changes = {d.change.name: d.change for d in names.values() if d.change is not None}
    aliases = _Aliases(target, state, scope, agreed, names)
    for ref in sorted(scope.aliases):
        aliases.decide(ref)
    for ref in sorted(scope.pins):
        aliases.decide_pin(ref)
    changes |= aliases.changes
    for ref, value in scope.horizons.items():
        # Big-endian, so bytes compare as the times do.
        if value > state.refs.get(ref, b""):
            changes[ref] = RefChange(ref, state.refs.get(ref), value)
    for name in sorted(aliases.stated - changes.keys()):
        changes[name] = RefChange(name, state.refs[name], state.refs[name])
    return Decision(
        refs=tuple(changes[ref] for ref in sorted(changes)),
        entries=tuple((VERSIONS, entry) for d in names.values() for entry in d.entries),
        names=tuple(name for name in names if name not in state.refs),
        versions=tuple(version for d in names.values() for version in d.versions),
        withheld=(*scope.withheld, *(selector for d in names.values() for selector in d.withheld)),
        aliases=tuple(aliases.moved),
        conflicts=tuple(aliases.conflicts),
        agreed=aliases.agreed,
        settled=frozenset(aliases.settled),
    )


class _Aliases:
    def __init__(
        self,
        target: Session,
        state: State,
        scope: Scope,
        agreed: Mapping[str, bytes],
        names: Mapping[str, NameDecision],
    ) -> None:
        self._target = target
        self._state = state
        self._scope = scope
        self._base = agreed
        self._names = dict(names)
        self._sources = {source.name: source for source in scope.names}
        self.changes: dict[str, RefChange] = {}
        self.stated: set[str] = set()
        self.moved: list[MovedAlias] = []
        self.conflicts: list[AliasConflict] = []
        self.agreed: dict[str, bytes] = {}
        self.settled: set[str] = set()

    def decide(self, ref: str) -> None:
        source, target = _meant(self._scope.refs, ref), _meant(self._state.refs, ref)
        verdict = three_way(self._base.get(ref), source, target)
        if verdict.is_conflict:
            self.conflicts.append(AliasConflict(ref, _text(source), _text(target)))
            return
        if verdict.value != target and not self._follow(ref, verdict.value):
            return
        if verdict.is_agreed:
            self._settle(ref, verdict.value)

    def _settle(self, ref: str, value: bytes | None) -> None:
        self.settled.add(ref)
        if value is not None:
            self.agreed[ref] = value

    def _follow(self, ref: str, digest: bytes | None) -> bool:
        """Let the alias mean at the target what it means at the source; False where the target lacks the version."""
        name = ref.partition("@")[0]
        old = self._state.refs.get(ref)
        if digest is None:
            self.changes[ref] = RefChange(ref, old, None)
            self.moved.append(MovedAlias(ref, 0))
            return True
        number = self._names[name].numbers.get(digest) if name in self._names else None
        if number is None:
            # Removed there: it does not come back, and an alias cannot mean it.
            return False
        self.changes[ref] = RefChange(ref, old, AliasRef(number, digest).encoded())
        self.stated.add(name)
        self.moved.append(MovedAlias(ref, number))
        return True

    def decide_pin(self, ref: str) -> None:
        source, target = self._scope.refs.get(ref), self._state.refs.get(ref)
        verdict = three_way(self._base.get(ref), source, target)
        if verdict.value != target:
            self.changes[ref] = RefChange(ref, target, verdict.value)
        if verdict.is_agreed:
            self._settle(ref, verdict.value)


def _meant(refs: Mapping[str, bytes], ref: str) -> bytes | None:
    value = refs.get(ref)
    return None if value is None else read_alias_ref(value, ref).digest


def _text(digest: bytes | None) -> str:
    return "" if digest is None else str(Digest(digest))


def aliases_of(refs: Iterable[str], names: frozenset[str]) -> set[str]:
    """Return the refs of the aliases of these names."""
    return {ref for ref in refs if "@" in ref and ref.partition("@")[0] in names}


def pins_of(refs: Iterable[str]) -> set[str]:
    """Return the refs of pins."""
    return {ref for ref in refs if ref.startswith(PIN_PREFIX)}


def horizons_of(refs: Mapping[str, bytes], collections: Iterable[str]) -> dict[str, bytes]:
    """Return the horizons of these collections."""
    wanted = (HORIZON_PREFIX + name for name in collections)
    return {ref: refs[ref] for ref in wanted if ref in refs}


def agreed_after(before: Mapping[str, bytes], decision: Decision) -> dict[str, bytes]:
    """Return what both stores have agreed upon after the commit of `decision`."""
    kept = {ref: value for ref, value in before.items() if ref not in decision.settled}
    return {**kept, **decision.agreed}
