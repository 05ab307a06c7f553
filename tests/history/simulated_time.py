"""Writers at one far-away log in simulated time.

A read takes 20 ms and a write 45 ms of a clock that moves when all wait, so counts do not depend on the machine.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter, defaultdict
from typing import Any

from tests.history.conftest import NOW_NS, STORE_ID, step

from keepstone.foundation.errors import ObjectExistsError
from keepstone.foundation.format import WAITING_KEY
from keepstone.history.commit import Commit
from keepstone.history.log import Log
from keepstone.history.state import State
from keepstone.storage.memory import MemoryStorage

READ_SECONDS = 0.020
WRITE_SECONDS = 0.045
WORK_SECONDS = 0.003
"""What a writer does by itself for each commit."""


class SimulatedTime:
    """A clock for threads: it moves on when every actor waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, str]] = []
        self._pending: Counter[str] = Counter()
        self._actors: set[str] = set()
        self._order = 0

    def begin(self, actor: str) -> None:
        self._actors.add(actor)

    def end(self, actor: str) -> None:
        with self._changed:
            self._actors.discard(actor)
            self._changed.notify_all()

    def sleep(self, actor: str, seconds: float) -> None:
        """Return when so much time has passed; an actor may have several threads."""
        with self._changed:
            self._order += 1
            mine = (self.now + seconds, self._order, actor)
            heapq.heappush(self._waiting, mine)
            self._pending[actor] += 1
            self._changed.notify_all()
            while self._waiting[0] != mine or not all(self._pending[one] for one in self._actors):
                self._changed.wait()
            heapq.heappop(self._waiting)
            self._pending[actor] -= 1
            self.now = max(self.now, mine[0])
            self._changed.notify_all()


class FarStorage:
    """What one actor sees of a storage in memory that is far away."""

    def __init__(self, actor: str, inner: MemoryStorage, clock: SimulatedTime) -> None:
        self.actor = actor
        self.inner = inner
        self.clock = clock
        self.location = inner.location
        self.writable = True
        self.reads_at_once = 16
        self.slowness = 1.0
        self.counts: Counter[str] = Counter()
        self._seen: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        return self.read_range(key, 0, 1 << 30)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        if key == WAITING_KEY or key not in self._seen:
            self.clock.sleep(self.actor, READ_SECONDS * self.slowness)
            self.counts["ask" if key == WAITING_KEY else "read"] += 1
            self._seen[key] = self.inner.read(key)
        return self._seen[key][start:end]

    def write_new(self, key: str, data: bytes) -> None:
        self.clock.sleep(self.actor, WRITE_SECONDS * self.slowness)
        self.counts["write"] += 1
        try:
            self.inner.write_new(key, data)
        except ObjectExistsError:
            self.counts["lost"] += 1
            raise

    def write_hint(self, key: str, data: bytes) -> None:
        self.clock.sleep(self.actor, WRITE_SECONDS * self.slowness)
        self.counts["hint"] += key == WAITING_KEY
        self.inner.write_hint(key, data)

    def settle(self, prefix: str) -> None:
        """Nothing to do."""


class Crowd:
    """Writers that append to one log, one commit after the other."""

    def __init__(
        self,
        storage: MemoryStorage,
        sizes: dict[str, int],
        pause: dict[str, float],
        slowness: dict[str, float] | None = None,
    ) -> None:
        self.clock = SimulatedTime()
        self.storages = {name: FarStorage(name, storage, self.clock) for name in sizes}
        for name, far in self.storages.items():
            far.slowness = (slowness or {}).get(name, 1.0)
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.tries: list[int] = []
        self.overtaken: list[int] = []
        """How many commits of others came between asking and landing."""
        self.landed: list[Commit] = []
        self._errors: list[BaseException] = []
        self._sizes, self._pauses = sizes, pause
        for name in sizes:
            self.clock.begin(name)
        threads = [threading.Thread(target=self._work, args=(name,)) for name in sizes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self, name: str) -> None:
        try:
            self._append(name)
        except BaseException as error:
            self._errors.append(error)
        finally:
            self.clock.end(name)

    def _append(self, name: str) -> None:
        clock, storage = self.clock, self.storages[name]
        log = Log(
            storage,  # pyright: ignore
            store_id=STORE_ID,
            writer=name.encode().ljust(8),
            now_ns=lambda: NOW_NS + int(clock.now * 1e9),
            monotonic=lambda: clock.now,
            sleep=lambda seconds: clock.sleep(name, seconds),
            random=lambda: 0.5,
        )
        log.open()
        clock.sleep(name, self._pauses.get(name, 0.0))
        for _ in range(self._sizes[name]):
            began, tried, there = clock.now, storage.counts["write"], len(self.landed)

            def build(state: State) -> Any:
                clock.sleep(name, WORK_SECONDS * storage.slowness)
                return step(state, name)

            commit = log.append(build)
            assert commit is not None
            self.landed.append(commit)
            self.waits[name].append(clock.now - began)
            self.tries.append(storage.counts["write"] - tried)
            self.overtaken.append(len(self.landed) - there - 1)

    def total(self, what: str) -> int:
        return sum(storage.counts[what] for storage in self.storages.values())
