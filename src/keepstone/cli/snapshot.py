"""`keepstone snapshot`: keeps what a collection holds now as a version.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.describe import version_facts
from keepstone.cli.opening import open_to_change
from keepstone.cli.parser import add_json
from keepstone.cli.save import parse_metadata
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Keep what the collection NAME holds now as the next version of NAME, which never changes.
What equals the newest snapshot makes no new one. Only what changed since takes room."""
EXAMPLES = """\
keepstone snapshot answers/gsm8k --alias submitted --message "as in the paper"
keepstone load answers/gsm8k@submitted --key q17
keepstone load answers/gsm8k@v1 answers.jsonl          # all items, one JSON object a line
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a collection, such as answers/gsm8k")
    parser.add_argument("--message", "-m", default="", metavar="TEXT", help="why, for the history")
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a fact to keep beside it; VALUE is JSON or text; or a whole JSON object; can be repeated",
    )
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="ALIAS",
        help="a word for this version; can be repeated",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Take it and say which version it is."""
    with open_to_change(arguments, console) as store:
        version = store.collection(arguments.name).snapshot(
            message=arguments.message, metadata=parse_metadata(arguments.metadata), aliases=arguments.alias
        )
    facts = version_facts(version)
    if arguments.json:
        console.json({**facts, "created_new": version.created_new})
    elif version.created_new:
        console.out(f"{version.selector}  {plural(facts['items'], 'item')}  {version.digest}")
    else:
        console.out(f"{version.selector} is the same already; no new version")
    return exit_codes.OK
