"""The parser of one command: argparse whose mistakes are our errors.

Layer: cli. Raises instead of exiting, says what was probably meant, accepts no abbreviations.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import NoReturn

from keepstone.cli.commands import Command
from keepstone.foundation.errors import InvalidInputError


class CommandParser(argparse.ArgumentParser):
    """Parses one command's arguments; a mistake is an `InvalidInputError`, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise InvalidInputError(message, hint=f"see `{self.prog} --help`")

    def parse_args(self, args: Sequence[str], namespace: argparse.Namespace) -> argparse.Namespace:  # type: ignore[override]
        """Return `namespace`, filled; an unknown option is answered with the nearest known one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            problem = f"unknown argument{'s' if len(unknown) > 1 else ''}: {' '.join(unknown)}"
            option = unknown[0].partition("=")[0]
            raise InvalidInputError(problem, hint=self._hint(option))
        return parsed

    def _hint(self, option: str) -> str:
        near = nearest(option, self.option_strings()) if option.startswith("-") else ""
        if near:
            return f"did you mean {near}? see `{self.prog} --help`"
        if option.startswith("-"):
            return f"see `{self.prog} --help`; before a name that begins with '-' write --"
        return f"see `{self.prog} --help`"

    def option_strings(self) -> list[str]:
        """Return every option, as it is typed."""
        return sorted(self._option_string_actions)

    def actions(self) -> list[argparse.Action]:
        """Return the declared arguments, in order."""
        return list(self._actions)


def parser_for(command: Command) -> CommandParser:
    """Return the parser of `command`; this imports its module."""
    module = command.load()
    parser = CommandParser(
        prog=f"keepstone {command.name}",
        description=_fitted(module.HELP.strip(), shutil.get_terminal_size((120, 24)).columns),
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(module.EXAMPLES).strip("\n"), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    common = parser.add_argument_group("everywhere")
    # Suppressed defaults let what was given before the command's name stand.
    common.add_argument(
        "--store",
        default=argparse.SUPPRESS,
        metavar="PLACE",
        help="folder or URL of the store (else KEEPSTONE_STORE, else the nearest .keepstone upwards)",
    )
    common.add_argument(
        "--offline",
        action="store_true",
        default=argparse.SUPPRESS,
        help="of a store at a URL use only what was read here before",
    )
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    return parser


def _fitted(text: str, columns: int) -> str:
    """Return `text` as it stands, or with its paragraphs broken anew where the terminal is too narrow for a line."""
    if max(map(len, text.splitlines())) < columns:
        return text
    return "\n\n".join(textwrap.fill(paragraph, columns - 1) for paragraph in text.split("\n\n"))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, the same on every command."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add `--dry-run`, the same on every command."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")


def add_at(parser: argparse.ArgumentParser) -> None:
    """Add `--at`, the same on every command that only reads; `opening.open_to_look` heeds it."""
    parser.add_argument(
        "--at",
        metavar="WHEN",
        help="as it was then: 2026-11-20 (the end of that day, UTC), 2026-11-20T18:00Z, or the number of a commit",
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is spelled most like `word`, or an empty string."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""
