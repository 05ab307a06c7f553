"""What every run shares: its options, waiting for workers, Ctrl-C, the report.

Layer: workflows. The first Ctrl-C drains (nothing new is asked, what is in flight is recorded), the second
gives up what is in flight; nothing that was acknowledged is lost by either.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from keepstone.foundation.errors import InvalidInputError
from keepstone.workflows.ledger import Ledger
from keepstone.workflows.report import Report
from keepstone.workflows.task import Feed

WAIT_SECONDS = 0.2
ENTER_SECONDS = 0.02
"""After an interrupted start: how long its thread may take to say that it runs."""

Say = Callable[[str], None]
"""Where remarks go while a run goes on."""


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run treats what is there already, and when it ends early."""

    retry_failed: bool = False
    accept_change: bool = False
    redo: bool = False
    failures_in_a_row_max: int | None = None
    limit: int | None = None
    """Ask at most so many items."""

    def __post_init__(self) -> None:
        if self.accept_change and self.redo:
            raise InvalidInputError(
                "accept_change and redo exclude each other",
                hint="redo asks again what was answered under another configuration, accept_change keeps it",
            )
        check_count(self.failures_in_a_row_max, "max_failures")
        check_count(self.limit, "limit")


def check_count(value: int | None, name: str, least: int = 1) -> None:
    """Refuse a count below `least`."""
    if value is not None and value < least:
        raise InvalidInputError(f"{name} is {value}", hint=f"it must be at least {least}")


def quiet(text: str) -> None:
    """Say nothing."""


class Crew:
    """The worker threads of one run.

    `Thread.join` is not used: a Ctrl-C inside it makes Python 3.11 take a running thread for an ended one.
    """

    def __init__(self, works: Sequence[Callable[[], None]]) -> None:
        self._works = works
        self._begun = 0
        self._entered: list[None] = []
        self._ended: list[None] = []
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_done(self) -> bool:
        """Whether all that were started have ended."""
        # A start that Ctrl-C interrupts is not counted as begun, but its thread may run.
        return len(self._ended) >= max(self._begun, len(self._entered))

    def start(self) -> None:
        """Start those that are not started yet."""
        while self._begun < len(self._works):
            name = f"keepstone-run-{self._begun}"
            work = self._works[self._begun]
            threading.Thread(target=self._live, args=(work,), name=name, daemon=True).start()
            self._begun += 1

    def work(self, feed: Feed, *, abandon: Callable[[], None], say: Say) -> bool:
        """Start all and wait until they have ended, or a second Ctrl-C; return whether Ctrl-C came."""
        interrupted = False
        while True:
            try:
                if interrupted:
                    time.sleep(ENTER_SECONDS)
                else:
                    self.start()
                while not self.is_done:
                    try:
                        self._ends.get(timeout=WAIT_SECONDS)
                    except queue.Empty:
                        continue
                return interrupted
            except KeyboardInterrupt:
                if interrupted:
                    abandon()
                    return True
                interrupted = True
                feed.stop()
                say("stopping: waiting for what is in flight; press Ctrl-C again to give that up")

    def _live(self, work: Callable[[], None]) -> None:
        self._entered.append(None)
        try:
            work()
        finally:
            self._ended.append(None)
            self._ends.put(None)


def raise_errors(feed: Feed, ledger: Ledger) -> None:
    """Raise what ended the run: an error of the store, or of the caller's own iterator."""
    error = ledger.fatal or feed.error
    if error is not None:
        raise error


def make_report(
    name: str,
    ledger: Ledger,
    *,
    present: int,
    failed_before: int,
    started: float,
    config: str,
    removed: tuple[str, ...],
    interrupted: bool,
    left: int | None = None,
    duplicates: int = 0,
) -> Report:
    """Return the report of a run that began at `started` (monotonic)."""
    return Report(
        name=name,
        present=present,
        done=ledger.done_count,
        failed=ledger.failed_count,
        failed_before=failed_before,
        duplicates=duplicates,
        withdrawn=ledger.withdrawn_count,
        left=left,
        seconds=time.monotonic() - started,
        interrupted=interrupted,
        stopped=ledger.stopped,
        config=config,
        removed=removed,
        first_failures=tuple(ledger.first_failures),
        notes=tuple(ledger.notes),
    )
