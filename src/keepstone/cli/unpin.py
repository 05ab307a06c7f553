"""`keepstone unpin`: takes the protection of a lock away.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.opening import open_to_change
from keepstone.cli.parser import add_json
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Let garbage collection have what the lock file LOCK names, unless something else still needs it. The file itself
stays. LOCK may be gone already; or it is the id of a pin, as `keepstone list --pins` shows it."""
EXAMPLES = """\
keepstone unpin                                      # what keepstone.lock names
keepstone pin models/email --lock paper.lock
keepstone unpin paper.lock
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "lock",
        nargs="?",
        default="keepstone.lock",
        metavar="LOCK",
        help="path of the lock file, or the id of a pin (default: keepstone.lock)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Take it away and say what was pinned."""
    with open_to_change(arguments, console) as store:
        pin = store.unpin(arguments.lock)
    if arguments.json:
        console.json({"id": pin.id, "path": pin.path, "names": [name.selector for name in pin.names]})
    else:
        console.out(f"unpinned {plural(len(pin.names), 'version')} of {pin.path}")
    return exit_codes.OK
