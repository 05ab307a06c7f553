"""One child process and its three pipes: bytes in, lines out, never stuck.

Layer: workflows. POSIX. Every wait watches all pipes at once, so neither side can block the other. A child
runs in a session of its own: Ctrl-C does not reach it, and its whole process group is ended with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from keepstone.foundation.errors import InvalidInputError

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
STDERR_BYTES_KEPT: Final = 4 * 1024
_READ_BYTES: Final = 256 * 1024
_WRITE_BYTES: Final = 64 * 1024
_STEP_SECONDS_MAX: Final = 0.1
"""How long a wait lasts at most before the child is looked at again: a grandchild may hold its pipes open."""
_DRAIN_STEPS: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001)


class ChildEndedError(Exception):
    """The child is gone, or has closed its output, before it answered."""


class TooLongError(Exception):
    """The child wrote more than a line may hold."""


class ChildTimeoutError(Exception):
    """Nothing came in time."""


class Child:
    """A started program."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, line_bytes_max: int = LINE_BYTES_MAX
    ) -> None:
        self.answered = 0
        """Lines that were accepted as answers."""
        self._line_bytes_max = line_bytes_max
        self._buffer = bytearray()
        self._searched = 0
        self._errors = bytearray()
        self._outgoing = memoryview(b"")
        self._in_open = self._out_open = True
        self._start(command, environment)

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        import select

        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=read_end,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=dict(environment),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            os.close(read_end)
            os.close(write_end)
            raise InvalidInputError(
                f"program {command[0]!r} cannot be started: {error}", hint="check that it runs by itself"
            ) from error
        self._in = write_end
        # Elsewhere the bytes that wait in a pipe can only be counted at its reading end.
        self._counted = write_end if sys.platform == "linux" else os.dup(read_end)
        os.close(read_end)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out = self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        self._poll = select.poll()
        self._readable = select.POLLIN | select.POLLHUP | select.POLLERR
        self._writable = select.POLLOUT
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
        self._poll.register(self._out, self._readable)
        self._poll.register(self._err, self._readable)

    # ---- talking -------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send `data`; what does not fit into the pipe goes out during the next waits."""
        if self._in_open:
            self._outgoing = memoryview(data)
            self._write_some()

    def close_input(self) -> None:
        """Let the child read the end of its input."""
        if self._in_open:
            self._in_open = False
            if len(self._outgoing):
                self._poll.unregister(self._in)
            self._outgoing = memoryview(b"")
            if self._counted != self._in:
                os.close(self._counted)
            os.close(self._in)

    @property
    def has_sent_all(self) -> bool:
        """Whether nothing waits to be sent, or nobody is there to read it."""
        return not self._in_open or not len(self._outgoing)

    def has_read_all(self) -> bool:
        """Whether the child has read every byte that was sent."""
        import fcntl
        import termios

        if not self._in_open:
            return False
        count = bytearray(4)
        fcntl.ioctl(self._counted, termios.FIONREAD, count)
        return not len(self._outgoing) and int.from_bytes(count, sys.byteorder) == 0

    def _is_deaf(self) -> bool:
        """Whether the child has closed its input."""
        import select

        poll = select.poll()
        poll.register(self._in, 0)
        return bool(poll.poll(0))

    def read_line(self, deadline: float | None) -> bytes:
        """Return the next line without its end.

        Raises:
            ChildEndedError, TooLongError, ChildTimeoutError: there is none.
        """
        while True:
            line = self.take_line()
            if line is not None:
                return line
            if self.is_at_end():
                raise ChildEndedError
            if not self.step(deadline):
                raise ChildTimeoutError

    def take_line(self) -> bytes | None:
        """Return a line that is here already, without its end; None if there is none.

        Raises:
            TooLongError: what is here is longer than a line may be.
        """
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
        if (end if end >= 0 else len(self._buffer)) > self._line_bytes_max:
            raise TooLongError
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def rest(self) -> bytes:
        """Return what was received and not taken."""
        return bytes(self._buffer)

    def step(self, deadline: float | None, seconds_max: float = _STEP_SECONDS_MAX) -> bool:
        """Wait for the child a moment and move what can be moved; False once `deadline` (monotonic) has
        passed."""
        wait = seconds_max
        if deadline is not None:
            wait = min(wait, deadline - time.monotonic())
        for descriptor, event in self._poll.poll(max(wait, 0.0) * 1000):
            if descriptor == self._in:
                self._write_some()
            elif event & self._readable:
                self._read_some(descriptor)
        return deadline is None or time.monotonic() < deadline

    def wait_until_read(self, deadline: float | None) -> bool:
        """Wait until the child has read all that was sent; False as soon as it says or closes something
        instead."""
        for turn in range(1_000_000_000):
            self.step(deadline, 0.0)
            if self._buffer or not self._out_open or not self._in_open:
                return False
            if self._is_deaf():
                return False
            if self.has_read_all():
                # What the child wrote before it read is in the pipe by now.
                self.step(deadline, 0.0)
                return not self._buffer
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if turn < 50:
                time.sleep(_DRAIN_STEPS[turn // 10])
            else:
                self.step(deadline, 0.002 if turn < 500 else 0.02)
        return False

    def is_quiet(self, seconds: float) -> bool:
        """Wait `seconds` and return whether nothing came; False at once if something did."""
        deadline = time.monotonic() + seconds
        while not self._buffer and self._out_open and self.step(deadline):
            pass
        return not self._buffer

    # ---- ending --------------------------------------------------------------------------------------------

    def is_at_end(self) -> bool:
        """Whether no more output can come: the pipe is closed, or the child is gone and the pipe is empty."""
        if not self._out_open:
            return True
        if not self.has_exited():
            return False
        before = len(self._buffer)
        self.step(time.monotonic())
        # A grandchild may hold the pipe open for ever; what it writes later is nobody's answer.
        return len(self._buffer) == before

    def has_exited(self) -> bool:
        """Whether the process is gone; it is not reaped, so that its group's number stays taken."""
        if self._process.returncode is not None:
            return True
        if hasattr(os, "waitid"):
            try:
                return (
                    os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
                )
            except ChildProcessError:
                # Where SIGCHLD is ignored the system reaps children itself.
                return True
        return self._process.poll() is not None

    def wait_for_exit(self, seconds: float) -> bool:
        """Wait until the process is gone, reading on; False if it is still there after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.has_exited():
            if not self._out_open:
                time.sleep(0.002)
            if not self.step(deadline, 0.02):
                return self.has_exited()
        return True

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the process is gone and all that it said is here; False if it is still there, or says
        something."""
        deadline = time.monotonic() + seconds
        while not self._buffer:
            if self.has_exited() and self.is_at_end():
                return not self._buffer
            if time.monotonic() >= deadline:
                return False
            self.wait_for_exit(min(0.02, seconds))
        return False

    def end(self, grace_seconds: float = 0.0) -> int:
        """End the child with its whole process group and return its exit code (negative: the signal).

        With a grace it is asked by SIGTERM first.
        """
        self.close_input()
        if grace_seconds and not self.has_exited():
            self._signal(signal.SIGTERM)
            self.wait_for_exit(grace_seconds)
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        self.step(time.monotonic(), 0.0)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return code

    def kill(self) -> None:
        """Kill the process group at once, from any thread; `end` must still follow."""
        self._signal(signal.SIGKILL)

    @property
    def stderr(self) -> str:
        """The last 4 KiB of what the child wrote to standard error."""
        return self._errors.decode("utf-8", "replace")

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    # ---- moving bytes --------------------------------------------------------------------------------------

    def _write_some(self) -> None:
        try:
            while len(self._outgoing):
                sent = os.write(self._in, self._outgoing[:_WRITE_BYTES])
                self._outgoing = self._outgoing[sent:]
        except BlockingIOError:
            self._poll.register(self._in, self._writable)
            return
        except BrokenPipeError:
            # The child reads no more; whether it still answers is for its output to say.
            self._outgoing = memoryview(b"")
        try:
            self._poll.unregister(self._in)
        except KeyError:
            pass

    def _read_some(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._poll.unregister(descriptor)
            if descriptor == self._out:
                self._out_open = False
        elif descriptor == self._out:
            self._buffer += data
        else:
            self._errors += data
            del self._errors[:-STDERR_BYTES_KEPT]
