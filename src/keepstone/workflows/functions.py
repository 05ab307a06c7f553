"""Running a Python function over items: bounded threads, retries, timeouts.

Layer: workflows. A thread cannot be killed: a call that exceeds its timeout fails its item, goes on unseen in
its old thread, and what it returns later is dropped; the worker continues in a new thread.
"""

from __future__ import annotations

import contextvars
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from keepstone.foundation.errors import InvalidInputError, SerializerError
from keepstone.operations.progress import Progress
from keepstone.workflows.items import Field
from keepstone.workflows.ledger import Ledger
from keepstone.workflows.record import Answer, Record, read_answer
from keepstone.workflows.report import Report
from keepstone.workflows.runner import Crew, RunOptions, quiet, raise_errors
from keepstone.workflows.task import Feed, Task
from keepstone.workflows.trouble import backoff_seconds
from keepstone.workflows.values import plain

if TYPE_CHECKING:
    from keepstone.workflows.results import Results

HANGING_MAX: Final = 100
"""So many calls that never return end the run: each of them holds a thread."""

Function = Callable[[Any], Any]


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is called."""

    workers: int = 4
    retries: int = 2
    timeout_seconds: float | None = None
    key_field: str = ""


class Failure(msgspec.Struct, frozen=True):
    """A call that gave no answer."""

    error: str
    output: Any = None
    may_pass: bool = True


def answer_of(value: object, key_field: str) -> Answer | Failure:
    """Return what a function gave, taken apart; a value that cannot be kept is a failure."""
    try:
        if isinstance(value, Record):
            fields = ("output", "expected", "correct", "score", "cost", "tokens", "error")
            value = {name: getattr(value, name) for name in fields}
        answer = read_answer(plain(value, "the answer"), repeated=key_field)
    except SerializerError as error:
        return Failure(f"SerializerError: {error}", may_pass=False)
    return Failure(answer.error, answer.output) if answer.error else answer


def failure_of(error: Exception) -> Failure:
    """Return the failure that an exception of a function is."""
    text = str(error)
    return Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def overdue(timeout_seconds: float | None) -> Failure:
    """Return the failure that a call is which did not return in time."""
    return Failure(f"TimeoutError: no answer within {timeout_seconds or 0:g} s")


class OverdueError(Exception):
    """A call did not return in time."""


class Caller:
    """Calls a function in a thread of its own, so that a call can be given up."""

    def __init__(self, function: Function, context: contextvars.Context) -> None:
        self._function = function
        self._context = context
        self._asked: queue.SimpleQueue[tuple[Any] | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="keepstone-call", daemon=True).start()

    def call(self, argument: Any, timeout_seconds: float) -> Any:
        """Return what the function returns.

        Raises:
            OverdueError: it takes longer; this caller must not be used again.
        """
        self._asked.put((argument,))
        try:
            value, error = self._answered.get(timeout=timeout_seconds)
        except queue.Empty:
            self._asked.put(None)
            raise OverdueError from None
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let the thread end."""
        self._asked.put(None)

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._answered.put((self._context.run(self._function, asked[0]), None))
            except BaseException as error:
                self._answered.put((None, error))


class Calls:
    """The workers of one run."""

    def __init__(self, function: Function, options: CallOptions, feed: Feed, ledger: Ledger) -> None:
        self._function = function
        self._options = options
        self._feed = feed
        self._ledger = ledger
        self._hanging = 0
        self._lock = threading.Lock()

    def crew(self) -> Crew:
        """Return the workers, not started yet."""
        # Each worker sees the caller's context variables, as a call in the caller's thread would.
        contexts = [contextvars.copy_context() for _ in range(self._options.workers)]
        return Crew([functools.partial(self._work, context) for context in contexts])

    def _work(self, context: contextvars.Context) -> None:
        caller: Caller | None = None
        try:
            while (task := self._feed.next()) is not None:
                try:
                    caller = self._do(task, context, caller)
                finally:
                    self._feed.finished(task)
        except BaseException as error:
            self._ledger.die(error)
        finally:
            if caller is not None:
                caller.close()

    def _do(self, task: Task, context: contextvars.Context, caller: Caller | None) -> Caller | None:
        attempt = 0
        while True:
            attempt += 1
            started = time.monotonic()
            try:
                if self._options.timeout_seconds is None:
                    value = context.run(self._function, task.argument)
                else:
                    caller = caller or Caller(self._function, context.copy())
                    value = caller.call(task.argument, self._options.timeout_seconds)
                answer = answer_of(value, self._options.key_field)
            except OverdueError:
                caller = None
                self._count_hanging()
                answer = overdue(self._options.timeout_seconds)
            except Exception as error:
                answer = failure_of(error)
            seconds = time.monotonic() - started
            if isinstance(answer, Answer):
                self._ledger.record(task, answer, attempts=attempt, seconds=seconds)
                return caller
            if answer.may_pass and attempt <= self._options.retries:
                if self._feed.pause(backoff_seconds(attempt)):
                    continue
                return caller
            self._ledger.fail(task, answer.error, answer.output, attempts=attempt, seconds=seconds)
            return caller

    def _count_hanging(self) -> None:
        with self._lock:
            self._hanging += 1
            hanging = self._hanging
        if hanging >= HANGING_MAX:
            self._ledger.end(f"{hanging} calls did not return in time, and each of them still holds a thread")


def run_functions(
    results: Results,
    function: Function,
    items: Iterable[Any],
    key: Field,
    expected: Field | None,
    run: RunOptions,
    call: CallOptions,
    progress: Progress,
) -> Report:
    """Do what `Results.run` says."""
    import inspect

    if inspect.iscoroutinefunction(function):
        raise InvalidInputError(
            "an async function cannot be run by run()", hint="use: await results.arun(...)"
        )
    started = time.monotonic()
    source = results.prepare(items, key, expected, run)
    ledger = results.ledger(items, run, progress)
    feed = Feed(source.tasks(items), source.in_flight)
    ledger.stop = feed.stop
    crew = Calls(function, call, feed, ledger).crew()
    try:
        interrupted = crew.work(feed, abandon=ledger.abandon, say=quiet)
    finally:
        feed.stop()
    raise_errors(feed, ledger)
    report = results.report(ledger, source, started, interrupted)
    if interrupted:
        raise KeyboardInterrupt(str(report))
    return report
