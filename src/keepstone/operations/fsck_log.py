"""Checking the log: every slot, the chain, the rules, and the checkpoints beside it.

Layer: operations. All slots are read from the first, whatever the checkpoints say; where one is damaged the fold
goes on from a later checkpoint that counts, and what no checkpoint reaches is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from keepstone.blobs.pack import read_index_at_end
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import KeepstoneError, MalformedError
from keepstone.foundation.format import (
    CHECKPOINT_LAST_KEY,
    CHECKPOINT_PREFIX,
    LOG_PREFIX,
    PACK_PREFIX,
    log_key,
)
from keepstone.history.checkpoint import Checkpoints, decode_checkpoint, number_of
from keepstone.history.commit import Commit, decode_commit, header_size_of
from keepstone.history.slots import HEADER_BYTES_GUESS, Slots
from keepstone.history.state import State
from keepstone.history.validate import Rule
from keepstone.operations.findings import UNREADABLE, Findings, invariant_of, told
from keepstone.operations.planned_reads import reading_ahead
from keepstone.repository.refs import VERSIONS, read_name_ref
from keepstone.storage.base import Storage

_FOLD_COMMITS: Final = 256
_INVARIANTS: Final = {
    Rule.NEEDS: "I8",
    Rule.FLOOR: "I8",
    Rule.DROPPED: "I8",
    Rule.DROP: "I8",
    Rule.REPLACE: "I8",
    Rule.REF: "I6",
    Rule.HORIZON: "I10",
    Rule.SEAL: "I5",
}


class LogCheck(NamedTuple):
    """What the log says, as far as it can be read."""

    state: State
    whole: bool
    """Whether every commit up to the last slot was folded; else `state` may be older than the store."""
    sizes: Mapping[str, int]
    """Bytes of each slot, by key."""
    length: int
    """Number of the slot behind the last that is taken."""


def check_log(storage: Storage, store_id: bytes | None, findings: Findings) -> LogCheck:
    """Return the newest state that can be reached, and note what is wrong on the way."""
    sizes: dict[str, int] = {}
    numbers: list[int] = []
    for info in storage.list(LOG_PREFIX):
        digits = info.key.removeprefix(LOG_PREFIX)
        if len(digits) == 20 and digits.isascii() and digits.isdigit():
            sizes[info.key] = info.size
            numbers.append(int(digits))
        else:
            findings.warn("I4", info.key, "is not a slot of the log; it was left alone")
    walk = _Walk(storage, store_id or _store_id_in(storage, numbers), numbers, findings)
    spans = (Span(log_key(number), 0, HEADER_BYTES_GUESS) for number in numbers)
    with reading_ahead(storage, spans):
        whole = walk.run()
    findings.tip = walk.state.number
    return LogCheck(walk.state, whole, sizes, max(numbers, default=-1) + 1)


def _store_id_in(storage: Storage, numbers: Sequence[int]) -> bytes:
    for number in numbers:
        try:
            data = storage.read(log_key(number))
            return decode_commit(data[: header_size_of(data, where="")], where="").store
        except UNREADABLE:
            continue
    return bytes(16)


class _Walk:
    """One pass over the log."""

    def __init__(self, storage: Storage, store_id: bytes, numbers: Sequence[int], findings: Findings) -> None:
        self.state = State()
        self._storage = storage
        self._slots = Slots(storage, store_id, sleep=lambda seconds: None, random=lambda: 0.0)
        self._present = frozenset(numbers)
        self._last = max(numbers, default=-1)
        self._findings = findings
        self._txns: dict[bytes, int] = {}
        self._checkpoints = self._read_checkpoints()

    def run(self) -> bool:
        """Fold all commits; return whether none was missed."""
        whole = True
        number = 0
        while number <= self._last:
            stopped = self._follow(number)
            if stopped > self._last:
                break
            resumed = self._resume(stopped)
            whole = whole and resumed >= 0
            if resumed < 0:
                self._report_unreachable(stopped)
                break
            for passed in range(stopped + 1, resumed + 1):
                self._find(passed)
            number = resumed + 1
        self._check_checkpoints_ahead()
        return whole

    def _follow(self, first: int) -> int:
        """Fold from `first` on; return the number of the commit that could not be, or one past the last."""
        batch: list[Commit] = []
        for number in range(first, self._last + 1):
            commit = self._find(number)
            if commit is not None:
                batch.append(commit)
            if (
                commit is None
                or len(batch) == _FOLD_COMMITS
                or number in self._checkpoints
                or number == self._last
            ):
                refused = self._fold(batch)
                if refused >= 0:
                    return refused
                if commit is None:
                    return number
                self._compare(number)
                batch = []
        return self._last + 1

    def _find(self, number: int) -> Commit | None:
        key = log_key(number)
        if number not in self._present:
            problem = "is missing although later commits exist; nothing must be written in its place"
            self._findings.damage("I4", key, problem)
            return None
        try:
            commit = self._slots.find(number)
        except UNREADABLE as error:
            self._findings.damage(invariant_of(error, "I4"), key, told(error))
            return None
        self._findings.commits += 1
        self._findings.bytes_read += commit.header_size if commit else HEADER_BYTES_GUESS
        if commit is not None and self._txns.setdefault(commit.txn, number) != number:
            self._findings.damage("I5", key, f"is the same attempt as commit {self._txns[commit.txn]}")
        return commit

    def _fold(self, batch: Sequence[Commit]) -> int:
        try:
            self.state = self.state.advance(batch)
            return -1
        except KeepstoneError:
            pass
        for commit in batch:
            try:
                self.state = self.state.advance([commit])
            except KeepstoneError as error:
                rules = (rule for rule in Rule if f"'{rule}'" in str(error))
                broken = _INVARIANTS.get(next(rules, Rule.CHAIN), "I4")
                self._findings.damage(invariant_of(error, broken), log_key(commit.number), told(error))
                return commit.number
        return -1

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def _read_checkpoints(self) -> dict[int, tuple[str, State]]:
        found: dict[int, tuple[str, State]] = {}
        hinted = False
        for info in self._storage.list(CHECKPOINT_PREFIX):
            if info.key == CHECKPOINT_LAST_KEY:
                hinted = True
                continue
            number = number_of(info.key)
            if number is None:
                self._findings.warn("I11", info.key, "is not a checkpoint; it was left alone")
                continue
            try:
                data = self._storage.read(info.key)
                self._findings.bytes_read += len(data)
                if Digest.of(data).hex() != info.key[-64:]:
                    raise MalformedError("its bytes are not those that its name tells", where=info.key)
                found[number] = (info.key, decode_checkpoint(data, where=info.key))
            except UNREADABLE as error:
                self._warn(info.key, told(error))
        if hinted and Checkpoints(self._storage, self._slots).hinted() is None:
            self._warn(CHECKPOINT_LAST_KEY, "names no checkpoint that counts")
        return found

    def _warn(self, key: str, problem: str) -> None:
        self._findings.warn("I11", key, f"{problem}; it can be deleted, the log says the same")

    def _compare(self, number: int) -> None:
        if number in self._checkpoints:
            key, state = self._checkpoints[number]
            if state != self.state:
                self._findings.warn("I4", key, "is not what the log adds up to; it can be deleted")

    def _check_checkpoints_ahead(self) -> None:
        for number, (key, _) in self._checkpoints.items():
            if number > self._last:
                self._warn(key, f"is of commit {number}, which the log does not have")

    def _resume(self, stopped: int) -> int:
        """Take the state of the first checkpoint at or behind `stopped` that counts; return its number, -1 for none."""
        for number in sorted(self._checkpoints):
            if number < stopped:
                continue
            _, state = self._checkpoints[number]
            try:
                commit = self._slots.find(number)
            except UNREADABLE:
                continue
            if commit is not None and state.number == number and state.hash == commit.hash:
                self.state = state
                return number
        return -1

    # ---- what lies behind damage -------------------------------------------------------------------------------------

    def _report_unreachable(self, stopped: int) -> None:
        touches: set[str] = set()
        count = 0
        for number in range(stopped, self._last + 1):
            commit = self._find_quietly(number)
            count += commit is not None and number > stopped
            touches |= touched_by(commit) if commit else set()
            # The inline pack ends the slot, so its footer is found without the header.
            touches |= self._in_pack(log_key(number))
        live = {pack.key for pack in self.state.packs.values()}
        for key, _ in self._storage.list(PACK_PREFIX):
            if key not in live:
                touches |= self._in_pack(key)
        behind = f"; {count:,} readable commits behind it cannot be reached" if count else ""
        problem = f"the history ends before it{behind}; bring the slot back from a copy of the store"
        self._findings.damage("I3", log_key(stopped), problem, _without_covered(touches))

    def _in_pack(self, key: str) -> set[str]:
        """Return what the footer at the end of an object names; nothing where there is none."""
        try:
            index, _ = read_index_at_end(self._storage, key, self._storage.size(key))
            return {
                item if name == VERSIONS else f"{name}[{item}]"
                for name in index.sections
                for item in index.keys(name)
            }
        except UNREADABLE:
            return set()

    def _find_quietly(self, number: int) -> Commit | None:
        try:
            return self._slots.find(number) if number in self._present else None
        except UNREADABLE:
            return None


def _without_covered(touches: set[str]) -> set[str]:
    # Where keys are known, "some keys" says less.
    known = {
        selector.partition("[")[0]
        for selector in touches
        if selector.endswith("]") and not selector.endswith("[*]")
    }
    return {selector for selector in touches if not (selector.endswith("[*]") and selector[:-3] in known)}


def touched_by(commit: Commit) -> set[str]:
    """Return the selectors of what `commit` made, as far as its refs and packs tell."""
    touches: set[str] = set()
    for change in commit.refs:
        if change.new is None or change.new == change.old or change.name.startswith(":"):
            continue
        if "@" in change.name:
            touches.add(change.name)
            continue
        try:
            ref = read_name_ref(change.new, change.name)
        except KeepstoneError:
            continue
        touches.add(f"{change.name}@v{ref.newest}" if ref.newest else f"{change.name}[*]")
    for record in commit.added:
        touches |= {f"{name}[*]" for name in record.collections if not name.startswith(":")}
    return touches
