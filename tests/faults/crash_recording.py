"""Recording work on a real store, and looking at what a loss of power may leave of it."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.faults.crash_checks import Builder, require
from tests.faults.crash_promises import Fact, Promises, Script
from tests.faults.crash_scripts import Base, Work
from tests.faults.crash_states import Crash, Disk, crashes
from tests.faults.processes import dead
from tests.faults.recorded_calls import RecordedCalls

from keepstone.foundation.errors import KeepstoneError

Tree = dict[str, bytes | None]
_KEPT_EVERY, _KEPT_MAX = 40, 8


class Recording(NamedTuple):
    """Calls, and what was promised while they were made."""

    calls: RecordedCalls
    promises: Promises
    first: int
    """The event from which on states are looked at."""


class Found(NamedTuple):
    """What came of looking at states."""

    states: int
    """Distinct in content."""
    violations: list[str]
    some: list[Crash]
    """A few states of a store, to begin from anew."""


class Recorder:
    """Records in folders of its own below `folder`; local storage uses the calls that are being recorded."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.builder = Builder(folder / "states")
        self._monkeypatch = monkeypatch
        self._numbers = itertools.count()
        self._bases: dict[Base, tuple[Path, list[Fact]]] = {}
        self._seen: dict[object, set[object]] = {}
        """What was required of each tree that was looked at."""
        self._kept: list[Promises] = []

    def new_folder(self) -> Path:
        """Return a new folder."""
        place = self.folder / str(next(self._numbers))
        place.mkdir(parents=True)
        return place

    def use(self, calls: RecordedCalls) -> None:
        """Let every store that is opened from now on be recorded."""
        self._monkeypatch.setattr("keepstone.storage.local.Calls", lambda: calls)

    def begin(self, base: Base, **options: Any) -> tuple[Path, RecordedCalls, Promises]:
        """Make what `base` makes, for certain; return its folder, calls to record, and what is promised."""
        self._monkeypatch.undo()
        if base not in self._bases:
            made = self.new_folder() / "disk"
            made.mkdir()
            script = Script(made / "store", Promises(), lambda: 0)
            base(script)
            script.close()
            self._bases[base] = made, list(script.promises.changes)
        made, facts = self._bases[base]
        disk, promises = self.new_folder() / "disk", Promises()
        shutil.copytree(made, disk)
        if (disk / "store").exists():
            promises.begin_with(disk / "store", facts)
        calls = RecordedCalls(disk, **options)
        self.use(calls)
        return disk, calls, promises

    def record(self, base: Base, work: Work, **options: Any) -> Recording:
        """Return the calls of `work` on what `base` made."""
        disk, calls, promises = self.begin(base, **options)
        script = Script(disk / "store", promises, lambda: len(calls.events))
        if promises.created < 0:
            assert script.store
        first = len(calls.events)
        work(script, calls)
        return _ended(disk, calls, promises, first, script)

    def record_interleaved(
        self, base: Base, one: Work, other: Work, at: int, *, syncs: bool = False, **options: Any
    ) -> Recording | None:
        """Return the calls of `one`, and in between, before its call `at` (of its `syncs`), those of `other`."""
        disk, calls, promises = self.begin(base, **options)
        scripts = [Script(disk / "store", promises, lambda: len(calls.events))]
        assert scripts[0].store
        begun: list[int] = []
        is_turn = _turn(at, syncs)

        def meanwhile(call: str) -> None:
            if is_turn(call):
                scripts.append(scripts[0].another(_another_way(disk)))
                begun.append(len(calls.events))
                other(scripts[1], calls)

        calls.before = meanwhile
        one(scripts[0], calls)
        calls.before = None
        recording = _ended(disk, calls, promises, begun[0] if begun else 0, *scripts)
        return recording if begun else None

    def record_killed(
        self, base: Base, one: Work, other: Work, at: int, *, syncs: bool = False, **options: Any
    ) -> Recording | None:
        """Return the calls of `one`, killed before its call `at` (of its `syncs`), and those of `other` after."""
        disk, calls, promises = self.begin(base, **options)
        left = disk.parent / "left"

        def work() -> None:
            script = Script(disk / "store", promises, lambda: len(calls.events))
            assert script.store
            is_turn = _turn(at, syncs)

            def die(call: str) -> None:
                if is_turn(call):
                    left.write_bytes(pickle.dumps((calls.noted(), promises)))
                    os._exit(0)

            calls.before = die
            one(script, calls)

        dead(work)
        if not left.exists():
            return None
        noted, promises = pickle.loads(left.read_bytes())
        calls.take_over(noted)
        first = len(calls.events)
        script = Script(_another_way(disk), promises, lambda: len(calls.events))
        assert script.store
        other(script, calls)
        return _ended(disk, calls, promises, first, script)

    def record_recovery(self, tree: Tree, facts: list[Fact], **options: Any) -> Recording:
        """Return the calls of opening and recovering what a crash left."""
        folder = self.new_folder()
        builder = Builder(folder)
        builder.build(tree)
        self._monkeypatch.undo()
        promises = Promises()
        promises.begin_with(builder.root / "store", facts)
        calls = RecordedCalls(builder.root, **options)
        self.use(calls)
        script = Script(builder.root / "store", promises, lambda: len(calls.events))
        script.recover()
        return _ended(builder.root, calls, promises, 0, script)

    def look(
        self, recording: Recording, *, limit: int, seed: int = 0, exhaustive: bool = False, every: int = 1
    ) -> Found:
        """Look at up to `limit` states that a loss of power may leave of `recording`, none of them seen before.

        With `every` above 1 only one in so many is recovered from, and one in so many times more worked with.
        """
        self._monkeypatch.undo()
        self._kept.append(recording.promises)
        violations: list[str] = []
        kept: list[Crash] = []
        count = 0
        for crash in crashes(recording.calls, first=recording.first, seed=seed, exhaustive=exhaustive):
            key = self.builder.key(crash.tree)
            # The same state may come with other promises, and then it is looked at again, but not counted.
            required = recording.promises.required(crash.prefix, whole=crash.whole)
            if required in self._seen.setdefault(key, set()):
                continue
            count += not self._seen[key]
            self._seen[key].add(required)
            self.builder.build(crash.tree)
            try:
                require(self.builder.root / "store", recording.promises, crash, count, every)
            except (AssertionError, KeepstoneError) as error:
                violations.append(
                    f"after {crash.prefix} events, {crash.told}: {type(error).__name__}: {error}"
                )
            if count % _KEPT_EVERY == 0 and "store/store.json" in crash.tree and len(kept) < _KEPT_MAX:
                kept.append(crash)
            if count == limit:
                break
        return Found(count, violations, kept)


def _turn(at: int, syncs: bool) -> Callable[[str], bool]:
    """Return what is true once: of call `at` of those that it is asked for, or of the syncs among them."""
    numbers = itertools.count()
    return lambda call: (call.endswith("sync") or not syncs) and next(numbers) == at


def _another_way(disk: Path) -> Path:
    """Return another path of the same store: who opens it shares nothing with who has it open."""
    way = disk.parent / "way"
    way.symlink_to(disk / "store")
    return way


def _ended(disk: Path, calls: RecordedCalls, promises: Promises, first: int, *scripts: Script) -> Recording:
    with calls.held():
        # The sealer may be at work in the background.
        events = list(calls.events)
        _require_complete(disk, calls, events)
    for script in scripts:
        script.abandon()
    calls.events = events
    return Recording(calls, promises, first)


def _require_complete(disk: Path, calls: RecordedCalls, events: list[Any]) -> None:
    """Require that what was noted makes what is really there."""
    model = Disk(dict(calls.files), {inode: dict(names) for inode, names in calls.folders.items()})
    for number, event in enumerate(events):
        model.happen(number, event)
    contents = {inode: model.versions(inode)[-1] for inode in model.changes}
    real = {
        str(path.relative_to(disk)): None if path.is_dir() else path.read_bytes() for path in disk.rglob("*")
    }
    assert model.tree([True] * len(model.names), contents) == real


def points(record: Callable[[int], Recording | None], first: int, step: int) -> Iterator[Recording]:
    """Yield what `record` returns for `first`, and in steps of `step`, until there is none."""
    for at in itertools.count(first, step):
        recording = record(at)
        if recording is None:
            return
        yield recording
