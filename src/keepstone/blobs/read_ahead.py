"""Reading ahead: ranges that will be asked for are merged, fetched in parallel, and handed out when their turn comes.

Layer: blobs. It only saves waiting. A range that could not be fetched ahead is left to who asks for it, who then reads
it as ever and meets the same error; so nothing here can change what is read, or what is raised.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from keepstone.blobs.runs import Run, Span, plan_runs
from keepstone.storage.base import ReadsRanges

T = TypeVar("T")

AHEAD_BYTES_MAX: Final = 32 * 1024 * 1024
"""What is on its way or waiting to be taken, for one reader: three large requests. The allocator may hold
twice that."""
_WINDOW_BYTES_FIRST: Final = 1024 * 1024
_WINDOW_FRACTION: Final = 3 / 4
"""Ranges are planned in windows that grow: who reads one value and leaves has not asked for all. In the worst order a
whole window is held at once, so it must fit into the bound; and it is of whole runs, three of 8 MiB."""
_WINDOW_GROWTH: Final = 4
_WINDOW_ITEMS_MAX: Final = 10_000
_MISSED_MAX: Final = 4
"""Items in a row that were read from elsewhere than was planned, before the others are planned again."""


class _Item(Generic[T]):
    __slots__ = ("planned", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.planned = 0
        """How many ranges were planned for it."""


def read_in_order(storage: ReadsRanges, spans: Iterable[Span], *, reads_at_once: int) -> Iterator[bytes]:
    """Yield the bytes of each range; read ahead where more than one read at once pays."""
    if reads_at_once == 1:
        for span in spans:
            yield storage.read_range(*span)
        return
    ahead = ReadAhead(storage, spans, lambda span: [span], reads_at_once=reads_at_once, keep=True)
    try:
        for span in ahead.each():
            data = ahead.take(span)
            yield storage.read_range(*span) if data is None else data
    finally:
        ahead.close()


class _Crew:
    """A few threads that read. Not a ThreadPoolExecutor: at exit that waits for a medium that does not answer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._idle = self._waiting = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` done.

        Raises:
            RuntimeError: no thread can be started, as at exit.
        """
        with self._lock:
            self._waiting += 1
            is_short = self._waiting > self._idle and len(self._threads) < self._size
        if is_short:
            thread = threading.Thread(target=self._run, name="keepstone-read", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._queue.put(work)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            work = self._queue.get()
            with self._lock:
                self._idle -= 1
                self._waiting -= 1
            if work is None:
                return
            work()

    def end(self, *, wait: bool) -> None:
        """Let the threads end, each after what it does now."""
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


class ReadAhead(Generic[T]):
    """What one reader will read next. It belongs to one process, and to the thread that asks for the items.

    `spans_of` says what an item will be read from; whatever it raises, who reads the item will meet again. `keep`: the
    items themselves are handed out by `each`.
    """

    def __init__(
        self,
        storage: ReadsRanges,
        items: Iterable[T],
        spans_of: Callable[[T], Iterable[Span]],
        *,
        reads_at_once: int,
        bytes_max: int = AHEAD_BYTES_MAX,
        keep: bool = False,
    ) -> None:
        self._storage = storage
        self._items = iter(items)
        self._spans_of = spans_of
        self._reads_at_once = reads_at_once
        self._bytes_max = bytes_max
        self._window_bytes_max = int(bytes_max * _WINDOW_FRACTION)
        self._released: deque[_Item[T]] | None = deque() if keep else None
        """Items whose ranges are planned, and which are not handed out yet."""
        self._process, self._thread = os.getpid(), threading.get_ident()
        self._lock = threading.Lock()
        self._crew: _Crew | None = None
        self._crew_failed = False
        self._failure: Exception | None = None
        """What `items` raised; raised again when the items before it are handed out."""
        self._pumping = self._closed = self._lost_one = False
        self._held = self._in_flight = self._taken = 0
        self._restart()

    def _restart(self) -> None:
        self._steps = self._planned()
        self._exhausted = False
        self._window_bytes = min(_WINDOW_BYTES_FIRST, self._window_bytes_max)
        self._window = 0
        self._pending: deque[Run] = deque()
        self._runs: dict[Span, list[Run]] = {}
        """Mostly one. What is needed again much later is read again then."""
        self._uses: dict[tuple[Run, Span], int] = {}
        self._windows: deque[list[Run]] = deque()

    def _planned(self) -> Iterator[Span | None]:
        """Yield what will be read, and None after each item."""
        for value in self._items:
            item = _Item(value)
            if self._released is not None:
                self._released.append(item)
            try:
                for span in self._spans_of(value):
                    item.planned += 1
                    yield span
            except Exception:
                # Planning fails nobody: whoever reads the item meets the same, at its turn.
                pass
            yield None

    # ---- handing out -------------------------------------------------------------------------------------------------

    def each(self) -> Iterator[T]:
        """Yield the items in order; what they are read from is here or on its way then."""
        released = self._released
        assert released is not None
        missed, missed_max = 0, _MISSED_MAX
        while True:
            self._thread = threading.get_ident()
            if not self._is_own_process():
                # A forked child has no threads: it goes on without.
                yield from (item.value for item in released)
                yield from self._items
                return
            if self._lost_one or missed >= missed_max:
                # Something is gone, or is read from elsewhere by now, and what was planned with it may be as well.
                self._forget_all()
                self._items = chain([item.value for item in released], self._items)
                released.clear()
                self._restart()
                self._lost_one, missed, missed_max = False, 0, missed_max * 2
            self.pump()
            if not released:
                if self._exhausted:
                    break
                # Nobody took what was planned before; nobody will, since all of those items are through.
                self._forget_all()
                continue
            item, taken = released.popleft(), self._taken
            yield item.value
            missed = missed + 1 if item.planned and self._taken == taken else 0
        if self._failure is not None:
            raise self._failure

    def plans(self, span: Span) -> bool:
        """Whether this thread has planned to read it, and has not taken it yet."""
        return span in self._runs and self._is_own_thread()

    def take(self, span: Span) -> bytes | None:
        """Return these bytes if they were planned, waiting for them if they are on their way; None: read them.

        What other threads read is theirs to plan.
        """
        if self._closed or not self._is_own_thread():
            return None
        with self._lock:
            runs = self._runs.get(span)
            run = runs[0] if runs else None
        if run is None:
            return None
        self._taken += 1
        self._start(run)
        run.done.wait()
        with self._lock:
            data = run.part(span)
            if data is None:
                self._lost_one = True
            self._note_taken(run, span)
        self._forget_before(run.window - 1)
        self.pump()
        return data

    def _note_taken(self, run: Run, span: Span) -> None:
        uses = self._uses.get((run, span), 0) - 1
        if uses > 0 and run.is_here:
            self._uses[run, span] = uses
        elif self._unplan(run, span):
            self._held -= run.let_go(span)

    def _unplan(self, run: Run, span: Span) -> bool:
        """Plan no longer to read a range by that run; False: nobody did."""
        self._uses.pop((run, span), None)
        runs = self._runs.get(span)
        if not runs or run not in runs:
            return False
        runs.remove(run)
        if not runs:
            del self._runs[span]
        return True

    def _forget_before(self, window: int) -> None:
        with self._lock:
            while self._windows and self._windows[0][0].window < window:
                for run in self._windows.popleft():
                    self._forget(run)

    def _forget_all(self) -> None:
        with self._lock:
            while self._windows:
                for run in self._windows.popleft():
                    self._forget(run)
            self._pending.clear()

    def _forget(self, run: Run) -> None:
        for span in run.spans:
            self._unplan(run, span)
        if run.done.is_set():
            self._held -= run.held
            run.held = 0
        run.drop()

    # ---- fetching ----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Plan and begin as much as there is room for; only the owner does."""
        if self._pumping or self._closed:
            return
        self._pumping = True
        try:
            while True:
                self._start_some()
                if self._pending or self._exhausted or self._held >= self._bytes_max // 2:
                    return
                if self._released is not None and len(self._released) >= _WINDOW_ITEMS_MAX:
                    return
                self._draw()
        finally:
            self._pumping = False

    def _draw(self) -> None:
        spans: list[Span] = []
        size = steps = 0
        try:
            while size < self._window_bytes and steps < _WINDOW_ITEMS_MAX:
                span = next(self._steps)
                steps += span is None
                if span is not None and span.end > span.start:
                    spans.append(span)
                    size += span.end - span.start
        except StopIteration:
            self._exhausted = True
        except Exception as error:
            self._exhausted = True
            self._failure = error
        self._window_bytes = min(self._window_bytes_max, self._window_bytes * _WINDOW_GROWTH)
        with self._lock:
            fresh: list[Span] = []
            for span in spans:
                known = self._runs.get(span)
                # What was planned two windows ago is let go before the turn of this one comes.
                if known and known[-1].window >= self._window - 1:
                    self._uses[known[-1], span] += 1
                else:
                    fresh.append(span)
            runs = plan_runs(fresh, self._window)
            for run in runs:
                for span in run.spans:
                    self._runs.setdefault(span, []).append(run)
                    self._uses[run, span] = 0
            for span in fresh:
                self._uses[self._runs[span][-1], span] += 1
            if runs:
                self._windows.append(runs)
                self._pending.extend(runs)
                self._window += 1

    def _start_some(self) -> None:
        while self._pending:
            run = self._pending[0]
            if self._exhausted and len(self._pending) == 1 and self._crew is None:
                # A single request is as fast without a thread.
                return
            room = self._in_flight < 2 * self._reads_at_once
            room = room and self._held + run.end - run.start <= self._bytes_max
            if run.spans and not run.started and not room and self._held:
                return
            self._pending.popleft()
            if run.spans and not run.started and not self._start(run, ahead=True):
                self._pending.appendleft(run)
                return

    def _start(self, run: Run, *, ahead: bool = False) -> bool:
        """Begin to read a run, if nobody did; False: not ahead of its time, since there are no threads."""
        with self._lock:
            if run.started:
                return True
            is_single = self._exhausted and self._crew is None and not ahead
            if not is_single and not self._crew_failed and self._crew is None:
                self._crew = _Crew(self._reads_at_once)
            crew = None if is_single or self._crew_failed else self._crew
            if crew is None and ahead:
                return False
            run.started = True
            run.held = run.end - run.start
            self._held += run.held
            self._in_flight += 1
        if crew is not None:
            try:
                crew.submit(lambda: self._fetch(run))
                return True
            except RuntimeError:
                # At exit no thread can be started any more, and closing a store still reads.
                self._crew_failed = True
        self._fetch(run)
        return True

    def _fetch(self, run: Run) -> None:
        data: bytes | None = None
        try:
            # None left where nobody wants it any more.
            if run.spans:
                data = self._storage.read_range(run.key, run.start, run.end)
        except Exception:
            # Who asks for one of these ranges reads it, and meets the error itself.
            pass
        finally:
            with self._lock:
                self._held -= run.held
                run.held = 0
                if data is not None and run.spans:
                    run.held = run.receive(data)
                self._held += run.held
                self._in_flight -= 1
                run.done.set()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _is_own_process(self) -> bool:
        return os.getpid() == self._process

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread and self._is_own_process()

    def close(self) -> None:
        """Let go of everything; requests under way end by themselves, and nobody waits for them."""
        self._closed = True
        if not self._is_own_process():
            return
        is_idle = not self._in_flight
        self._forget_all()
        if self._crew is not None:
            self._crew.end(wait=is_idle)
