"""A bar in front of a person, lines in a log."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

from keepstone.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_log_gets_a_line_every_ten_seconds_and_a_last_one() -> None:
    log, now = io.StringIO(), Time()
    with Progress(log, 400, "answers", now) as progress:
        for _ in range(25):
            now.seconds += 1
            progress.advance(16)

    assert log.getvalue().splitlines() == [
        "160 of 400 answers  16.0/s  15 s left",
        "320 of 400 answers  16.0/s  5 s left",
        "400 of 400 answers  16.0/s",
    ]


def test_short_work_leaves_a_log_alone() -> None:
    log, now = io.StringIO(), Time()
    with Progress(log, 3, "answers", now) as progress:
        progress.advance(3)

    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar_that_is_drawn_over() -> None:
    terminal, now = Terminal(), Time()
    with Progress(terminal, 4, "files", now) as progress:
        now.seconds = 1
        progress.advance(2, note="a rather long remark")
        now.seconds = 2
        progress.set(4, note="x")

    drawn = terminal.getvalue()
    assert drawn.startswith(
        "\r[############............] 2 of 4 files  2.0/s  1 s left  a rather long remark\r[####"
    )
    assert "\n" not in drawn[:-1]
    assert drawn.endswith("\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    class Broken(Terminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    now = Time()
    with Progress(Broken(), 0, "files", now) as progress:
        now.seconds = 1
        progress.advance()
        now.seconds = 2
        progress.advance()

    assert progress.done == 2


def test_a_remark_stands_under_the_bar_and_the_bar_goes_on_below() -> None:
    terminal, now = Terminal(), Time()
    with Progress(terminal, 4, "files", now) as progress:
        now.seconds = 1
        progress.advance(2)
        progress.break_line()
        progress.break_line()
        terminal.write("a remark\n")
        now.seconds = 2
        progress.advance(2)
    progress.break_line()

    shown = [line.strip() for line in terminal.getvalue().split("\n")]
    assert shown[0].endswith("2 of 4 files  2.0/s  1 s left")
    assert shown[1] == "a remark"
    assert shown[2].endswith("4 of 4 files  2.0/s")
    assert shown[3:] == [""]


def test_bytes_are_said_in_units_and_no_line_is_longer_than_the_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 34, 0, 0))
    log, now = io.StringIO(), Time()
    with (
        open(theirs, "w", encoding="utf-8") as terminal,
        Progress(terminal, 3 << 20, "bytes", now) as narrow,
        Progress(log, 3 << 20, "bytes", now) as logged,
    ):
        now.seconds = 10
        for progress in (narrow, logged):
            progress.advance(1 << 20, note="of the second pack")
        drawn = os.read(ours, 1000).decode()
    os.close(ours)

    assert log.getvalue().startswith("1.00 MiB of 3.00 MiB  102 KiB/s  20 s left  of the second pack\n")
    assert drawn == "\r1.00 MiB of 3.00 MiB  102 KiB/s  "
