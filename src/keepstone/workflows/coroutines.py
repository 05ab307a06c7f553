"""Running an async function over items, inside the caller's event loop.

Layer: workflows. The only file here that imports asyncio. Records are written in threads, so the loop never
waits for a disk.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from keepstone.operations.progress import Progress
from keepstone.workflows.functions import CallOptions, Calls, answer_of, failure_of, overdue
from keepstone.workflows.items import Field, Items
from keepstone.workflows.ledger import Ledger
from keepstone.workflows.record import Answer
from keepstone.workflows.report import Report
from keepstone.workflows.runner import RunOptions, raise_errors
from keepstone.workflows.task import Feed, Task
from keepstone.workflows.trouble import backoff_seconds

if TYPE_CHECKING:
    from keepstone.workflows.results import Results

FETCH_SECONDS = 0.2


async def run_async(
    results: Results,
    function: Callable[[Any], Any],
    items: Iterable[Any] | AsyncIterable[Any],
    key: Field,
    expected: Field | None,
    run: RunOptions,
    call: CallOptions,
    progress: Progress,
) -> Report:
    """Do what `Results.arun` says."""
    started = time.monotonic()
    is_async_source = isinstance(items, AsyncIterable)
    fixed = cast("Iterable[Any]", () if is_async_source else items)
    source = await asyncio.to_thread(results.prepare, fixed, key, expected, run)
    ledger = results.ledger(items, run, progress)
    loop_run = _Run(function, call, ledger, source)
    if is_async_source:
        tasks = _async_tasks(source, items, run.limit)
    else:
        tasks = _sync_tasks(source.tasks(fixed))
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        await loop_run.work(tasks)
    else:
        await _in_threads(function, call, ledger, source, tasks)
    return results.report(ledger, source, started, interrupted=False)


async def _sync_tasks(tasks: Iterator[Task]) -> AsyncIterator[Task]:
    # The caller's iterator may block, so it is advanced in a thread; never by two at once.
    while (task := await asyncio.to_thread(next, tasks, None)) is not None:
        yield task


async def _async_tasks(source: Items, items: AsyncIterable[Any], limit: int | None) -> AsyncIterator[Task]:
    asked = 0
    async for item in items:
        if limit is not None and asked >= limit:
            return
        task = await asyncio.to_thread(source.task_of, item)
        if task is not None:
            asked += 1
            yield task


async def _in_threads(
    function: Callable[[Any], Any],
    call: CallOptions,
    ledger: Ledger,
    source: Items,
    tasks: AsyncIterator[Task],
) -> None:
    """Run a plain function in threads while this loop feeds them."""
    loop = asyncio.get_running_loop()

    def blocking() -> Iterator[Task]:
        # Worker threads take one task at a time, each fetched through the loop.
        while (task := _fetch(tasks, loop, feed)) is not None:
            yield task

    feed = Feed(blocking(), source.in_flight)
    ledger.stop = feed.stop
    crew = Calls(function, call, feed, ledger).crew()
    crew.start()
    try:
        while not crew.is_done:
            await asyncio.sleep(0.005)
    finally:
        feed.stop()
    raise_errors(feed, ledger)


def _fetch(tasks: AsyncIterator[Task], loop: asyncio.AbstractEventLoop, feed: Feed) -> Task | None:
    """Return the next task; None when there are no more, or the run was cancelled meanwhile."""
    future = asyncio.run_coroutine_threadsafe(_next(tasks), loop)
    while not feed.is_stopped:
        try:
            return future.result(FETCH_SECONDS)
        except TimeoutError:
            if future.done():
                raise
    future.cancel()
    return None


async def _next(tasks: AsyncIterator[Task]) -> Task | None:
    return await anext(tasks, None)


class _Run:
    """Some coroutines that share a source of tasks."""

    def __init__(
        self, function: Callable[[Any], Any], call: CallOptions, ledger: Ledger, source: Items
    ) -> None:
        self._function = function
        self._call = call
        self._ledger = ledger
        self._source = source
        self._stopped = asyncio.Event()
        self._lock = asyncio.Lock()
        self._error: BaseException | None = None
        loop = asyncio.get_running_loop()
        # The ledger stops a run from the thread that writes a record.
        ledger.stop = lambda: loop.call_soon_threadsafe(self._stopped.set)  # type: ignore[assignment]

    async def work(self, tasks: AsyncIterator[Task]) -> None:
        """Ask until there are no more tasks.

        Raises:
            Exception: what the source of the items, or the store, raised, after everything in flight is
            recorded.
        """
        workers = [asyncio.ensure_future(self._worker(tasks)) for _ in range(self._call.workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        error = self._ledger.fatal or self._error
        if error is not None:
            raise error

    async def _worker(self, tasks: AsyncIterator[Task]) -> None:
        while (task := await self._take(tasks)) is not None:
            try:
                await self._do(task)
            except Exception as error:
                self._ledger.die(error)
            finally:
                self._source.in_flight.pop(task.key, None)

    async def _take(self, tasks: AsyncIterator[Task]) -> Task | None:
        async with self._lock:
            if self._stopped.is_set():
                return None
            try:
                return await anext(tasks, None)
            except Exception as error:
                self._error = error
                self._stopped.set()
                return None

    async def _do(self, task: Task) -> None:
        attempt = 0
        while True:
            attempt += 1
            started = time.monotonic()
            try:
                value = await asyncio.wait_for(self._function(task.argument), self._call.timeout_seconds)
                answer = answer_of(value, self._call.key_field)
            except TimeoutError as error:
                seconds = time.monotonic() - started
                limit = self._call.timeout_seconds
                answer = overdue(limit) if limit is not None and seconds >= limit else failure_of(error)
            except Exception as error:
                answer = failure_of(error)
            seconds = time.monotonic() - started
            if isinstance(answer, Answer):
                await asyncio.to_thread(self._ledger.record, task, answer, attempts=attempt, seconds=seconds)
                return
            if answer.may_pass and attempt <= self._call.retries:
                if await self._pause(backoff_seconds(attempt)):
                    continue
                return
            await asyncio.to_thread(
                self._ledger.fail, task, answer.error, answer.output, attempts=attempt, seconds=seconds
            )
            return

    async def _pause(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return True
        return False
