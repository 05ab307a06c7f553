"""`keepstone checkout`: writes a version as a folder, or makes a folder into it.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.describe import amount, version_facts
from keepstone.cli.opening import open_to_look
from keepstone.cli.parser import add_at
from keepstone.foundation.errors import InvalidInputError

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Write the version that SELECTOR means as files to FOLDER, which is made, or is empty.
With --update FOLDER may hold another version: files that are equal stay as they are, what differs
is replaced, and what the version does not have is removed. What this store does not hold is never
replaced or removed, unless --force is given.
The files are copies; to change one changes nothing in the store. A link that leads out of FOLDER is
refused, unless --outside-links is given."""
EXAMPLES = """\
keepstone checkout data/train data
keepstone checkout data/train@v1 data --update
keepstone checkout data/train data --update --force    # give up what was changed there
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selector", metavar="SELECTOR", help="a name, name@v3, name@alias, name@2026-11-20 …")
    parser.add_argument("folder", metavar="FOLDER", help="where to write it")
    add_at(parser)
    parser.add_argument(
        "--update", action="store_true", help="FOLDER may hold files: make it into the version"
    )
    parser.add_argument(
        "--force", action="store_true", help="with --update: replace what is kept nowhere, too"
    )
    parser.add_argument(
        "--outside-links", action="store_true", help="write links that lead out of FOLDER, too"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write it."""
    if arguments.force and not arguments.update:
        raise InvalidInputError(
            "--force says what an update may do, and --update is not given",
            hint="add --update, or leave it out",
        )
    with open_to_look(arguments, console) as store:
        version = store.resolve(arguments.selector)
        version.checkout(
            arguments.folder,
            update=arguments.update,
            overwrite=arguments.force,
            outside_links=arguments.outside_links,
        )
        console.error(f"{version.selector} is in {arguments.folder} ({amount(version_facts(version))})")
    return exit_codes.OK
