"""The sealer: one background thread a process that turns finished journals into packs.

Layer: repository. Writers hand it full journals; it also seals what has lain idle for a minute, merges small packs and
brings the catalog up to date. When it falls behind, the writing thread helps, so journals never pile up.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from keepstone.foundation.bell import Bell
from keepstone.foundation.errors import KeepstoneError, StorageBusyError, StorageError
from keepstone.repository.merging import CLASS_PACKS_MIN, merge, plan_merge
from keepstone.repository.sealing import SealReport, seal_free, sealer_lock
from keepstone.repository.session import Session
from keepstone.storage.calls import preparing

UNSEALED_JOURNALS_MAX: Final = 4
FOLD_RETRY_SECONDS_MAX: Final = 60.0
CLOSE_BYTES_MIN: Final = 1024 * 1024
"""A smaller journal is left as it is when its store is closed: the next one that opens the store reads it."""
CLOSE_JOURNALS_MIN: Final = 8
"""So many journals, of living and dead processes, are sealed at the next close all the same: litter is bounded."""
LOCK_WAIT_SECONDS: Final = 2.0
FLUSH_WAIT_SECONDS: Final = 60.0
"""How long `flush` waits for a neighbour that is sealing this process's journals."""
_POLL_SECONDS: Final = 0.02
FOLD_AT_CLOSE_SECONDS: Final = 0.5
"""So long a closing process goes on bringing entries into the catalog, so that short commands get there as well."""
FOLD_ENTRIES_MIN: Final = 50_000
"""Entries without a catalog for which a process that only reads begins to make one."""
FOLD_DELAY_SECONDS: Final = 2.0
"""Between opening and that: whoever opens a store has questions first."""
FOLD_BATCH_MIN: Final = 1_000
"""Entries without a catalog that wait for company while commits keep coming; memory holds them."""
FOLD_RETRY_SECONDS: Final = 1.0
"""Between a try that another process or a full disk prevented and the next; doubled each time."""
CROWDED_PACKS_MIN: Final = 4 * CLASS_PACKS_MIN
"""Live packs from which on a commit looks whether they should be merged."""

_KEPT: Final = (
    "what was set is kept on this machine, and published when the store is next opened here to write"
)


class Sealer:
    """Seals the journals of one session; safe to call from many threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        if session.local.is_published:
            # Others see nothing of a journal: it does not wait for company.
            session.spool.on_birth = self.start
        self._reset()

    def _reset(self) -> None:
        self._working = threading.Lock()
        self._wake = Bell()
        self._closing = False
        self._crowded = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._error: Exception | None = None
        self._fold_due = math.inf
        self._fold_retry_seconds = FOLD_RETRY_SECONDS

    def after_fork(self) -> None:
        """In a forked child: threads do not survive a fork."""
        self._reset()

    def hand_over(self) -> None:
        """Finish the full journal and have it sealed; helps when too many wait."""
        self._session.spool.finish()
        if self._free_journals() > UNSEALED_JOURNALS_MAX:
            # What lands here is older; whoever set an item, or the first of many, may well repeat that.
            with preparing():
                self.seal(LOCK_WAIT_SECONDS)
        else:
            self.start()
            self._wake.ring()

    def _free_journals(self) -> int:
        return sum(1 for journal in self._session.spool.journals() if journal.final)

    def start(self) -> None:
        """Begin to work in the background, if that was not done."""
        with self._starting:
            # One that is not alive was kept from starting by an interrupt; should it start yet, it ends at once.
            if self._thread is None or not self._thread.is_alive():
                # A daemon: at exit whatever is half done is done again by whoever adopts the journal.
                self._thread = threading.Thread(target=self._run, name="keepstone-sealer", daemon=True)
                # At exit, or at a limit, no thread can be started: then those who write seal in their own.
                with contextlib.suppress(RuntimeError):
                    self._thread.start()

    def _run(self) -> None:
        me = threading.current_thread()
        idle_seconds = self._session.local.publish_seconds
        idle_until = time.monotonic() + idle_seconds
        while self._thread is me:
            woken = self._wake.wait(max(0.0, min(idle_until, self._fold_due) - time.monotonic()))
            if self._closing or self._thread is not me:
                return
            self._wake.silence()
            is_idle = time.monotonic() >= idle_until
            try:
                if is_idle and not woken:
                    self._session.spool.finish()
                if is_idle or woken:
                    idle_until = time.monotonic() + idle_seconds
                    self.seal(0.0)
                self._fold_in_background(is_idle=is_idle)
            except Exception as error:
                # Nothing is lost: the journals are still there. `flush` and `close` tell.
                self._error = error

    def seal(self, wait_seconds: float, *, beside: bool = False) -> SealReport:
        """Seal all free journals of this machine, unless another process does so for longer than `wait_seconds`.

        `beside`: then seal what that one does not hold itself.
        """
        deadline = time.monotonic() + wait_seconds
        session = self._session
        with self._working:
            while True:
                with sealer_lock(session) as held:
                    if held:
                        report = seal_free(session)
                        if report.commits or self._crowded:
                            self._crowded = False
                            self._merge()
                        return report
                if time.monotonic() >= deadline:
                    return seal_free(session) if beside else SealReport()
                time.sleep(_POLL_SECONDS)

    def _merge(self) -> None:
        try:
            merge(self._session)
        except KeepstoneError:
            # What was to be published is: a merge that fails leaves everything as it was, and comes again.
            return

    def _fold_in_background(self, *, is_idle: bool) -> None:
        # Reading works without a catalog, so it waits until no journal does.
        if self._wake.is_ringing:
            return
        self._fold_due = math.inf
        if not is_idle and self._session.entries.uncovered_entries < FOLD_BATCH_MIN:
            return
        if self._fold(lambda: self._closing or self._wake.is_ringing):
            self._fold_retry_seconds = FOLD_RETRY_SECONDS
        elif not self._wake.is_ringing:
            self._fold_due = time.monotonic() + self._fold_retry_seconds
            self._fold_retry_seconds = min(2 * self._fold_retry_seconds, FOLD_RETRY_SECONDS_MAX)

    def _fold(self, stop: Callable[[], bool]) -> bool:
        """Return whether the catalog has all that is published."""
        try:
            return self._session.entries.fold(stop)
        except KeepstoneError:
            return False

    def start_folding(self) -> None:
        """Begin to make the catalog in the background, if a large part of the store has none."""
        if self._session.writable and self._session.entries.uncovered_entries > FOLD_ENTRIES_MIN:
            self._fold_due = time.monotonic() + FOLD_DELAY_SECONDS
            self.start()

    def merge_if_crowded(self) -> None:
        """Begin merging in the background when small packs have piled up."""
        if len(self._session.log.state.packs) >= CROWDED_PACKS_MIN and plan_merge(self._session.log.state):
            self._crowded = True
            self.start()
            self._wake.ring()

    def flush(self) -> None:
        """Return when all that this process appended is published.

        Raises:
            StorageError: it could not be; what was acknowledged is still in the journal. It never says `landed`: a
                commit of some of it may stand, and flushing again does the rest.
        """
        try:
            with preparing():
                self._flush()
        except StorageError as error:
            if self._session.local.is_published and self._session.local.journals is not None:
                error.hint = f"{error.hint}; {_KEPT}" if error.hint else _KEPT
            raise

    def _flush(self) -> None:
        session = self._session
        rescues, unpublished = session.rescues, session.spool.finish()
        deadline = time.monotonic() + FLUSH_WAIT_SECONDS
        while True:
            if session.rescues != rescues:
                # Somebody had removed a journal; what was in it stands in another, which is not finished yet.
                rescues, unpublished = session.rescues, session.spool.finish()
            self.seal(LOCK_WAIT_SECONDS if unpublished else 0.0)
            unpublished &= session.spool.own_names()
            if unpublished:
                # Unless a neighbour has published it.
                session.refresh()
                unpublished &= session.spool.own_names()
            if not unpublished and session.rescues == rescues:
                self._error = None
                return
            # Another process holds the machine's lock for long: what is ours can be sealed beside it.
            with self._working:
                seal_free(session)
            session.refresh()
            unpublished &= session.spool.own_names()
            if unpublished and time.monotonic() >= deadline:
                self._raise_unpublished(unpublished)

    def _raise_unpublished(self, names: set[str]) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        path = str(self._session.spool.folder / min(names))
        raise StorageBusyError(
            f"{path} is held by another process for {FLUSH_WAIT_SECONDS:.0f} s, and was not published",
            path=path,
            hint="nothing is lost: it is published by whoever holds it, or by `keepstone recover`",
        )

    def close(self) -> None:
        """Stop working in the background; seal what is worth it, bring the rest to disk."""
        session = self._session
        self._closing = True
        self._wake.ring()
        try:
            thread, self._thread = self._thread, None
            if thread is not None and thread.is_alive():
                thread.join()
            if not session.writable:
                return
            if self._is_worth_publishing():
                self.flush()
            else:
                session.spool.sync_all()
            self._wake.silence()
            end = time.monotonic() + FOLD_AT_CLOSE_SECONDS
            self._fold(lambda: time.monotonic() > end)
        finally:
            session.spool.let_go()
            self._closing = False

    def _is_worth_publishing(self) -> bool:
        """Whether what lies in journals cannot stay there when the store is closed, or is too much for it."""
        spool = self._session.spool
        journals = len(spool.journals())
        if self._session.local.is_published:
            # Also what others left: the one who opens the store next may sit at another machine.
            return journals > 0
        return spool.own_bytes() >= CLOSE_BYTES_MIN or journals >= CLOSE_JOURNALS_MIN
