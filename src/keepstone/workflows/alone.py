"""A child for one item alone.

Layer: workflows. Exact for every program: its whole output is seen before it counts. An unfinished last line
counts too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keepstone.workflows.child import Child, ChildEndedError
from keepstone.workflows.record import Answer
from keepstone.workflows.stream import wait_for_line
from keepstone.workflows.task import Task
from keepstone.workflows.trouble import TroubleError, exit_text, shown, with_stderr

if TYPE_CHECKING:
    from keepstone.workflows.filters import Pool


def ask_alone(pool: Pool, task: Task) -> tuple[Answer, bool]:
    """Start the program for `task`; return its answer, and whether it repeats the key.

    Raises:
        TroubleError: no line, more than one, another exit code than 0, or not in time.
    """
    child = pool.start_child()
    deadline = pool.deadline()
    is_ended = False
    try:
        child.write(task.line + b"\n")
        line = _whole_output(pool, child, deadline)
        code = pool.end_child(child)
        is_ended = True
        if code:
            raise TroubleError(exit_text(code), shown(line) or None, may_pass=True)
        if not line:
            raise TroubleError("ended without an answer", may_pass=True)
        return pool.read(task, line)
    except TroubleError as trouble:
        trouble.output = with_stderr(trouble.output, child.stderr)
        raise
    finally:
        if not is_ended:
            pool.end_child(child)


def _whole_output(pool: Pool, child: Child, deadline: float | None) -> bytes:
    """Return the only line that `child` printed until it ended; empty if there is none."""
    while not child.has_sent_all and not child.is_at_end():
        if not child.step(deadline):
            seconds = pool.options.timeout_seconds
            raise TroubleError(f"did not read its line within {seconds:g} s", may_pass=True)
    child.close_input()
    lines: list[bytes] = []
    while len(lines) < 2:
        try:
            lines.append(wait_for_line(pool, child, deadline))
        except TroubleError as trouble:
            if not isinstance(trouble.__cause__, ChildEndedError):
                raise
            break
    if child.rest():
        lines.append(child.rest())
    if len(lines) > 1:
        raise TroubleError("printed more than one line", shown(b"\n".join(lines)))
    if not child.wait_for_exit(pool.options.exit_grace_seconds):
        raise TroubleError("closed its output and did not end", shown(b"\n".join(lines)) or None)
    return lines[0] if lines else b""
