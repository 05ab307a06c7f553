"""The log: one ordered history of a store, and `append`, its only commit point.

Layer: history. Format: docs/format.md, "The log". A commit stands once its slot is taken, and is never taken
back; readers take the state by one attribute read and never wait for a writer. Times are nanoseconds since
1970.
"""

from __future__ import annotations

import os
import random as random_module
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from keepstone.foundation.errors import (
    DivergedError,
    MalformedError,
    NotFoundError,
    RefConflictError,
    StorageError,
    StoragePermissionError,
    UnsupportedFormatError,
)
from keepstone.history.checkpoint import Checkpoints, Found, Mark
from keepstone.history.commit import (
    NO_PARENT,
    TXN_BYTES,
    Commit,
    Draft,
    commit_time,
    make_commit,
    require_chain,
)
from keepstone.history.moments import newest_before
from keepstone.history.slots import Slots, in_batches
from keepstone.history.state import State
from keepstone.history.turns import Turns
from keepstone.history.validate import StaleDraftError, check_draft
from keepstone.storage.base import Storage
from keepstone.storage.calls import standing

FAR_BEHIND: Final = 256
"""Commits behind the tip from where on a checkpoint that LAST does not name is looked for."""
FOLD_COMMITS: Final = 1024
"""Commits of a long tail that are held in memory at once."""
STALE_BUILDS_MAX: Final = 8
"""Drafts that may be stale one after another, although each was built on the newest state."""
UNKNOWN_MAX: Final = 64

Builder = Callable[[State], Draft | None]


class Log:
    """The history of one store. Any number of threads may read and append; see `after_fork`."""

    def __init__(
        self,
        storage: Storage,
        *,
        store_id: bytes,
        writer: bytes,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._storage = storage
        self._store_id = store_id
        self._writer = writer
        self._now_ns = now_ns
        self._sleep = sleep
        self._slots = Slots(storage, store_id, sleep=sleep, random=random)
        self._checkpoints = Checkpoints(storage, self._slots)
        self._state = State()
        self._mark = Mark()
        self._durable: tuple[int, bytes] = (-1, bytes(32))
        """Number and hash of the commit up to which the log is known to survive power loss."""
        self.before_append: Callable[[], None] = lambda: None
        """Called before every append; what it raises prevents it."""
        self._monotonic = monotonic
        self._turns = Turns(storage, writer, now=monotonic)
        self._takes_turns = storage.reads_at_once > 1
        self._unknown: dict[bytes, int] = {}
        """Attempts that ended in an error, by txn: the slots where they may have landed."""
        self._swapping = threading.Lock()
        self._appending = threading.Lock()

    @property
    def state(self) -> State:
        """The newest known state; the empty one before `open`."""
        return self._state

    @property
    def found(self) -> Found:
        """The newest known state, and the newest checkpoint that is known."""
        return Found(self._state, self._mark)

    def settle(self) -> tuple[int, bytes]:
        """Make what was seen of the log survive power loss, whoever wrote it; return number and hash of its tip.

        Before anything is said, written or removed that holds only together with those commits: their writer may
        not have come to it, or be dead.

        Raises:
            StorageError: the medium failed.
        """
        state = self._state
        if state.number > self._durable[0]:
            self._slots.settle()
            self._durable = (state.number, bytes(state.hash))
        return self._durable

    def after_fork(self, writer: bytes) -> None:
        """Make this log usable in a forked child, under a writer id of its own; to be called first of all."""
        self._writer = writer
        self._turns.after_fork(writer)
        self._swapping = threading.Lock()
        self._appending = threading.Lock()
        # The parent settles its own attempts; the child knows nothing of how they end.
        self._unknown = {}

    # ---- reading -------------------------------------------------------------------------------------------

    def open(self, known: Found | None = None) -> State:
        """Return the state at the tip, from the newest checkpoint that counts and the commits behind it.

        `known` is a state that the log is known to have been in: then what came since, as `refresh` reads it.

        Raises:
            CorruptionError: a commit is damaged, missing, or breaks a rule.
            UnsupportedFormatError: a newer release is needed to read the store.
            DivergedError: the commits belong to another store.
        """
        found = known
        if found is None or found.state.number - found.mark.number >= FAR_BEHIND:
            hinted = self._checkpoints.hinted()
            if found is None or (hinted is not None and hinted.mark.number > found.state.number):
                found = hinted or Found(State(), Mark())
        # A log that lost a slot would read as what it once was, with nothing to tell that values are old; and filling
        # the gap would fork the history. Once is enough: from then on slots fill up one by one.
        looks_behind = known is None
        following = self._slots.tail(found.state.number + 1, looks_behind=looks_behind)
        batch = next(in_batches(following, FAR_BEHIND), list[Commit]())
        if len(batch) >= FAR_BEHIND:
            # LAST is missing or far behind: a newer checkpoint may stand beside it. A short log needs none.
            found = self._checkpoints.listed() or found
            return self._publish(self._followed(found.state, looks_behind=looks_behind), found.mark)
        return self._publish(self._advanced(found.state, batch), found.mark)

    def refresh(self) -> State:
        """Return the state at the tip as of now. One read if nothing is new.

        Raises:
            DivergedError: the log is not a continuation of what this process saw before.
            CorruptionError, UnsupportedFormatError: as `open`.
        """
        return self._publish(self._followed(self._state))

    def commit_at(self, number: int) -> Commit:
        """Return commit `number`.

        Raises:
            NotFoundError: the log is not that long.
        """
        return self._slots.get(number)

    def commits(self, first: int = 0, last: int | None = None) -> Iterator[Commit]:
        """Yield commits `first` to `last` (both included; None: the known tip), the chain verified."""
        last = self._state.number if last is None else last
        before: Commit | None = None
        for number in range(first, last + 1):
            commit = self._slots.get(number)
            require_chain(before, commit)
            yield commit
            before = commit

    def commits_backwards(self, last: int | None = None, first: int = 0) -> Iterator[Commit]:
        """Yield the commits from `last` (None: the known tip) down to `first`, the chain verified."""
        number = self._state.number if last is None else last
        after: Commit | None = None
        while number >= first:
            commit = self._slots.get(number)
            require_chain(commit, after)
            yield commit
            after = commit
            number -= 1

    def state_at(self, number: int) -> State:
        """Return the state after commit `number` (-1: before the first).

        Folds from the newest checkpoint below it, or from the beginning.

        Raises:
            NotFoundError: the log is not that long.
        """
        state = self._state
        if number == state.number:
            return state
        if number > state.number and number > self.refresh().number:
            raise NotFoundError(f"the log has no commit {number}", hint="`keepstone history` lists them")
        found = self._checkpoints.listed(number_max=number)
        state = State() if found is None else found.state
        for first in range(state.number + 1, number + 1, FOLD_COMMITS):
            last = min(first + FOLD_COMMITS - 1, number)
            state = state.advance([self._slots.get(n) for n in range(first, last + 1)])
        return state

    def number_at(self, time_ns: int) -> int:
        """Return the number of the newest commit that was made at or before `time_ns`; -1 if none was."""
        return newest_before(time_ns, self._state, self._slots, self.commits_backwards)

    def _followed(self, state: State, ahead: int = 1, *, looks_behind: bool = False) -> State:
        tail = self._slots.tail(state.number + 1, ahead, looks_behind=looks_behind)
        for commits in in_batches(tail, FOLD_COMMITS):
            state = self._advanced(state, commits)
            self._turns.hear(commits)
        return state

    def _advanced(self, state: State, commits: Sequence[Commit]) -> State:
        try:
            return state.advance(commits)
        except MalformedError as error:
            if state.number < 0 or commits[0].parent == state.hash:
                raise
            present = self._slots.find(state.number)
            if present is not None and present.hash == state.hash:
                raise
            raise DivergedError(
                f"{self._storage.location} no longer holds the commit {state.number} that was seen before",
                hint="an older copy of the store took its place; open it again, and sync what is missing",
            ) from error

    def _publish(self, state: State, mark: Mark | None = None) -> State:
        with self._swapping:
            if mark is not None and mark.number > self._mark.number:
                self._mark = mark
            if state.number > self._state.number:
                self._state = state
            return self._state

    # ---- appending -----------------------------------------------------------------------------------------

    def append(self, build: Builder, *, txn: bytes | None = None) -> Commit | None:
        """Return the commit that now stands for what `build` proposed; None if it proposed nothing.

        `build` gets the state that its draft will be judged against. It is called again whenever the log has
        moved on, without bound, and must not append itself. What it raises reaches the caller, a
        `RefConflictError` only once it was raised for a state that is newer than this call. `txn` (16 bytes,
        random by default) names the attempt: repeating a call that failed, with the same txn, never commits
        twice.

        Raises:
            RefConflictError: a ref is not at the value that the draft states.
            StaleDraftError: `build` kept proposing what does not fit the state that it was given.
            InvalidInputError: the draft is too large or contradicts itself.
            UnsupportedFormatError: the store has a feature without which this release must not write.
            StorageError: with `landed=True` the commit stands, and is in `state`; otherwise it may land yet.
        """
        if not self._storage.writable:
            raise StoragePermissionError(
                f"{self._storage.location} can only be read",
                path=self._storage.location,
                hint="open a copy of it",
            )
        self.before_append()
        with self._appending:
            return self._append(build, os.urandom(TXN_BYTES) if txn is None else txn)

    def _append(self, build: Builder, txn: bytes) -> Commit | None:
        landed = self._landed_before(txn)
        if landed is not None:
            with standing():
                self.settle()
            # Not before: who repeats the call must find it.
            del self._unknown[txn]
            return landed
        # Whatever ends this call without a commit must have been judged against a state newer than the call.
        fresh = False
        losses = stale = 0
        while True:
            fresh = self._await_turn(losses) or fresh
            state = self._state
            try:
                draft = self._drafted(state, build)
            except (RefConflictError, StaleDraftError) as error:
                stale += isinstance(error, StaleDraftError)
                if fresh and (isinstance(error, RefConflictError) or stale >= STALE_BUILDS_MAX):
                    raise
                self.refresh()
                fresh = True
                continue
            if draft is None:
                if fresh:
                    # What was proposed stands already; the caller will say so.
                    self.settle()
                    return None
                self.refresh()
                fresh = True
                continue
            stale = 0
            landed = self._claim(state, draft, txn)
            if landed is not None:
                return landed
            losses += 1

    def _await_turn(self, losses: int) -> bool:
        """Return when it is this writer's turn, where turns are taken; say whether the log was read to its end."""
        turns = self._turns
        turns.note()
        if not self._takes_turns:
            if losses:
                self._slots.wait(losses)
            elif not turns.has_others:
                return False
            self.refresh()
            return True
        turns.tell(self._state.length)
        if looks := turns.should_look(losses):
            self._publish(self._followed(self._state, turns.ahead + 1))
            turns.note_look()
            turns.note()
        while pause := turns.pause(self._state.length):
            self._sleep(pause)
            turns.note_pause(pause)
            if turns.has_others:
                self._look()
        return looks

    def _look(self) -> None:
        """See what others appended, perhaps not all of it."""
        began, state, ahead = self._monotonic(), self._state, self._turns.ahead
        commits = next(self._slots.tail(state.length, ahead), list[Commit]())
        self._turns.note_read(self._monotonic() - began, is_all=len(commits) < ahead)
        self._turns.note(commits)
        self._publish(self._advanced(state, commits))

    def _drafted(self, state: State, build: Builder) -> Draft | None:
        if state.read_only:
            raise UnsupportedFormatError(
                f"{self._storage.location} has a feature that this release can read but not write",
                found="an unknown write feature in :features",
                supported="reading",
                hint="upgrade keepstone",
            )
        draft = build(state)
        if draft is not None:
            check_draft(state, draft)
        return draft

    def _claim(self, state: State, draft: Draft, txn: bytes) -> Commit | None:
        commit, data = self._encoded(state, draft, txn)
        # Power loss must not take away the commit below ours.
        self.settle()
        self._remember_unknown(txn, commit.number)
        began = self._monotonic()
        try:
            there = self._slots.claim(commit, data, self._turns.ahead if self._takes_turns else 1)
        except StorageError as error:
            if error.landed:
                self._publish(self._advanced(state, [commit]))
            raise
        del self._unknown[txn]
        if there[0] is commit:
            self._durable = (commit.number, bytes(commit.hash))
            self._turns.note_write(self._monotonic() - began)
        self._turns.note(there)
        self._publish(self._advanced(state, there))
        if there[0].txn != txn:
            self._turns.note_loss(self._monotonic() - began)
            return None
        self._mark = self._checkpoints.write_if_due(self._state, self._mark)
        return there[0]

    def _encoded(self, state: State, draft: Draft, txn: bytes) -> tuple[Commit, bytes]:
        return make_commit(
            draft,
            store=self._store_id,
            writer=self._writer,
            time=commit_time(self._now_ns(), state.time),
            number=state.length,
            parent=state.hash if state.number >= 0 else NO_PARENT,
            txn=txn,
        )

    def _landed_before(self, txn: bytes) -> Commit | None:
        number = self._unknown.get(txn)
        if number is None or self.refresh().number < number:
            return None
        commit = self._slots.get(number)
        if commit.txn == txn:
            return commit
        del self._unknown[txn]
        return None

    def _remember_unknown(self, txn: bytes, number: int) -> None:
        self._unknown[txn] = number
        while len(self._unknown) > UNKNOWN_MAX:
            del self._unknown[next(iter(self._unknown))]
