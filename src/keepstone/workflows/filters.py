"""Filters: programs that answer one line with one line, each item certain to get its own answer.

Layer: workflows. docs/decisions/filters.md says what is guaranteed and why. One item is in flight per worker;
a surplus line fails its item and ends that child; nothing is recorded under another key.
"""

from __future__ import annotations

import functools
import threading
import time
from array import array
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from keepstone.foundation.names import plural
from keepstone.workflows.alone import ask_alone
from keepstone.workflows.child import Child
from keepstone.workflows.ledger import Ledger
from keepstone.workflows.record import Answer, read_answer
from keepstone.workflows.runner import Crew
from keepstone.workflows.stream import Held, Stream
from keepstone.workflows.task import Feed, Task
from keepstone.workflows.trouble import TroubleError, backoff_seconds, shown
from keepstone.workflows.values import same


class FilterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a program is started and judged."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    workers: int = 4
    timeout_seconds: float | None = None
    """For one answer; None: no limit."""
    retries: int = 2
    """For what may pass: a crash, an exit code, a timeout, an answer with an error. Never for surplus or
    other lines."""
    each: bool = False
    """Start the program once for each item."""
    key_field: str = ""
    """Where answers may repeat the item's key; empty if the key is no field."""
    must_repeat_key: bool = False
    silence_seconds: float = 10.0
    """After so long without a first answer a hint says to flush."""
    exit_grace_seconds: float = 5.0
    """How long a child may take to end after its input has ended."""


class Pool:
    """What the workers of one run share."""

    def __init__(
        self, options: FilterOptions, feed: Feed, ledger: Ledger, say: Callable[[str], None]
    ) -> None:
        self.options = options
        self.feed = feed
        self.ledger = ledger
        self.is_single_use = options.each
        """Whether each item gets a child of its own."""
        self._environment = {**options.environment, "PYTHONUNBUFFERED": "1"}
        self._say = say
        self._children: set[Child] = set()
        self._has_hinted = self._has_killed = False
        self._lock = threading.Lock()

    def crew(self) -> Crew:
        """Return the workers, not started yet."""
        return Crew([functools.partial(_work, self)] * self.options.workers)

    def start_child(self) -> Child:
        """Return a newly started child."""
        child = Child(self.options.command, self._environment)
        with self._lock:
            self._children.add(child)
            if self._has_killed:
                child.kill()
        return child

    def end_child(self, child: Child, grace_seconds: float = 0.0) -> int:
        """End `child` and return its exit code."""
        with self._lock:
            self._children.discard(child)
        return child.end(grace_seconds)

    def kill(self) -> None:
        """Kill every child at once, also those that are started later."""
        with self._lock:
            self._has_killed = True
            for child in self._children:
                child.kill()

    def distrust(self, unproven: array[int]) -> None:
        """Give each item a child of its own from now on, and take back the answers to the keys `unproven`."""
        self.is_single_use = True
        count = self.ledger.withdraw(unproven)
        text = (
            "the program printed more than one object for one line, so from here on it is started once for each item; "
            "let it print one object for each line, and everything else to standard error"
        )
        if count:
            text += f". {plural(count, 'answer')} of the same process will be asked again: only answers that repeat "
            text += "the field of --key are certain"
        self._tell(text)

    def hint_silence(self) -> None:
        """Say once that a program may be holding its output back."""
        with self._lock:
            first, self._has_hinted = not self._has_hinted, True
        if first:
            self._say(
                f"no answer for {self.options.silence_seconds:g} s. If the program has printed one, it must flush it "
                "(print(..., flush=True)); PYTHONUNBUFFERED=1 is set for Python programs"
            )

    def deadline(self) -> float | None:
        """Return when an item that is asked now has had its time (monotonic)."""
        seconds = self.options.timeout_seconds
        return None if seconds is None else time.monotonic() + seconds

    def read(self, task: Task, line: bytes) -> tuple[Answer, bool]:
        """Return the answer in `line`, and whether it proves to belong to `task` by repeating its key.

        Raises:
            TroubleError: it is no JSON object, or belongs to another item.
        """
        try:
            value: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TroubleError(f"printed a line that is not JSON ({error})", shown(line)) from error
        if not isinstance(value, dict):
            raise TroubleError("printed a line that is not a JSON object", shown(line))
        fields = cast("dict[str, Any]", value)
        field = self.options.key_field
        if not field or field not in fields:
            if self.options.must_repeat_key:
                raise TroubleError(f"did not repeat the field {field!r} in its answer", fields)
            return read_answer(fields), False
        if not same(fields[field], task.input[field]):
            raise TroubleError(
                f"answered with another {field!r} than it was asked with", fields, is_shift=True
            )
        return read_answer(fields, repeated=field), True

    def _tell(self, text: str) -> None:
        self.ledger.note(text)
        self._say(text)


def _work(pool: Pool) -> None:
    """The life of a worker: one item after the other, until there are no more."""
    stream = Stream(pool)
    try:
        while (task := pool.feed.next()) is not None:
            if task.is_stale or not pool.ledger.is_done(task.key):
                _do(pool, stream, task)
        stream.finish()
    except BaseException as error:
        pool.ledger.die(error)
    finally:
        stream.abandon()


def _do(pool: Pool, stream: Stream, task: Task) -> None:
    attempt = 0
    while True:
        attempt += 1
        started = time.monotonic()
        try:
            if pool.is_single_use:
                stream.finish()
                answer, is_proven = ask_alone(pool, task)
            else:
                answer, is_proven = stream.ask(task)
        except TroubleError as trouble:
            failure = trouble
        else:
            seconds = time.monotonic() - started
            if not answer.error:
                held = Held(task, answer, attempt, seconds, is_proven)
                stream.hold(held)
                return
            failure = TroubleError(answer.error, answer.output, may_pass=True)
        if failure.may_pass and attempt <= pool.options.retries:
            if pool.feed.pause(backoff_seconds(attempt)):
                continue
            # The run is stopping before the last attempt: the item stays to do.
            return
        seconds = time.monotonic() - started
        pool.ledger.fail(task, failure.message, failure.output, attempts=attempt, seconds=seconds)
        return
