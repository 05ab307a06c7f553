"""`keepstone pin`: writes a lock file, and protects what it names.

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
Write a lock file: what each SELECTOR means now, by digest, one line each, made to be kept in git. What it names is
protected from garbage collection until `keepstone unpin`. A collection is pinned as a snapshot of what it holds.
Pinning again replaces the lock and its protection. On a store that can only be read, just the file is written."""
EXAMPLES = """\
keepstone pin models/email@prod prompts/reader
keepstone pin models/email --lock paper.lock --remote s3://bucket/team
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "selectors", nargs="+", metavar="SELECTOR", help="what to pin, such as models/email@prod"
    )
    parser.add_argument(
        "--lock", default="keepstone.lock", metavar="FILE", help="the lock file (default: keepstone.lock)"
    )
    parser.add_argument(
        "--remote",
        action="append",
        metavar="URL",
        help="where a copy of the store is, for the lock to say; credentials are left out; can be repeated",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write the lock and say what is in it."""
    # Opened as if to write: where that is not permitted it can be read, and pinning writes the file alone.
    with open_to_change(arguments, console) as store:
        pinned = store.pin(arguments.selectors, arguments.lock, remotes=arguments.remote)
    if arguments.json:
        names = [{"selector": n.selector, "digest": str(n.digest), "kind": n.kind} for n in pinned.lock.names]
        console.json({"lock": pinned.path, "protected": pinned.protected, "names": names})
        return exit_codes.OK
    for name in pinned.lock.names:
        console.out(f"{name.selector}  {name.digest}")
    console.out(f"pinned {plural(len(pinned.lock.names), 'version')} in {pinned.path}")
    if not pinned.protected:
        console.error("the store can only be read: garbage collection does not know of this lock")
    return exit_codes.OK
