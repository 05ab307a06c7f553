"""`keepstone diff`: what differs between two versions.

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
Show what differs between the versions A and B: texts by line, JSON by place, folders by file, other content by size
and digest; and metadata and parents. The exit code is 0 also where they differ, unless --exit-code is given."""
EXAMPLES = """\
keepstone diff models/email@v1 models/email
keepstone diff models/email@v1 models/email@prod --json
keepstone diff data/train data/train@v1 --text      # with the lines of its files
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("a", metavar="A", help="a selector such as models/email@v1")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument("--text", action="store_true", help="of folders: show the lines of short text files")
    parser.add_argument("--exit-code", action="store_true", help="end with 9 where they differ")
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the differences."""
    with open_to_read(arguments, console) as store:
        found = store.diff(arguments.a, arguments.b, texts=arguments.text)
    if arguments.json:
        facts = {name: getattr(found, name) for name in found.__struct_fields__}
        for name in ("changes", "metadata"):
            facts[name] = [{**change._asdict(), "place": change.place} for change in facts[name]]
        facts["parts"] = [part._asdict() for part in found.parts]
        console.json({"equal": found.equal, **facts})
    else:
        console.out(str(found))
    return exit_codes.DIFFERENT if found and arguments.exit_code else exit_codes.OK
