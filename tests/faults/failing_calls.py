"""One operation on a store while its k-th system call fails: run it, and look at what is there afterwards.

An operation is judged by what a store shows to anybody who asks: before it, after it, and nothing in between.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.storage.faulty_calls import NAMES, FaultyCalls

import keepstone
from keepstone.api import Store
from keepstone.blobs import held
from keepstone.foundation.errors import KeepstoneError, NotFoundError, RefConflictError, StorageError
from keepstone.repository import opening

FAILING_EVERYDAY, FAILING = 2, 5
"""So many calls of one operation fail in one way, about, where not all do."""
CALLS_MAX = 3_000
SECONDS_MAX = 20.0
"""An operation that takes longer hangs."""
FOLDER_KEY = "folder"
"""Its value is no single one, and compared by its digest."""
_EFFECTS = ("write", "link", "link_open", "rename", "unlink", "mkdir", "fsync", "fdatasync", "ftruncate")
_MAKING = ("write", "open", "mkdir", "link", "link_open", "rename", "fsync", "fdatasync", "ftruncate")
_NAMING = ("mkdir", "link", "link_open", "rename", "unlink")

View = dict[tuple[str, ...], object]
"""Everything that a store shows, piece by piece."""


class Fault(NamedTuple):
    """How the k-th of some system calls fails."""

    error: int
    only: tuple[str, ...]
    forever: bool = False
    after: bool = False
    torn: bool = False
    short: bool = False

    def __str__(self) -> str:
        parts = [errno.errorcode.get(self.error, "short" if self.short else "?")]
        parts += [name for name in ("after", "torn") if getattr(self, name)]
        return "-".join([*parts, "for-ever" if self.forever else "once"])


EVERYDAY = (
    Fault(errno.EIO, NAMES),
    Fault(errno.ENOSPC, _MAKING, forever=True),
    Fault(errno.EIO, _EFFECTS, after=True),
    Fault(0, ("write", "pread"), short=True),
)
READING = (Fault(errno.EIO, NAMES), Fault(0, ("pread",), short=True))
"""The everyday ones for what changes nothing."""
LONG = (
    *EVERYDAY,
    Fault(errno.EIO, NAMES, forever=True),
    Fault(errno.ENOSPC, _MAKING),
    Fault(errno.ENOSPC, ("write",), torn=True),
    Fault(errno.ENOSPC, ("write",), torn=True, forever=True),
    Fault(errno.EIO, _EFFECTS, after=True, forever=True),
    Fault(0, ("write", "pread"), short=True, forever=True),
    Fault(errno.EMFILE, ("open", "scandir")),
    Fault(errno.EMFILE, ("open", "scandir"), forever=True),
    Fault(errno.EINTR, NAMES),
    Fault(errno.EINTR, _NAMING, forever=True),
    Fault(errno.EINTR, _NAMING, after=True),
    Fault(errno.EACCES, _NAMING),
    Fault(errno.EACCES, _NAMING, forever=True),
    Fault(errno.EACCES, ("try_lock",)),
    Fault(errno.EACCES, ("try_lock",), forever=True),
)
"""EACCES of `try_lock` means that somebody else holds the lock."""


class Operation(NamedTuple):
    """What is done, what is done before it on a sound disk, and how its outcome is judged."""

    name: str
    act: Callable[[Store], object]
    setup: Callable[[Store], object] = lambda store: None
    atomic: bool = True
    """All or nothing is seen; else each item or name by itself."""
    mode: Any = "a"
    reads: bool = False
    """Nothing is changed."""
    opens: bool = False
    """`act` gets a store, but what fails begins when it is opened."""
    fresh: bool = False
    """There is no store yet."""
    beside: Callable[[Store], object] | None = None
    """What else is to be seen, outside of the store: the same before or after."""
    compensates: bool = False
    """What was done is taken back by another commit when the rest fails, so there may be more of them."""
    thresholds: tuple[tuple[str, int], ...] = ()
    """Limits that are made small, so that little does what much would; by the dotted names of the constants."""


class Disk:
    """The disk under every store that is opened: its calls can be told to fail. Counts what was run."""

    def __init__(self) -> None:
        self.calls = FaultyCalls(durable=False)
        self.runs = 0

    def renew(self) -> FaultyCalls:
        self.calls = FaultyCalls(durable=False)
        return self.calls


def view(store: Store) -> View:
    """Return everything that `store` shows now."""
    found: View = {}
    for name in store.names(kind="artifact"):
        for version in store.versions(name):
            parts = tuple(b"".join(version.chunks(part.path)) for part in version.parts)
            found["version", name, str(version.number)] = (version.digest, dict(version.metadata), parts)
        for alias, number in store.aliases(name).items():
            found["alias", name, alias] = number
    for name in store.names(kind="collection"):
        items = store.collection(name)
        found["collection", name] = True
        for key in items:
            value = items[key] if key != FOLDER_KEY else items.digest_of(key)
            if isinstance(value, dict):
                value = {name: fact for name, fact in value.items() if name not in ("created", "seconds")}
            found["item", name, key] = value
        assert len(items) == sum(kind[:2] == ("item", name) for kind in found)
        for version in store.versions(name):
            found["snapshot", name, version.selector] = sorted(store.collection(version.selector))
    return found


def moves(store: Store) -> int:
    """Return how many commits moved a name; journals that are sealed and packs that are merged move none."""
    return sum(bool(entry.changes) for entry in store.history())


@contextmanager
def no_hang(seconds_max: float = SECONDS_MAX) -> Iterator[None]:
    """Fail where the block takes longer than any disk, or server."""

    def hung(*_: object) -> None:
        raise AssertionError(f"hangs: not done within {seconds_max:.0f} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, seconds_max)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Outcome(NamedTuple):
    """How one attempt ended."""

    error: KeepstoneError | None
    result: object


def attempt(act: Callable[[], object], *, seconds_max: float = SECONDS_MAX) -> Outcome:
    """Do `act`; anything but a result or an error of ours with its facts is a failure of the test."""
    try:
        with no_hang(seconds_max):
            return Outcome(None, act())
    except KeepstoneError as error:
        # Who keeps the error keeps its frames; what they hold must not be needed for anything.
        raised = error.with_traceback(None)
    _require_facts(raised)
    return Outcome(raised, None)


def _require_facts(error: KeepstoneError) -> None:
    assert str(error), repr(error)
    if isinstance(error, StorageError):
        assert error.path, f"no path in {error!r}"
        assert error.hint, f"no hint in {error!r}"


class Sweep:
    """One operation under every fault of a list, at every call that it makes."""

    def __init__(self, disk: Disk, operation: Operation, template: Path, scratch: Path) -> None:
        self._disk = disk
        self._operation = operation
        self._template = template
        self._scratch = scratch
        self._number = 0
        self.calls: list[str] = []
        """What the operation calls when nothing fails."""
        self.before, self.after, self.result = self._clean()

    def run(self, fault: Fault, *, some: int | None) -> int:
        """Fail at each call in turn until nothing fails any more; return how many calls failed.

        After an error the operation is repeated in the same session or in the next: in turns, or if all fail both.
        Else only `some` calls fail, evenly spread, and not every look is taken after each.
        """
        step = 1 if some is None else 1 + sum(name in fault.only for name in self.calls) // some
        for count, nth in enumerate(range(1, CALLS_MAX, step)):
            ways = (True, False) if some is None else (count % 2 == 0,)
            look = some is None or count % 8 == 0
            failed = [self._once(fault, nth, same_session=way, look_closely=look) for way in ways]
            if not any(failed):
                return count
        raise AssertionError("more calls than any operation makes")

    def _place(self) -> Path:
        self._number += 1
        place = self._scratch / f"{self._number}"
        if not self._operation.fresh:
            shutil.copytree(self._template, place)
        return place

    def _open(self, place: Path) -> Store:
        return keepstone.open(place, mode=self._operation.mode)

    def _clean(self) -> tuple[View, View, object]:
        place = self._place()
        calls = self._disk.renew()
        before: View = {}
        if not self._operation.opens:
            store = self._open(place)
            self._operation.setup(store)
            before = view(store)
        else:
            if not self._operation.fresh:
                with keepstone.open(place, mode="r") as reader:
                    before = view(reader)
            calls.made.clear()
            store = self._open(place)
        if not self._operation.opens:
            calls.made.clear()
            before |= self._beside(store)
        result = self._operation.act(store)
        self.calls = [name for name, _ in calls.made]
        store.close()
        with keepstone.open(place, mode="r") as reader:
            after = view(reader) | self._beside(reader)
            self.moves = moves(reader)
        self._remove(place)
        return before, after, result

    def _once(self, fault: Fault, nth: int, *, same_session: bool, look_closely: bool) -> bool:
        place = self._place()
        calls = self._disk.renew()
        fds = len(os.listdir("/proc/self/fd"))
        locks = held.held_count()
        try:
            failed = self._work(place, calls, fault, nth, same_session)
            opening._close_all()  # pyright: ignore[reportPrivateUsage]
            if look_closely or not self._operation.reads:
                self._look_at_the_end(place, look_closely)
            self._require_nothing_kept(calls, fds, locks)
        except BaseException as error:
            told = calls.failed[0] if calls.failed else ("none", ())
            error.add_note(f"{self._operation.name}: {fault} at call {nth}, {told[0]}{told[1]!r}"[:300])
            raise
        self._disk.runs += 1
        self._remove(place)
        return failed

    def _work(self, place: Path, calls: FaultyCalls, fault: Fault, nth: int, same_session: bool) -> bool:
        operation = self._operation
        facts = {
            name: getattr(fault, name) for name in ("error", "forever", "after", "torn", "short", "only")
        }
        store: Store | None = None
        if operation.opens:
            opened: list[Store] = []

            def open_and_act() -> object:
                opened.append(self._open(place))
                return operation.act(opened[0])

            calls.arm(nth, **facts)
            outcome = attempt(open_and_act)
            store = opened[0] if opened else None
        else:
            store = self._open(place)
            operation.setup(store)
            calls.arm(nth, **facts)
            outcome = attempt(lambda: operation.act(store))
        failed = calls.heal()
        if not failed:
            assert outcome.error is None, repr(outcome.error)
        if outcome.error is None:
            assert outcome.result == self.result
        store = self._look(store, outcome, place)
        if outcome.error is not None:
            if not same_session:
                attempt(store.close)
                store = self._reopened(place)
                self._judge(self._seen(store), outcome)
            self._repeat(store)
        attempt(store.close)
        return failed

    def _look_at_the_end(self, place: Path, closely: bool) -> None:
        with keepstone.open(place, mode="r") as again:
            self._require(self._seen(again), self.after, "after reopening")
            assert self._operation.compensates or moves(again) == self.moves, "committed twice"
            report = again.fsck() if closely else None
            assert report is None or report.ok, report.findings

    def _look(self, store: Store | None, outcome: Outcome, place: Path) -> Store:
        """Judge what is there with good calls, in the same session where there is one."""
        if store is None or store._repository is None:  # pyright: ignore[reportPrivateUsage]
            store = self._reopened(place)
        self._judge(self._seen(store), outcome)
        return store

    def _beside(self, store: Store) -> View:
        return {("beside",): self._operation.beside(store)} if self._operation.beside else {}

    def _seen(self, store: Store) -> View:
        return view(store) | self._beside(store)

    def _reopened(self, place: Path) -> Store:
        return keepstone.open(place, mode=self._operation.mode)

    def _judge(self, seen: View, outcome: Outcome) -> None:
        if outcome.error is None or getattr(outcome.error, "landed", False):
            return self._require(seen, self.after, "after success")
        if self._operation.atomic:
            assert seen in (self.before, self.after), f"half visible: {difference(seen, self.before)}"
            return None
        for what in seen.keys() | self.before.keys() | self.after.keys():
            states = self.before.get(what), self.after.get(what)
            assert seen.get(what) in states, f"{what} is {seen.get(what)!r}, not one of {states}"
        return None

    def _repeat(self, store: Store) -> None:
        if store._repository is None or self._operation.opens:  # pyright: ignore[reportPrivateUsage]
            return
        again = attempt(lambda: self._operation.act(store))
        if isinstance(again.error, NotFoundError | RefConflictError):
            # It had landed: what was to be removed, or taken back, is gone.
            again = Outcome(None, None)
        assert again.error is None, f"repeated with good calls: {again.error!r}"
        if store._repository is not None:  # pyright: ignore[reportPrivateUsage]
            self._require(self._seen(store), self.after, "after repeating")

    def _require(self, seen: View, expected: View, when: str) -> None:
        assert seen == expected, f"{when}: {difference(seen, expected)}"

    def _require_nothing_kept(self, calls: FaultyCalls, fds: int, locks: int) -> None:
        if calls.open_fds or held.held_count() > locks:
            # Errors refer to frames, and frames to errors.
            gc.collect()
        assert calls.open_fds == set(), f"descriptors left open: {calls.open_fds}"
        assert held.held_count() <= locks, "locks are still held"
        assert len(os.listdir("/proc/self/fd")) <= fds, "descriptors left open"

    def _remove(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)


def difference(seen: View, expected: View) -> str:
    """Return what is missing or too much, in words."""
    missing = {what: expected[what] for what in expected if seen.get(what) != expected[what]}
    extra = {what: seen[what] for what in seen if seen[what] != expected.get(what)}
    return f"expected {missing}, found {extra}"[:1500]
