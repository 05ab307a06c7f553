"""`keepstone init`: makes a store.

Layer: cli.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.location import FOLDER, VARIABLE, is_url, require_online
from keepstone.cli.parser import add_json
from keepstone.foundation.errors import StoreNotFoundError

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Make a store: in PATH (a folder or a URL), else where --store or KEEPSTONE_STORE say, else in ./.keepstone.
A store that is there already is left as it is. In a bucket that overwrites what exists none is made, unless
--single-writer says that only one program at a time will ever write there; the store remembers it."""
EXAMPLES = """\
keepstone init                    # in ./.keepstone; commands in folders below find it
keepstone init runs               # in the folder runs
keepstone init s3://bucket/team   # in a bucket
keepstone init s3://bucket/mine --single-writer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="folder or URL of the new store")
    parser.add_argument(
        "--single-writer",
        action="store_true",
        help="of a bucket that cannot tell two writers apart: for one at a time",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make the store and say where it is."""
    import keepstone

    place = _place(arguments)
    require_online(arguments, place)
    try:
        keepstone.open(place, create=False).close()
        is_new = False
    except StoreNotFoundError:
        keepstone.open(place, create=True, single_writer=arguments.single_writer).close()
        is_new = True
    if arguments.json:
        console.json({"store": place, "created": is_new})
    elif is_new:
        console.out(f"the store is at {place}")
    else:
        console.out(f"there is a store at {place} already; nothing changed")
    return exit_codes.OK


def _place(arguments: argparse.Namespace) -> str:
    if arguments.path is not None:
        return (
            arguments.path if is_url(arguments.path) else os.path.abspath(os.path.expanduser(arguments.path))
        )
    # Not the nearest one upwards: who says init here wants one here.
    return arguments.store or os.environ.get(VARIABLE) or os.path.abspath(FOLDER)
