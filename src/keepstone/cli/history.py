"""`keepstone history`: who changed what, and when.

Layer: cli.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.formatting import moment, some
from keepstone.cli.opening import open_to_look
from keepstone.cli.parser import add_at, add_json

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Show the commits of the store, or those that concern NAME, the newest first.
Of a commit of many changes the first five are shown; --json has all."""
EXAMPLES = """\
keepstone history
keepstone history models/email --limit 5
keepstone history --at 3
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="only what concerns this name")
    parser.add_argument(
        "--limit", "-n", type=count, default=20, metavar="N", help="how many (default 20; 0 for all)"
    )
    add_at(parser)
    add_json(parser)


def count(text: str) -> int:
    """Return `text` as a number from 0."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the commits."""
    with open_to_look(arguments, console) as store:
        entries = list(itertools.islice(store.history(arguments.name), arguments.limit or None))
        if arguments.name is not None and not entries:
            # Nothing was ever decided about it: mostly a name that is spelled otherwise, which this says.
            store.versions(arguments.name)
    if arguments.json:
        console.json([{**entry._asdict(), "time": moment(entry.time)} for entry in entries])
        return exit_codes.OK
    rows = [
        (entry.number, moment(entry.time), entry.writer[:8], some(entry.changes), entry.message)
        for entry in entries
    ]
    console.table(rows, ["commit", "time", "writer", "changes", "message"], numbers=["commit"])
    return exit_codes.OK
