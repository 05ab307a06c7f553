"""What a store remembers of its syncs with another: up to where each has what the other had, and where aliases agreed.

Layer: operations. Format: docs/format.md §9. The ref `:sync/<id>` names a small blob, one for each other store. It only
saves work and tells who moved an alias: without it a sync compares everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import CorruptionError, DivergedError, NotFoundError
from keepstone.history.commit import Commit, Hash, Natural, PackName, RefChange, RefName, RefValue, StoreId
from keepstone.history.state import State
from keepstone.history.validate import FEATURES_REF
from keepstone.operations.sync_reading import read_commits
from keepstone.repository.medium import PROBE_PREFIX
from keepstone.repository.repository import Repository
from keepstone.repository.session import Session
from keepstone.repository.staging import Staging

SYNC_PREFIX: Final = ":sync/"
_ID_DIGITS: Final = 16
_BYTES_MAX: Final = 64 * 1024 * 1024
_LOCATION_MAX: Final = 16 * 1024
NEWS_COMMITS_MAX: Final = 2_048
"""So many commits are looked through for what is new; after more, everything is compared."""


def stays_at_home(ref: str) -> bool:
    """Whether a ref is about its own store alone, and never travels."""
    return ref.startswith((SYNC_PREFIX, PROBE_PREFIX)) or ref == FEATURES_REF


class SyncMark(msgspec.Struct, frozen=True, array_like=True):
    """A moment at which one store had all that the other had."""

    own: Annotated[int, Meta(ge=-1)]
    """Number of the newest commit of the store that remembers; -1 before its first."""
    other: Annotated[int, Meta(ge=-1)]
    """Number of the newest commit of the other store."""
    other_hash: Hash


class SyncMemory(msgspec.Struct, frozen=True, array_like=True):
    """The blob that a `:sync/` ref names."""

    location: Annotated[str, Meta(max_length=_LOCATION_MAX)]
    """Of the other store; no credentials."""
    store_id: StoreId
    pushed: SyncMark | None = None
    """When the other store had all that this one had."""
    pulled: SyncMark | None = None
    """When this store had all that the other one had."""
    agreed: tuple[tuple[RefName, RefValue], ...] = ()
    """Aliases and pins: the digest that both stores had when they last had the same, sorted by ref."""
    open: tuple[RefName, ...] = ()
    """Aliases that were in conflict at the end of the last sync, sorted."""
    push_base: Natural | None = None
    """Of the packs of a push that was begun and has not ended."""
    pull_base: Natural | None = None
    """The same of a pull."""

    @property
    def is_of_a_beginning(self) -> bool:
        """Whether it says only that a sync was begun."""
        is_begun = self.push_base is not None or self.pull_base is not None
        return is_begun and not (self.pushed or self.pulled or self.agreed or self.open)


class News(NamedTuple):
    """What came to a store since a mark."""

    packs: frozenset[PackName]
    """Live packs whose content may be new: not those merged from known ones."""
    refs: frozenset[str]
    """Refs that were moved, but for those that never travel."""

    @classmethod
    def none(cls) -> News:
        """Return what it is when nothing came."""
        return cls(frozenset(), frozenset())


def memory_ref(location: str) -> str:
    """Return the name of the ref that remembers syncs with the store at `location`."""
    return SYNC_PREFIX + Digest.of(location.encode("utf-8", "surrogateescape")).hex()[:_ID_DIGITS]


def read_memory(session: Session, location: str) -> SyncMemory | None:
    """Return what is remembered of the store at `location`; None where it is nothing, or cannot be read."""
    value = session.log.state.refs.get(memory_ref(location))
    if value is None:
        return None
    try:
        raw = session.read_blob(Digest(value), bytes_max=_BYTES_MAX)
        return decode(raw, SyncMemory, what=memory_ref(location), bytes_max=_BYTES_MAX)
    except (CorruptionError, NotFoundError):
        # It only saves work.
        return None


def stage_memory(staging: Staging, memory: SyncMemory) -> Digest:
    """Stage the blob of `memory`; return its digest."""
    return staging.add_bytes(encode(memory))


def memory_change(state: State, memory: SyncMemory, digest: Digest) -> RefChange:
    """Return the step by which a store remembers `memory`, whose blob is `digest`."""
    ref = memory_ref(memory.location)
    return RefChange(ref, state.refs.get(ref), bytes(digest))


def remember(repository: Repository, memory: SyncMemory) -> None:
    """Let the store remember `memory`, in a commit that does nothing else."""

    def stage(staging: Staging) -> Digest:
        return stage_memory(staging, memory)

    repository.commit_staged(
        stage,
        lambda staging, state, digest: staging.draft(state, refs=(memory_change(state, memory, digest),)),
    )


def require_same_history(log: Session, mark: SyncMark, location: str) -> None:
    """Return if a store still has the commit that a mark names.

    Raises:
        DivergedError: it was put back.
    """
    state = log.log.state
    found = state.hash if mark.other == state.number else None
    if found is None and 0 <= mark.other < state.number:
        found = log.log.commit_at(mark.other).hash
    if found != mark.other_hash and mark.other >= 0:
        raise put_back(location, mark)


def put_back(location: str, mark: SyncMark) -> DivergedError:
    """Return the error of a store that does not have what a mark says."""
    return DivergedError(
        f"{location} no longer holds commit {mark.other} that was seen there at the last sync",
        hint="an older copy or another store took its place; if that is meant, sync afresh (`--afresh`, `afresh=True`)",
    )


def another_store(location: str) -> DivergedError:
    """Return the error of a store that was never synced with, where one was."""
    return DivergedError(
        f"at {location} there is another store than at the last sync",
        hint="if that is meant, sync afresh (`--afresh`, `afresh=True`)",
    )


# ---- what is new ---------------------------------------------------------------------------------------------------


def news_since(session: Session, number: int, memory: SyncMemory | None = None) -> News | None:
    """Return what came to a store since commit `number`; None where that was too long ago to be looked through.

    What a pull from the store that `memory` is about brought is no news for that store.
    """
    state = session.log.state
    if number > state.number or state.number - number > NEWS_COMMITS_MAX:
        return None
    return _sum(state, read_commits(session, number + 1, state.number), memory)


def _sum(state: State, commits: Sequence[Commit], memory: SyncMemory | None) -> News:
    packs: set[PackName] = set()
    refs: set[str] = set()
    came_by = None if memory is None else memory_ref(memory.location)
    for commit in commits:
        moved = {ref.name for ref in commit.refs if ref.old != ref.new}
        added = {record.name for record in commit.added}
        if came_by in moved or _is_for_itself(commit, moved):
            # A pull from there, or a note about a sync.
            continue
        for group in commit.replace:
            # Merged from known packs only, it says nothing new.
            if packs.isdisjoint(group.olds):
                added.difference_update(group.news)
        packs = (packs | added).difference(commit.removed)
        refs |= {name for name in moved if not stays_at_home(name)}
    return News(frozenset(packs & state.packs.keys()), frozenset(refs))


def _is_for_itself(commit: Commit, moved: Iterable[str]) -> bool:
    names = list(moved)
    return (
        bool(names) and all(map(stays_at_home, names)) and not any(record.entries for record in commit.added)
    )
