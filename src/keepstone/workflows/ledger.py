"""The ledger of a run: the only place where answers and failures are recorded and counted.

Layer: workflows. An item counts as done after its record is durable, never before. Many threads share one
ledger.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from keepstone.foundation.digest import Digest
from keepstone.operations.progress import ProgressCallback
from keepstone.workflows.record import Answer, Record, make_record
from keepstone.workflows.report import FAILURES_SHOWN_MAX
from keepstone.workflows.task import Task

Records = MutableMapping[str, Record]


class Ledger:
    """Counts and records of one run; thread-safe."""

    def __init__(
        self,
        done: Records,
        failed: Records,
        *,
        config: str,
        failures_in_a_row_max: int | None = None,
        progress: ProgressCallback | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.done_count = self.failed_count = self.withdrawn_count = 0
        self.first_failures: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.stopped = ""
        self.fatal: BaseException | None = None
        """The error that ended the run: the store refused a record, or there is a bug."""
        self.stop = stop
        self._done = done
        self._failed = failed
        self._config = config
        self._in_a_row = 0
        self._in_a_row_max = failures_in_a_row_max
        self._progress = progress
        self._abandoned = False
        self._lock = threading.Lock()

    def is_done(self, key: str) -> bool:
        """Whether `key` is answered by now, maybe by another run beside this one."""
        return key in self._done

    def record(self, task: Task, answer: Answer, *, attempts: int, seconds: float) -> None:
        """Keep the answer to `task`; it is durable on return."""
        if self._abandoned:
            return
        record = self._make(task, answer, attempts, seconds)
        self._done[task.key] = record
        if task.failed_before:
            self._failed.pop(task.key, None)
        with self._lock:
            self.done_count += 1
            self._in_a_row = 0
        self._tell()

    def fail(self, task: Task, error: str, output: Any = None, *, attempts: int, seconds: float) -> None:
        """Keep the failure of `task` apart."""
        if self._abandoned:
            return
        self._keep_failure(self._make(task, Answer(output, error=error), attempts, seconds), task.is_stale)
        self._tell()

    def withdraw(self, key_hashes: array[int]) -> int:
        """Take back the answers whose keys hash into `key_hashes`, so that they are asked again; return how
        many."""
        wanted = set(key_hashes)
        keys = [key for key in self._done if key_hash(key) in wanted] if wanted else []
        for key in keys:
            self._done.pop(key, None)
        with self._lock:
            self.withdrawn_count += len(keys)
            self.done_count -= len(keys)
        return len(keys)

    def note(self, text: str) -> None:
        """Remember a remark for the report, once."""
        with self._lock:
            if text not in self.notes:
                self.notes.append(text)

    def end(self, reason: str) -> None:
        """Stop the run early; the first reason counts."""
        with self._lock:
            self.stopped = self.stopped or reason
        self.stop()

    def die(self, error: BaseException) -> None:
        """Stop the run with `error`, which the caller of the run will get."""
        with self._lock:
            self.fatal = self.fatal or error
        self.stop()

    def abandon(self) -> None:
        """Record nothing more: what is in flight is given up."""
        self._abandoned = True

    def _make(self, task: Task, answer: Answer, attempts: int, seconds: float) -> Record:
        return make_record(
            task.key,
            task.input,
            task.expected,
            answer,
            config=self._config,
            attempts=attempts,
            seconds=seconds,
        )

    def _keep_failure(self, record: Record, has_answer: bool) -> None:
        # The failure is written first: between the two writes the item is answered, never lost.
        self._failed[record.key] = record
        if has_answer:
            self._done.pop(record.key, None)
        with self._lock:
            self.failed_count += 1
            self._in_a_row += 1
            if len(self.first_failures) < FAILURES_SHOWN_MAX:
                self.first_failures.append((record.key, record.error or ""))
            in_a_row = self._in_a_row
        if self._in_a_row_max is not None and in_a_row >= self._in_a_row_max:
            self.end(
                f"{in_a_row} items in a row failed, the last with: {(record.error or '').splitlines()[0][:200]}"
            )

    def _tell(self) -> None:
        if self._progress is not None:
            with self._lock:
                self._progress.absolute_update(self.done_count + self.failed_count)


_HASH_BYTES: Final = 8


def key_hash(key: str) -> int:
    """Return 64 bits of the key's digest: for sets of a million keys in little memory."""
    return int.from_bytes(Digest.of(key.encode())[:_HASH_BYTES], "little")
