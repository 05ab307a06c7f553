"""Syncing two stores: push, pull, both, and clone; each is a survey and a commit, and can be cut off and repeated.

Layer: operations. The store one stands in remembers what was synced with which other store, so that asking whether
there is anything new costs two reads there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import msgspec

from keepstone.foundation.errors import DivergedError, StorageError, StoreNotFoundError
from keepstone.foundation.names import plural
from keepstone.history.commit import NO_PARENT, RefChange
from keepstone.history.slots import Slots
from keepstone.history.state import State
from keepstone.operations.progress import ProgressCallback
from keepstone.operations.sync_cost import sending_requests
from keepstone.operations.sync_decision import Decision, agreed_after
from keepstone.operations.sync_memory import (
    News,
    SyncMark,
    SyncMemory,
    another_store,
    memory_change,
    news_since,
    put_back,
    read_memory,
    remember,
    require_same_history,
    stage_memory,
)
from keepstone.operations.sync_place import OtherStore, Place
from keepstone.operations.sync_reading import waiting_journals
from keepstone.operations.sync_report import SyncChanges, changes_of
from keepstone.operations.sync_selection import Selection, check_select, selection_of
from keepstone.operations.sync_survey import Known, Survey, survey
from keepstone.operations.sync_transfer import Transferred, transfer
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.repository import Repository
from keepstone.repository.staging import Staging
from keepstone.storage.cached import behind_cache
from keepstone.storage.calls import preparing
from keepstone.storage.locate import locate

Way = Literal["push", "pull"]

NOTE_BYTES_MIN: Final = 8 * 1024 * 1024
"""Before so much is written, a note says that a sync was begun: if it is cut off, the next one uses what is there."""


class SyncOptions(NamedTuple):
    """What callers choose."""

    select: tuple[str, ...] | None = None
    lineage: bool = False
    create: bool = False
    """Whether to make the store that is pushed to."""
    afresh: bool = False
    """Whether to forget what was synced before."""
    progress: ProgressCallback | None = None


def sync(
    here: Repository, place: Place, ways: Iterable[Way], options: SyncOptions
) -> tuple[SyncChanges, ...]:
    """Go these ways between `here` and the store at `place`; return what each did. See `Store.sync`."""
    return _Sync(here, place, tuple(ways), options).run()


def plan(
    here: Repository, place: Place, ways: Iterable[Way], options: SyncOptions
) -> tuple[SyncChanges, ...]:
    """Return what `sync` would do now, changing nothing: one for each way."""
    return _Sync(here, place, tuple(ways), options).preview()


class _Sync:
    """One sync of the store `here` with another one."""

    def __init__(self, here: Repository, place: Place, ways: tuple[Way, ...], options: SyncOptions) -> None:
        self._here = here
        self._ways = ways
        self._options = options
        self._select = check_select(options.select)
        self._begun: dict[Way, int] = {}
        self._there = OtherStore(here, place, pushes="push" in ways, creates=options.create)
        self._location = self._there.location

    # ---- the two verbs -----------------------------------------------------------------------------------------------

    def run(self) -> tuple[SyncChanges, ...]:
        session, ways = self._here.session, self._ways
        if "pull" in ways:
            session.require_writable()
        if session.writable:
            # What lies in this process's journal, and in those of processes that are gone, goes too.
            self._here.sealer.flush()
        session.refresh()
        if self._has_nothing_new():
            return self._nothing(waiting_journals(session, None))
        with self._there.opened() as other:
            if other.session.writable and "pull" in ways:
                # As with one's own: what programs that are gone left in a folder is published, so that it comes.
                other.sealer.flush()
                other.session.refresh()
            return tuple(self._go(way, other) for way in ways)

    def preview(self) -> tuple[SyncChanges, ...]:
        ways = self._ways
        self._here.session.refresh()
        if self._has_nothing_new():
            return self._nothing()
        try:
            with self._there.opened(reads_only=True) as other:
                return tuple(self._look(way, other) for way in ways)
        except StoreNotFoundError:
            if not self._options.create:
                raise
            self._there.reckon_creating()
            empty = open_repository(locate("memory://"), create=True, writable=True)
            try:
                return tuple(self._look(way, empty) for way in ways)
            finally:
                close_repository(empty)

    def _nothing(self, waiting: int = 0) -> tuple[SyncChanges, ...]:
        here, there = self._here.session.storage.location, self._location
        return tuple(
            SyncChanges(
                way,
                here if way == "push" else there,
                there if way == "push" else here,
                requests=self._there.requests_since(),
                waiting=waiting if way == "push" else 0,
            )
            for way in self._ways
        )

    # ---- is there anything new? --------------------------------------------------------------------------------------

    def _memory(self) -> SyncMemory | None:
        if self._options.afresh:
            return None
        return read_memory(self._here.session, self._location)

    def _memory_of(self, other: Repository) -> SyncMemory | None:
        """Return what is remembered of the store that is there now.

        Raises:
            DivergedError: another one was synced with.
        """
        memory = self._memory()
        if memory is None or memory.store_id == other.session.identity.id_bytes:
            return memory
        if memory.is_of_a_beginning:
            return None
        raise another_store(self._location)

    def _has_nothing_new(self) -> bool:
        """Whether both are as the last sync left them: at most two reads of the other store.

        Raises:
            DivergedError: the other store was put back, or is another one.
        """
        ways, memory = self._ways, self._memory()
        if memory is None or memory.open or self._select is not None:
            return False
        if "push" in ways:
            if memory.pushed is None:
                return False
            if news_since(self._here.session, memory.pushed.own, memory) != News.none():
                return False
        mark = memory.pulled if "pull" in ways else memory.pushed
        if mark is None or ("pull" in ways and self._there.has_journals):
            return False
        # A store that was put back may have another commit there than the one that was kept of it.
        slots = Slots(behind_cache(self._there.storage), memory.store_id, sleep=_no_sleep, random=_never)
        try:
            found = slots.find(mark.other) if mark.other >= 0 else None
            new = slots.find(mark.other + 1) if "pull" in ways else None
        except DivergedError as error:
            raise another_store(self._location) from error
        if mark.other >= 0 and (found is None or found.hash != mark.other_hash):
            raise put_back(self._location, mark)
        return new is None

    # ---- one way -----------------------------------------------------------------------------------------------------

    def _ends(self, way: Way, other: Repository) -> tuple[Repository, Repository]:
        return (self._here, other) if way == "push" else (other, self._here)

    def _known(self, way: Way, other: Repository, memory: SyncMemory | None) -> Known:
        if memory is None:
            return Known()
        marks = [mark for mark in (memory.pushed, memory.pulled) if mark is not None]
        if marks:
            # The chain of hashes speaks for the older one.
            newest = max(marks, key=lambda mark: mark.other)
            require_same_history(other.session, newest, self._location)
        agreed, unsettled = dict(memory.agreed), frozenset(memory.open)
        news = None
        if self._select is None and way == "push" and memory.pushed is not None:
            news = news_since(self._here.session, memory.pushed.own, memory)
        elif self._select is None and way == "pull" and memory.pulled is not None:
            news = news_since(other.session, memory.pulled.other)
        return Known(news, agreed, unsettled)

    def _look(self, way: Way, other: Repository) -> SyncChanges:
        source, target = self._ends(way, other)
        selected = selection_of(source, self._select, lineage=self._options.lineage)
        found = survey(
            source.session, target.session, selected, self._known(way, other, self._memory_of(other))
        )
        here, there = self._here.session.storage, self._there.storage
        from_, to = (here, there) if way == "push" else (there, here)
        asked = self._there.requests_since() + sending_requests(from_, to, found)
        return changes_of(way, self._here, self._location, found, found.decision, None, asked)

    def _go(self, way: Way, other: Repository) -> SyncChanges:
        source, target = self._ends(way, other)
        target.session.require_writable()
        memory = self._memory_of(other)
        before = target.session.log.state

        collections: frozenset[str] | None = None

        def selection() -> tuple[Selection, Known]:
            nonlocal collections
            selected = selection_of(source, self._select, lineage=self._options.lineage)
            collections = None if selected.is_whole else selected.names
            return selected, self._known(way, other, memory)

        def base(found: Survey) -> tuple[int, bool]:
            return self._begin(way, other, target.session.log.state, memory, found)

        def note(found: Survey, staging: Staging, state: State, decision: Decision) -> RefChange | None:
            if way == "push":
                return None
            after = self._after(way, other, memory, found.source_state, before, decision, state.length)
            return memory_change(state, after, stage_memory(staging, after))

        done = transfer(
            source,
            target,
            selection,
            base=base,
            note=note,
            message=lambda found, decision: self._message(way, found, decision),
            progress=self._options.progress,
        )
        self._end(way, other, memory, before, done)
        changes = changes_of(
            way,
            self._here,
            self._location,
            done.survey,
            done.decision,
            done.commit,
            self._there.requests_since(),
        )
        return changes._replace(waiting=waiting_journals(source.session, collections))

    def _message(self, way: Way, found: Survey, decision: Decision) -> str:
        # Where one's own store lies is nobody's business there.
        what = f"{plural(len(decision.versions), 'version')}, {plural(found.items, 'item')}"
        return f"push of {what}" if way == "push" else f"pull of {what} from {self._location}"

    def _begin(
        self, way: Way, other: Repository, state: State, memory: SyncMemory | None, found: Survey
    ) -> tuple[int, bool]:
        """Return what new packs are named by; note that a sync was begun where it may take long."""
        was_begun = self._begun.get(way)
        if was_begun is None and memory is not None:
            was_begun = memory.push_base if way == "push" else memory.pull_base
        if was_begun is not None and state.floor <= was_begun <= state.length:
            return was_begun, True
        self._begun[way] = state.length
        if found.bytes >= NOTE_BYTES_MIN and self._here.session.writable:
            field = "push_base" if way == "push" else "pull_base"
            noted = memory or SyncMemory(self._location, other.session.identity.id_bytes)
            with preparing():
                remember(self._here, msgspec.structs.replace(noted, **{field: state.length}))
        return state.length, False

    # ---- what is remembered ------------------------------------------------------------------------------------------

    def _after(
        self,
        way: Way,
        other: Repository,
        memory: SyncMemory | None,
        source: State,
        target_before: State,
        decision: Decision,
        target_number: int,
    ) -> SyncMemory:
        """Return what is to be remembered when the target's commit is `target_number`; a push adds its hash later."""
        old = memory or SyncMemory(self._location, other.session.identity.id_bytes)
        agreed = agreed_after(dict(old.agreed), decision)
        conflicts = {conflict.alias for conflict in decision.conflicts}
        unsettled = (set(old.open) - decision.settled) | conflicts
        field = "push_base" if way == "push" else "pull_base"
        after = msgspec.structs.replace(
            old,
            agreed=tuple(sorted(agreed.items())),
            open=tuple(sorted(unsettled)),
            **{field: None},
        )
        if self._select is not None:
            return after
        if way == "pull":
            mark = SyncMark(target_number, source.number, bytes(source.hash))
            # Into an empty store: of what others save there meanwhile the one that is pulled from has nothing.
            is_copy = target_before.number < 0 and news_since(self._here.session, -1, old) == News.none()
            return msgspec.structs.replace(after, pulled=mark, pushed=mark if is_copy else old.pushed)
        return after

    def _end(
        self, way: Way, other: Repository, memory: SyncMemory | None, before: State, done: Transferred
    ) -> None:
        """Remember what was synced, where the commit of a pull does not say so already."""
        if not self._here.session.writable or (way == "pull" and done.commit is not None):
            return
        survey_ = done.survey
        number = survey_.target_state.number if done.commit is None else done.commit.number
        after = self._after(way, other, memory, survey_.source_state, before, done.decision, number)
        if way == "push" and self._select is None:
            there = done.commit.hash if done.commit is not None else survey_.target_state.hash
            mark = SyncMark(survey_.source_state.number, number, bytes(there) if number >= 0 else NO_PARENT)
            pulled = after.pulled
            nothing_else = done.commit is not None and (
                (pulled is not None and pulled.other == number - 1) or number == 0
            )
            if nothing_else:
                # Only this push came to the other store since it was last pulled from.
                pulled = mark
            after = msgspec.structs.replace(after, pushed=mark, pulled=pulled)
        if memory is not None and done.commit is None and self._is_as_before(way, memory, after):
            after = msgspec.structs.replace(after, pushed=memory.pushed, pulled=memory.pulled)
        if after != memory:
            # What was asked for has happened; without the note the next sync has more to look at.
            with suppress(StorageError):
                remember(self._here, after)

    def _is_as_before(self, way: Way, memory: SyncMemory, after: SyncMemory) -> bool:
        """Whether nothing came to either store but notes like this one; a mark that says so again says nothing."""
        old, new = (memory.pushed, after.pushed) if way == "push" else (memory.pulled, after.pulled)
        if old is None or new is None or old.other_hash != new.other_hash:
            return False
        return way == "pull" or news_since(self._here.session, old.own, memory) == News.none()


def _no_sleep(_: float) -> None:
    return None


def _never() -> float:
    return 0.0
