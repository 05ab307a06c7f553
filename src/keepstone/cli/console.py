"""The console: everything that a command prints goes through here.

Layer: cli. Results go to standard output, everything said about them to standard error. A reader that goes
away (`| head`) mutes the console, and the command still does its work. Text from a store cannot
steer the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO

from keepstone.foundation.errors import StorageError

if TYPE_CHECKING:
    import argparse

    from keepstone.cli.progress import Progress


class Console:
    """Standard output and standard error of one command."""

    def __init__(self) -> None:
        self._muted: set[int] = set()
        self._progress: Progress | None = None
        _open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A name with an emoji must not end a listing on a terminal that has no UTF-8.
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    @property
    def is_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return sys.stdout.isatty()

    @property
    def is_muted(self) -> bool:
        """Whether the reader of standard output has gone away; long output may stop."""
        return id(sys.stdout) in self._muted

    def out(self, text: str = "") -> None:
        """Print a line (or several) to standard output."""
        self._write(sys.stdout, visible(text) + "\n")

    def error(self, text: str) -> None:
        """Print a line (or several) to standard error: problems, and remarks that are no result."""
        self._flush(sys.stdout)
        if self._progress is not None:
            self._progress.break_line()
        self._write(sys.stderr, visible(text) + "\n")

    def raw(self, data: bytes | memoryview) -> None:
        """Write `data` to standard output as it is."""
        self._flush(sys.stdout)
        self._write(sys.stdout.buffer, data)

    def json(self, value: object) -> None:
        """Print `value` (JSON types, structs, datetimes) as one JSON document."""
        import msgspec

        data = msgspec.json.encode(value, enc_hook=str)
        self._write(sys.stdout, msgspec.json.format(data, indent=2).decode() + "\n")

    def table(
        self, rows: Sequence[Sequence[object]], headers: Sequence[str], numbers: Sequence[str] = ()
    ) -> None:
        """Print `rows` under `headers`, aligned; the columns named in `numbers` are flushed right."""
        from keepstone.cli.tables import print_rich, render

        cells = [[visible(str(cell), lines=False) for cell in row] for row in rows]
        right = [header in numbers for header in headers]
        if not (self.is_terminal and not self.is_muted and print_rich(cells, headers, right)):
            self._write(sys.stdout, render(cells, headers, right))

    def progress(self, total: int, what: str) -> Progress:
        """Return a progress display on standard error for `total` items called `what`; use it in a `with`."""
        from keepstone.cli.progress import Progress

        self._progress = Progress(sys.stderr, total, what)
        return self._progress

    def store_path(self, arguments: argparse.Namespace, create: bool = False) -> str:
        """Return the path or URL of the store that is meant; without `create` there must be one.

        Raises:
            StoreNotFoundError: nothing is created, and there is no store at that path.
        """
        from keepstone.cli.location import check_exists, locate

        place = locate(getattr(arguments, "store", None), os.environ, Path.cwd())
        return place if create else check_exists(place)

    def finish(self) -> None:
        """Flush both streams; a reader that is gone is no error."""
        self._flush(sys.stdout)
        self._flush(sys.stderr)

    def _write(self, stream: TextIO | IO[bytes], data: str | bytes | memoryview) -> None:
        if id(sys.stdout) in self._muted and stream is not sys.stderr:
            return
        try:
            stream.write(data)  # type: ignore[arg-type]
        except OSError as error:
            self._failed(sys.stderr if stream is sys.stderr else sys.stdout, error)

    def _flush(self, stream: TextIO) -> None:
        try:
            stream.flush()
        except OSError as error:
            self._failed(stream, error)

    def _failed(self, stream: TextIO, error: OSError) -> None:
        self._mute(stream)
        if isinstance(error, BrokenPipeError) or stream is sys.stderr:
            return
        raise StorageError(
            f"cannot write to standard output: {error.strerror or error}",
            hint="what was printed is cut short; the store is as the command left it",
        ) from error

    def _mute(self, stream: TextIO) -> None:
        self._muted.add(id(stream))
        # The interpreter flushes at exit and would complain about what is still in the buffer.
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, stream.fileno())
        os.close(sink)


def _open_closed_streams() -> None:
    """Where the shell has closed a stream (`>&-`), let it lead nowhere: no file that is opened may take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def visible(text: str, *, lines: bool = True) -> str:
    """Return `text` with control characters written out; line ends and tabs stay if `lines`.

    Keys, messages and metadata are anybody's text: an escape sequence in them must not reach the terminal.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in kept or _is_joiner(c) else _escaped(c) for c in text)


def _is_joiner(character: str) -> bool:
    """Whether `character` only joins others, as inside an emoji."""
    return character in "\u200c\u200d"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
