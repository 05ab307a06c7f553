"""`keepstone`: finds the command, runs it, and turns every end into a line and an exit code.

Layer: cli. A command's module is imported only when it is called; `--help` and `--version` import none.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from keepstone.cli import exit_codes
from keepstone.cli.commands import COMMANDS, GROUPS, Command
from keepstone.cli.console import Console
from keepstone.cli.location import may_name_url
from keepstone.foundation.errors import InvalidInputError, KeepstoneError

if TYPE_CHECKING:
    import argparse

_INTRODUCTION = """\
usage: keepstone [--store PLACE] [--offline] [--debug] COMMAND ...

Keepstone keeps what an ML or LLM project makes: results, prompts, models, analyses.
Every version stays, equal content is stored once, and interrupted work goes on where it stopped."""

_OPTIONS = """\
options:
  --store PLACE  folder or URL of the store (else KEEPSTONE_STORE, else the nearest .keepstone upwards)
  --offline      of a store at a URL use only what was read here before
  --debug        show the traceback of an error
  --version      print the version
  --help         this text; `keepstone COMMAND --help` has the details and examples

examples:
  keepstone demo                            # see it work, 20 seconds, no network
  keepstone save models/email model.bin
  keepstone load models/email@v1 old.bin"""


class Line(NamedTuple):
    """A command line, cut at its command."""

    options: dict[str, object]
    """What stood before the command: `store`, `offline`, `debug`, `help`, `version`."""
    command: str
    """Empty if none was given."""
    rest: list[str]


def main(argv: list[str] | None = None) -> int:
    """Run one command line (`sys.argv` by default, in a process of its own) and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if argv is None:
        # All memory goes with the process. Python would look through it for garbage first, which takes as long as a
        # small command, and a third of what it takes to ask a bucket once.
        atexit.register(gc.freeze)
    console = Console()
    try:
        code = _dispatch(words, console)
    except SystemExit as end:  # argparse, behind --help
        code = end.code if isinstance(end.code, int) else exit_codes.OK
    except BaseException as error:  # the one place where every end becomes an exit code
        code = _report(error, words, console)
    try:
        console.finish()
    except KeepstoneError as error:
        # What was still to be printed could not be: that is the end of the command, unless it had failed before.
        code = _report(error, words, console) if code == exit_codes.OK else code
    return code


def _dispatch(words: list[str], console: Console) -> int:
    line = split(words)
    if line.options.get("version"):
        console.out(f"keepstone {version()}")
        return exit_codes.OK
    if line.options.get("help") or line.command == "help":
        if line.rest and line.rest[0] in COMMANDS:
            return _dispatch([line.rest[0], "--help"], console)
        console.out(overview())
        return exit_codes.OK
    if not line.command:
        console.error(overview())
        return exit_codes.USAGE
    command = COMMANDS.get(line.command)
    if command is None:
        raise _unknown(line.command)
    arguments = _parse(command, line)
    if may_name_url(words, os.environ):
        from keepstone.cli.waiting import tell_of_waiting

        tell_of_waiting(console)
    return command.load().run(arguments, console)


def split(words: list[str]) -> Line:
    """Return `words` cut at the command's name.

    Raises:
        InvalidInputError: an unknown option stands before the command.
    """
    options: dict[str, object] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("--offline", "--debug", "--version", "--help"):
            options[word[2:]] = True
        elif word == "-h":
            options["help"] = True
        elif word.startswith("--store="):
            options["store"] = word.removeprefix("--store=")
        elif word == "--store" and rest:
            options["store"] = rest.pop(0)
        elif word == "--store":
            raise InvalidInputError("--store needs a folder or a URL", hint="see `keepstone --help`")
        else:
            hint = "options of a command stand behind its name; see `keepstone --help`"
            raise InvalidInputError(f"unknown option before the command: {word}", hint=hint)
    return Line(options, rest[0] if rest else "", rest[1:])


def _parse(command: Command, line: Line) -> argparse.Namespace:
    import argparse

    from keepstone.cli.parser import parser_for

    options = line.options
    namespace = argparse.Namespace(
        store=options.get("store"), offline=bool(options.get("offline")), debug=bool(options.get("debug"))
    )
    rest = line.rest
    if command.takes_program:
        cut = rest.index("--") if "--" in rest else len(rest)
        rest, namespace.program = rest[:cut], rest[cut + 1 :]
    return parser_for(command).parse_args(rest, namespace)


def _unknown(word: str) -> InvalidInputError:
    from keepstone.cli.parser import nearest

    near = nearest(word, COMMANDS)
    meant = f"did you mean `keepstone {near}`?" if near else "`keepstone --help` lists the commands"
    return InvalidInputError(f"no command {word!r}", hint=meant)


def overview() -> str:
    """Return the text of `keepstone --help`."""
    width = max(map(len, COMMANDS))
    parts = [_INTRODUCTION]
    for title, commands in GROUPS:
        parts.append("\n".join([f"{title}:", *(f"  {c.name:<{width}}  {c.summary}" for c in commands)]))
    return "\n\n".join([*parts, _OPTIONS])


def version() -> str:
    """Return the installed version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("keepstone")
    except PackageNotFoundError:
        return "(not installed)"


def _report(error: BaseException, words: list[str], console: Console) -> int:
    """Print what went wrong and return the exit code."""
    code = exit_codes.exit_code(type(error))
    own = words[: words.index("--")] if "--" in words else words
    if "--debug" in own:
        import traceback

        console.error("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, KeyboardInterrupt):
        console.error("keepstone: interrupted")
    elif isinstance(error, KeepstoneError):
        console.error(f"keepstone: {error}" + (f"\n  hint: {error.hint}" if error.hint else ""))
    elif isinstance(error, OSError):
        console.error(f"keepstone: {_foreign(error)}")
    else:
        text = " ".join(str(error).split())
        kind = type(error).__name__
        console.error(f"keepstone: a bug in keepstone {version()}: {kind}" + (f": {text}" if text else ""))
        console.error(f"  hint: to report it, send what the same command prints with --debug {_reports_to()}")
    return code


def _foreign(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    paths = " and ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    return f"{reason}: {paths}" if paths else reason


def _reports_to() -> str:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        links = metadata("keepstone").get_all("Project-URL") or []
    except PackageNotFoundError:
        links = []
    for link in links:
        label, _, address = str(link).partition(", ")
        if label.lower() in ("issues", "bug tracker"):
            return f"to {address}"
    return "to its authors, with `keepstone --version` and your system"
