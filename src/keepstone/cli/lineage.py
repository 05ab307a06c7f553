"""`keepstone lineage`: what a version was made from, or what was made from it.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.opening import open_to_read
from keepstone.cli.parser import add_json

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Show what the version that SELECTOR means was made from; with --down, what was made from it. SELECTOR may be a
digest, also of a version that is not in this store."""
EXAMPLES = """\
keepstone lineage models/email@prod
keepstone lineage prompts/reader --down      # which results used this version of the prompt
keepstone lineage models/email --depth 1 --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selector", metavar="SELECTOR", help="such as models/email@v1, or a digest")
    direction = parser.add_mutually_exclusive_group()
    direction.add_argument("--up", action="store_true", help="what it was made from (the default)")
    direction.add_argument("--down", action="store_true", help="what was made from it")
    parser.add_argument("--depth", type=int, metavar="N", help="how many steps far (default: all)")
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the tree."""
    with open_to_read(arguments, console) as store:
        found = store.lineage(
            arguments.selector, direction="down" if arguments.down else "up", depth=arguments.depth
        )
    if arguments.json:
        facts = [{name: getattr(node, name) for name in node.__struct_fields__} for node in found.nodes]
        console.json({"direction": found.direction, "nodes": facts})
    else:
        console.out(str(found))
    return exit_codes.OK
