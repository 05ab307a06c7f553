"""`keepstone bundle`: a lock and all that it names, as one file.

Layer: cli.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.formatting import size
from keepstone.cli.opening import open_to_read
from keepstone.cli.parser import add_json

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Write the lock file LOCK, and all that it names, as the one file FILE, to hand on or to keep. `keepstone restore FILE`
brings it into any store, `keepstone verify FILE` checks it. Equal content gives an equal file."""
EXAMPLES = """\
keepstone bundle keepstone.lock handed.bundle
keepstone bundle keepstone.lock handed.bundle --force
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("lock", metavar="LOCK", help="a lock file")
    parser.add_argument("file", metavar="FILE", help="the bundle to write")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write it and say how large it is."""
    with open_to_read(arguments, console) as store:
        store.bundle(arguments.lock, arguments.file, replace=arguments.force)
    count = os.stat(arguments.file).st_size
    if arguments.json:
        console.json({"lock": arguments.lock, "file": arguments.file, "size_bytes": count})
    else:
        console.out(f"bundled {arguments.lock} as {arguments.file}, {size(count)}")
    return exit_codes.OK
