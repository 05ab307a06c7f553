"""`keepstone undo`: takes back what one commit decided about names.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.formatting import moment, some
from keepstone.cli.opening import open_to_change
from keepstone.cli.parser import add_json

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Take back what the commit NUMBER decided about names: a version that it made is removed, what it removed is back, an
alias means what it meant. `keepstone history` shows the numbers. Nothing is changed where a name has moved since
(exit code 4). An undo is a commit itself, and can be undone."""
EXAMPLES = """\
keepstone undo 2
keepstone undo 3 --message "that was too early"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "number", type=int, metavar="NUMBER", help="the commit, as `keepstone history` shows it"
    )
    parser.add_argument("--message", "-m", default="", metavar="TEXT", help="why, for the history")
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Undo it and say what has changed."""
    with open_to_change(arguments, console) as store:
        entry = store.undo(arguments.number, message=arguments.message)
    if arguments.json:
        console.json({**entry._asdict(), "time": moment(entry.time)})
    else:
        console.out(f"commit {entry.number} undoes commit {arguments.number}: {some(entry.changes)}")
    return exit_codes.OK
