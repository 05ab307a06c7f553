"""`keepstone clone`: a new store that holds all that another one holds.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli.exchanging import show
from keepstone.cli.location import require_online
from keepstone.cli.parser import add_json

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Make a new store in FOLDER, with an id of its own, that holds all that the store OTHER holds. `keepstone sync` keeps
the two together from then on. If it is cut off, the same command does the rest."""
EXAMPLES = """\
keepstone clone other-store copy
keepstone clone s3://bucket/team .keepstone
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("other", metavar="OTHER", help="folder or URL of the store to clone")
    parser.add_argument(
        "folder",
        nargs="?",
        default=".keepstone",
        metavar="FOLDER",
        help="the new store (default: .keepstone)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Clone it, and say what came."""
    import keepstone

    require_online(arguments, arguments.other, arguments.folder)
    with console.progress(0, "bytes") as progress:
        report = keepstone.clone(arguments.other, arguments.folder, progress=progress)
    return show(report, arguments, console)
