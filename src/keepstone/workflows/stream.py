"""A child that answers many items, one after the other, and the proof that each answer is the item's own.

Layer: workflows. docs/decisions/filters.md has the reasons. The first byte of the next item goes out alone.
Once the child has read it, a child that reads only when it is done with the item before has written
everything for that one; nothing more in its pipe means exactly one line. Only then the answer is kept and the
rest of the item sent.
"""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, Final

import msgspec

from keepstone.workflows.child import Child, ChildEndedError, ChildTimeoutError, TooLongError
from keepstone.workflows.ledger import key_hash
from keepstone.workflows.record import Answer
from keepstone.workflows.task import Task
from keepstone.workflows.trouble import TroubleError, exit_text, holds_object, shown, with_stderr

if TYPE_CHECKING:
    from keepstone.workflows.filters import Pool

READ_ON_SECONDS_MAX: Final = 600.0
"""How long a child that has answered may take to come back for more, where no timeout is set."""
LISTEN_SECONDS_MAX: Final = 0.02
LISTEN_SHARE: Final = 1 / 50
"""After a child has read on, how much longer to listen, as a share of the time that its answer took."""


class Held(msgspec.Struct, frozen=True):
    """An answer that has arrived, until it is certain that nothing follows it."""

    task: Task
    answer: Answer
    attempts: int
    seconds: float
    is_proven: bool
    """The answer repeats the item's key."""


class Stream:
    """The present child of one worker; a new one is started when it is needed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._child: Child | None = None
        self._held: Held | None = None
        self._unproven: array[int] = array("Q")
        """Hashes of the keys that the present child answered without repeating them."""

    def ask(self, task: Task) -> tuple[Answer, bool]:
        """Return the answer to `task`, and whether it repeats the key; `hold` must follow.

        Raises:
            TroubleError: the item has failed; the child is gone.
        """
        child, sent = self._settle(task)
        deadline = self._pool.deadline()
        child.write(task.line[sent:] + b"\n")
        try:
            line = wait_for_line(self._pool, child, deadline)
            answer, is_proven = self._pool.read(task, line)
            if not child.is_quiet(0.0):
                text = shown(line + b"\n" + child.rest())
                raise TroubleError("printed more than one line", text, is_shift=holds_object(child.rest()))
        except TroubleError as trouble:
            code = self._drop()
            if isinstance(trouble.__cause__, ChildEndedError) and code is not None:
                trouble.message = f"{exit_text(code)} before it answered"
            trouble.output = with_stderr(trouble.output, child.stderr)
            if trouble.is_shift:
                self._distrust()
            raise
        child.answered += 1
        return answer, is_proven

    def hold(self, held: Held) -> None:
        """Record `held` as soon as it is certain that nothing follows it."""
        self._held = held
        if self._child is None:
            self._keep()

    def finish(self) -> None:
        """End the child in peace: its input ends, and what it still says decides on the held answer."""
        child = self._child
        if child is None:
            return
        grace = self._pool.options.exit_grace_seconds
        child.close_input()
        ended = child.wait_for_end(grace)
        code = self._drop(grace_seconds=1.0)
        if child.rest():
            self._refuse(child)
            return
        if not ended:
            self._pool.ledger.note(
                f"the program did not end within {grace:g} s after its input; it was ended"
            )
        elif code:
            said = f": {child.stderr[-200:].strip()}" if child.stderr else ""
            self._pool.ledger.note(f"the program {exit_text(code)} after an answer{said}")
        self._keep()

    def abandon(self) -> None:
        """End the child at once; a held answer is given up, and will be asked again by the next run."""
        self._drop()

    def _settle(self, task: Task) -> tuple[Child, int]:
        """Decide on the held answer; return the child to ask, and how many bytes of `task` it has already."""
        child = self._child
        if child is not None:
            child.write(task.line[:1])
            if child.wait_until_read(time.monotonic() + self._patience) and self._stays_quiet(child):
                self._keep()
                return child, 1
            # It said more, has ended, closed its input, or does not come back for more.
            self.finish()
        self._unproven = array("Q")
        self._child = self._pool.start_child()
        return self._child, 0

    @property
    def _patience(self) -> float:
        return self._pool.options.timeout_seconds or READ_ON_SECONDS_MAX

    def _stays_quiet(self, child: Child) -> bool:
        """Listen a little longer: some children read ahead of their work."""
        return self._held is None or child.is_quiet(
            min(LISTEN_SECONDS_MAX, self._held.seconds * LISTEN_SHARE)
        )

    def _keep(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._pool.ledger.record(held.task, held.answer, attempts=held.attempts, seconds=held.seconds)
            if self._child is not None and not held.is_proven:
                self._unproven.append(key_hash(held.task.key))

    def _refuse(self, child: Child) -> None:
        """A surplus line has come: the item before it fails."""
        held, self._held = self._held, None
        surplus = child.rest()
        if held is not None:
            output = with_stderr({"answer": held.answer.output, "surplus": shown(surplus)}, child.stderr)
            self._pool.ledger.fail(
                held.task, "printed more than one line", output, attempts=held.attempts, seconds=held.seconds
            )
        if holds_object(surplus):
            self._distrust()

    def _distrust(self) -> None:
        unproven, self._unproven = self._unproven, array("Q")
        self._pool.distrust(unproven)

    def _drop(self, *, grace_seconds: float = 0.0) -> int | None:
        """End the child; the next item gets a new one. Returns its exit code, None if it had to be ended."""
        child, self._child = self._child, None
        if child is None:
            return None
        by_itself = child.has_exited()
        code = self._pool.end_child(child, grace_seconds)
        return code if by_itself else None


def wait_for_line(pool: Pool, child: Child, deadline: float | None) -> bytes:
    """Return the next line of `child`; says once that a silent program may have to flush.

    Raises:
        TroubleError: none came in time, it is too long, or the child has ended.
    """
    hint_at: float | None = time.monotonic() + pool.options.silence_seconds
    while True:
        first = deadline if hint_at is None else hint_at if deadline is None else min(hint_at, deadline)
        try:
            return child.read_line(first)
        except ChildTimeoutError:
            if deadline is None or time.monotonic() < deadline:
                hint_at = None
                if not child.answered:
                    pool.hint_silence()
                continue
            message = f"no answer within {pool.options.timeout_seconds:g} s"
            raise TroubleError(message, shown(child.rest()) or None, may_pass=True) from None
        except TooLongError:
            raise TroubleError("printed a line of more than 64 MiB", shown(child.rest())) from None
        except ChildEndedError as error:
            child.wait_for_end(0.2)
            message = "closed its output before it answered"
            raise TroubleError(message, shown(child.rest()) or None, may_pass=True) from error
