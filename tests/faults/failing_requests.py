"""One operation on a store in a bucket while its k-th request goes wrong: run it, and look at what is there afterwards.

An operation is judged by what the store shows on this machine, by what anybody else finds in the bucket, and by what
the user is told. No real minute passes: waits are counted, not waited, and a server that hangs is given up early.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.faults.bucket_place import HANGS, HERE, Place, Waits, found_by_others
from tests.faults.failing_calls import Outcome, View, attempt, difference, view
from tests.faults.request_ways import Way
from tests.servers.faults import Fault
from tests.servers.s3_requests import Seen

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import (
    CorruptionError,
    KeepstoneError,
    NotFoundError,
    RefConflictError,
    StorageError,
    UnsafeStorageError,
)
from keepstone.repository import opening

REQUESTS_MAX: Final = 1_000
SECONDS_MAX: Final = 120.0
"""An operation that takes longer hangs."""
HANGING_SECONDS: Final = 0.3
"""So soon the client gives up a server that says nothing; counted as the minute that it would have waited."""
REFUSED_SECONDS_MAX: Final = 60.0
"""No operation sleeps longer than this between its tries."""
SILENT_REQUESTS_MAX: Final = 60
"""Nor waits for more answers that do not come; up to 16 of them at once."""
FAILURES_MAX: Final = 10
FOREVER_STEP: Final = 3
"""A server that is gone from one request on is much the same as from the next: one in three is tried."""
_LATE_SECONDS: Final = 60.0
"""What is late comes when the operation is over."""


class Operation(NamedTuple):
    """What is done, what is done before it on a sound server, and how its outcome is judged."""

    name: str
    act: Callable[[Store], object]
    setup: Callable[[Store], object] = lambda store: None
    local: bool = False
    """What is open is the store in a folder of this machine; the bucket is the other one."""
    atomic: bool = True
    """All or nothing is seen; else each item or name by itself."""
    mode: Any = "a"
    reads: bool = False
    """Nothing is changed."""
    opens: bool = False
    """`act` gets a store, but what fails begins when it is opened."""
    cold: bool = False
    """Nothing of the bucket is kept on this machine."""
    fresh: bool = False
    """There is no store in the bucket yet."""
    again: Callable[[Store], object] | None = None
    """What is done to complete it after an error; None: the same again."""
    beside: Callable[[Store], View] | None = None
    """What else is to be seen, outside of the store and of the bucket."""
    thresholds: tuple[tuple[str, int], ...] = ()
    """Limits that are made small, so that little does what much would; by the dotted names of the constants."""


class Sweep:
    """One operation under every way of going wrong, at every request that it makes."""

    def __init__(
        self, place: Place, operation: Operation, template: Path, objects: dict[str, bytes], waits: Waits
    ) -> None:
        self._place = place
        self._operation = operation
        self._template = template
        self._objects = {} if operation.fresh else objects
        self._waits = waits
        self._number = 0
        self.runs = 0
        self.failed = 0
        """Runs that ended in an error."""
        self.failures: list[str] = []
        """What was not as it must be."""
        self.waited = 0.0
        """The longest that anybody would have slept between tries, in seconds."""
        self.silent = 0
        """The most answers that anybody would have waited a minute for, some of them at once."""
        self._clean()

    def run(self, way: Way) -> int:
        """Fail at each request in turn until nothing fails any more; return how many did. Collects failures."""
        if way.kind and not self.count(way):
            return 0
        for nth in range(1, REQUESTS_MAX, FOREVER_STEP if way.forever else 1):
            try:
                if not self.once(way, nth, same_session=nth % 2 == 0):
                    return nth - 1
            except (AssertionError, KeepstoneError) as error:
                self.failures.append("\n".join((str(error), *error.__notes__)))
                if len(self.failures) >= FAILURES_MAX:
                    return nth
        raise AssertionError("more requests than any operation makes")

    def count(self, way: Way) -> int:
        """Return how many requests of the sound operation a way can befall."""
        return sum(seen.kind.startswith(way.kind) for seen in self.requests)

    # ---- one run -------------------------------------------------------------------------------------------------

    def once(self, way: Way, nth: int, *, same_session: bool) -> bool:
        """Let the `nth` request that `way` can befall go wrong; return whether there was one."""
        folder = self._begin()
        try:
            struck = self._work(folder, way, nth, same_session)
            self._look_at_the_end(folder)
        except BaseException as error:
            asked = [f"{seen.kind} {seen.key} {seen.fault}" for seen in self._place.proxy.seen if seen.fault]
            error.add_note(
                f"{self._operation.name}: {way} at request {nth}, {'same' if same_session else 'next'}: "
                f"{asked[:3]}"
            )
            raise
        finally:
            opening._close_all()  # pyright: ignore[reportPrivateUsage]
            self._place.proxy.clear()
        self.runs += struck
        shutil.rmtree(folder)
        return struck

    def _begin(self) -> Path:
        self._place.proxy.clear()
        self._place.put_back(self._objects)
        self._number += 1
        folder = self._place.scratch / f"{self._number}"
        folder.mkdir()
        shutil.copytree(self._template, folder / HERE)
        if self._operation.cold or self._operation.fresh:
            shutil.rmtree(folder / HERE / "cache", ignore_errors=True)
        if self._operation.fresh:
            shutil.rmtree(folder / HERE / "state", ignore_errors=True)
        self._place.begin_on(folder / HERE)
        return folder

    def _open(self, folder: Path) -> Store:
        operation = self._operation
        if operation.local:
            return keepstone.open(folder / HERE / "local", mode=operation.mode, create=False)
        return keepstone.open(self._place.url, mode=operation.mode, create=operation.fresh)

    def _clean(self) -> None:
        """Learn what is there before and after, when nothing fails."""
        folder = self._begin()
        operation, proxy = self._operation, self._place.proxy
        self.before: View = {}
        if operation.opens:
            if not operation.fresh:
                with self._open(folder) as store:
                    # As it is found by who opens it: what dead programs left is read where it lies.
                    self.before = self._seen(store)
                self._place.put_back(self._objects)
                shutil.rmtree(folder)
                folder = self._begin()
            self.before_there = found_by_others(self._place.objects())
            proxy.clear()
            store = self._open(folder)
        else:
            store = self._open(folder)
            operation.setup(store)
            self.before = self._seen(store)
            self.before_there = found_by_others(self._place.objects())
            proxy.clear()
        self.result = operation.act(store)
        self.requests: list[Seen] = list(proxy.seen)
        if store._repository is None:  # pyright: ignore[reportPrivateUsage]
            store = self._open(folder)
        self.after = self._seen(store)
        store.close()
        self.after_there = found_by_others(self._place.objects(), checks=True)
        shutil.rmtree(folder)

    def _work(self, folder: Path, way: Way, nth: int, same_session: bool) -> bool:
        operation, proxy = self._operation, self._place.proxy
        opened: list[Store] = []

        def act() -> object:
            if not opened:
                opened.append(self._open(folder))
            return operation.act(opened[0])

        if not operation.opens:
            opened.append(self._open(folder))
            operation.setup(opened[0])
        proxy.clear()
        with self._giving_up_early(way):
            times = None if way.forever else 1
            rule = proxy.fail(way.fault, kind=way.kind, nth=nth, times=times, seconds=_LATE_SECONDS)
            self._waits.begin(rule)
            outcome = attempt(act, seconds_max=SECONDS_MAX)
        struck = rule.struck
        self._require_patience(way, struck)
        if not way.forever:
            self._place.wait_until_settled()
        store = opened[0] if opened else None
        if struck and outcome.error is not None and way.forever and not same_session:
            # The server never comes back for this program.
            if store is not None:
                attempt(store.close, seconds_max=SECONDS_MAX)
            store = None
        proxy.rules.clear()
        self._place.wait_until_settled()
        self._judge_outcome(way, struck, outcome)
        self._judge_there(outcome)
        store = self._look(store, folder, outcome)
        if outcome.error is not None:
            self.failed += 1
            if not same_session:
                attempt(store.close)
                store = self._open(folder)
                self._judge(self._seen(store), outcome)
            self._repeat(store, folder)
        closing = attempt(store.close)
        assert closing.error is None, f"closing with a sound server: {closing.error!r}"
        return bool(struck)

    @contextmanager
    def _giving_up_early(self, way: Way) -> Iterator[None]:
        import keepstone.storage.s3 as s3

        if way.fault not in HANGS:
            yield
            return
        before = s3.READ_SECONDS_MAX
        setattr(s3, "READ_SECONDS_MAX", HANGING_SECONDS)  # noqa: B010 - a constant to the type checker
        # What is open already has a client, whose patience is the old one.
        for repository in list(opening._alive):  # pyright: ignore[reportPrivateUsage]
            repository.session.storage.close()
        try:
            yield
        finally:
            setattr(s3, "READ_SECONDS_MAX", before)  # noqa: B010

    def _require_patience(self, way: Way, struck: int) -> None:
        seconds = self._waits.longest()
        self.waited = max(self.waited, seconds)
        assert seconds <= REFUSED_SECONDS_MAX, f"tried for {seconds:.0f} s, in {struck} requests that failed"
        if way.fault in HANGS:
            self.silent = max(self.silent, struck)
            assert struck <= SILENT_REQUESTS_MAX, f"waited for {struck} answers that did not come"

    # ---- judging -------------------------------------------------------------------------------------------------

    def _judge_outcome(self, way: Way, struck: int, outcome: Outcome) -> None:
        error = outcome.error
        if error is None:
            assert outcome.result == self.result, f"{outcome.result} instead of {self.result}"
            return
        assert struck, f"nothing failed, and yet: {error!r}"
        assert isinstance(error, StorageError), repr(error)
        # Who says once that something is there that is not, is not to be trusted with a new store.
        contradicts = way.fault is Fault.FAILED_CONDITION and isinstance(error, UnsafeStorageError)
        tried_again = not way.forever and way.fault is not Fault.FORBIDDEN and not contradicts
        assert not tried_again, f"one failure is tried again: {error!r}"
        assert contradicts or not isinstance(error, UnsafeStorageError | CorruptionError), repr(error)
        assert self._place.url in str(error), f"does not say where: {error}"
        assert error.hint
        shown = f"{error!r} {error} {error.hint} {error.path}"
        assert self._place.bucket.access.secret not in shown
        assert self._place.bucket.access.key not in shown

    def _judge(self, seen: View, outcome: Outcome) -> None:
        """All or nothing, and all of it where that was said."""
        if outcome.error is None or getattr(outcome.error, "landed", False):
            assert seen == self.after, f"after success: {difference(seen, self.after)}"
        elif self._operation.atomic:
            assert seen in (self.before, self.after), f"half visible: {difference(seen, self.before)}"
        else:
            _judge_pieces(seen, self.before, self.after)

    def _judge_there(self, outcome: Outcome) -> None:
        """Others see nothing that was not there or is to come."""
        found = found_by_others(self._place.objects())
        _judge_pieces(found.view, self.before_there.view, self.after_there.view)
        assert found.moves <= self.after_there.moves, "committed twice"

    def _look(self, store: Store | None, folder: Path, outcome: Outcome) -> Store:
        if store is None or store._repository is None:  # pyright: ignore[reportPrivateUsage]
            store = self._open(folder)
        self._judge(self._seen(store), outcome)
        return store

    def _repeat(self, store: Store, folder: Path) -> None:
        operation = self._operation
        if operation.opens or store._repository is None:  # pyright: ignore[reportPrivateUsage]
            return
        again = attempt(lambda: (operation.again or operation.act)(store), seconds_max=SECONDS_MAX)
        if isinstance(again.error, NotFoundError | RefConflictError):
            # It had landed: what was to be removed is gone.
            again = Outcome(None, None)
        assert again.error is None, f"repeated with a sound server: {again.error!r}"
        if store._repository is None:  # pyright: ignore[reportPrivateUsage]
            store = self._open(folder)
        seen = self._seen(store)
        assert seen == self.after, f"after repeating: {difference(seen, self.after)}"

    def _seen(self, store: Store) -> View:
        beside = self._operation.beside
        return view(store) | (beside(store) if beside else {})

    def _look_at_the_end(self, folder: Path) -> None:
        opening._close_all()  # pyright: ignore[reportPrivateUsage]
        objects = self._place.objects()
        found = found_by_others(objects, checks=True)
        wanted = self.after_there
        assert found.view == wanted.view, f"in the end: {difference(found.view, wanted.view)}"
        # A store whose making was cut off before the probe was written down writes it before its first commit.
        least = wanted.moves - (self._operation.fresh and self._operation.opens)
        assert least <= found.moves <= wanted.moves, (
            f"{found.moves} commits moved names instead of {wanted.moves}"
        )
        if not self._operation.reads:
            left = sorted(folder.glob(f"{HERE}/state/*/*/*.journal"))
            assert not left or self._operation.local, f"journals are left: {left}"


def _judge_pieces(seen: View, before: View, after: View) -> None:
    for what in seen.keys() | before.keys() | after.keys():
        states = before.get(what), after.get(what)
        assert seen.get(what) in states, f"{what} is {seen.get(what)!r}, not one of {states}"[:1500]
