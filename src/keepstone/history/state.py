"""The state: what the log's commits up to one number add up to.

Layer: history. A `State` is immutable; `advance` returns the next one and judges every commit on the way
(rules in validate.py). It is a pure function of the log: the same commits give equal states, with checkpoints
or without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from keepstone.foundation.format import log_key
from keepstone.history.commit import NO_PARENT, Commit, Natural, PackName, PackRecord, where_is
from keepstone.history.validate import FEATURES_REF, check_commit, read_features

IN_PACK: Final = -1
"""`slot` of a pack that is an object of its own."""
TIME_RUNS_MAX: Final = 256


class LivePack(msgspec.Struct, frozen=True, array_like=True):
    """A pack that readers may rely on, and where its bytes lie."""

    record: PackRecord
    slot: int = IN_PACK
    """The commit that carries it inline, or `IN_PACK`."""
    offset: Natural = 0
    """Of the pack's first byte in the object `key`."""

    @property
    def name(self) -> PackName:
        return self.record.name

    @property
    def key(self) -> str:
        """The storage key of the object that holds it."""
        return self.record.name.key if self.slot == IN_PACK else log_key(self.slot)


class DroppedPack(msgspec.Struct, frozen=True, array_like=True):
    """What is left of a dropped pack until the floor passes the commit that dropped it."""

    number: Natural
    """The commit that dropped it."""
    time: Natural
    """That commit's time [ns]: a grace counts from here."""
    slot: int = IN_PACK
    """The commit to trim, or `IN_PACK`."""


class TimeRun(msgspec.Struct, frozen=True, array_like=True):
    """Where commits begin whose times never fall; the next run begins where a clock was set right."""

    number: Natural
    time: Natural


def _no_packs() -> Mapping[PackName, LivePack]:
    return MappingProxyType({})


def _no_dropped() -> Mapping[PackName, DroppedPack]:
    return MappingProxyType({})


def _no_refs() -> Mapping[str, bytes]:
    return MappingProxyType({})


def _no_sealed() -> Mapping[bytes, int]:
    return MappingProxyType({})


class State(msgspec.Struct, frozen=True):
    """The state after commit `number`; -1 before the first."""

    number: int = -1
    hash: bytes = NO_PARENT
    """Of commit `number`; pins everything before it."""
    time: int = 0
    """Of commit `number` [ns]."""
    packs: Mapping[PackName, LivePack] = msgspec.field(default_factory=_no_packs)
    dropped: Mapping[PackName, DroppedPack] = msgspec.field(default_factory=_no_dropped)
    """Names that can never be added again. One is forgotten once the floor is above the commit that dropped
    it: its base is below the floor then, which forbids it as well, and its grace is over."""
    refs: Mapping[str, bytes] = msgspec.field(default_factory=_no_refs)
    floor: int = 0
    sealed: Mapping[bytes, int] = msgspec.field(default_factory=_no_sealed)
    """Adopted journals and the commits that did it, kept while those are not below the floor (rule 10)."""
    runs: tuple[TimeRun, ...] = ()
    """The newest runs of commit times, oldest first; at most `TIME_RUNS_MAX`."""
    log_bytes: int = 0
    """Bytes of all slots up to here, untrimmed."""
    read_only: bool = False
    """The store has a feature without which writing would do harm."""

    @property
    def length(self) -> int:
        """The log's length: the `base` of a pack that is begun now, and the number of the next commit."""
        return self.number + 1

    def advance(self, commits: Sequence[Commit]) -> State:
        """Return the state after `commits`, which follow this one. Copies each mapping at most once.

        Raises:
            MalformedError: a commit breaks a rule.
            UnsupportedFormatError: a commit sets a feature without which the store would be misread.
        """
        if not commits:
            return self
        fold = _Fold(self)
        for commit in commits:
            check_commit(fold, commit)
            fold.apply(commit)
        return fold.result()


class _Fold:
    """A state under way: mappings of the first state until a commit changes them, then copies."""

    def __init__(self, state: State) -> None:
        self.number = state.number
        self.hash = state.hash
        self.time = state.time
        self.packs = state.packs
        self.dropped = state.dropped
        self.refs = state.refs
        self.floor = state.floor
        self.sealed = state.sealed
        self.runs = state.runs
        self.log_bytes = state.log_bytes
        self.read_only = state.read_only
        self._packs: dict[PackName, LivePack] | None = None
        self._dropped: dict[PackName, DroppedPack] | None = None
        self._refs: dict[str, bytes] | None = None
        self._sealed: dict[bytes, int] | None = None

    def apply(self, commit: Commit) -> None:
        """Take `commit` in, which was judged."""
        self._move_packs(commit)
        self._move_refs(commit)
        if commit.seals:
            if self._sealed is None:
                self.sealed = self._sealed = dict(self.sealed)
            self._sealed.update(dict.fromkeys(commit.seals, commit.number))
        if commit.floor is not None and commit.floor > self.floor:
            self._raise_floor(commit.floor)
        if not self.runs or commit.time < self.time:
            self.runs = (*self.runs, TimeRun(commit.number, commit.time))[-TIME_RUNS_MAX:]
        self.number = commit.number
        self.hash = commit.hash
        self.time = commit.time
        self.log_bytes += commit.slot_size

    def _move_packs(self, commit: Commit) -> None:
        added = [(record, IN_PACK, 0) for record in commit.add]
        if commit.inline is not None:
            added.append((commit.inline, commit.number, commit.header_size))
        removed = commit.removed
        if not added and not removed:
            return
        if self._packs is None:
            self.packs = self._packs = dict(self.packs)
        for record, slot, offset in added:
            # The first place of a live name stays: adding it again is a no-op.
            self._packs.setdefault(record.name, LivePack(record, slot, offset))
        if removed and self._dropped is None:
            self.dropped = self._dropped = dict(self.dropped)
        for name in removed:
            pack = self._packs.pop(name)
            if self._dropped is not None:
                self._dropped[name] = DroppedPack(commit.number, commit.time, pack.slot)

    def _move_refs(self, commit: Commit) -> None:
        steps = [change for change in commit.refs if change.new != change.old]
        if not steps:
            return
        if self._refs is None:
            self.refs = self._refs = dict(self.refs)
        for change in steps:
            if change.new is None:
                self._refs.pop(change.name, None)
            else:
                self._refs[change.name] = change.new
            if change.name == FEATURES_REF:
                self.read_only = read_features(change.new, where=where_is(commit.number))

    def _raise_floor(self, floor: int) -> None:
        self.floor = floor
        self.dropped = self._dropped = {n: d for n, d in self.dropped.items() if d.number >= floor}
        self.sealed = self._sealed = {journal: n for journal, n in self.sealed.items() if n >= floor}

    def result(self) -> State:
        """Return the state that the commits so far add up to."""
        return State(
            number=self.number,
            hash=self.hash,
            time=self.time,
            packs=self.packs if self._packs is None else MappingProxyType(self._packs),
            dropped=self.dropped if self._dropped is None else MappingProxyType(self._dropped),
            refs=self.refs if self._refs is None else MappingProxyType(self._refs),
            floor=self.floor,
            sealed=self.sealed if self._sealed is None else MappingProxyType(self._sealed),
            runs=self.runs,
            log_bytes=self.log_bytes,
            read_only=self.read_only,
        )
