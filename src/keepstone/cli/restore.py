"""`keepstone restore`: brings what a lock names into a store.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.location import require_online
from keepstone.cli.opening import open_to_keep
from keepstone.cli.parser import add_json
from keepstone.foundation.errors import StoreNotFoundError
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Bring exactly what LOCK names into a store, from a copy of the store where it was pinned or from a bundle; LOCK may be
a bundle itself. Every byte is compared with its digest before anything is kept. A store is made if there is none.
What is here already is not copied, so an interrupted restore is cheap to repeat."""
EXAMPLES = """\
keepstone restore keepstone.lock --from .keepstone --to elsewhere
keepstone restore paper.bundle --to another
keepstone restore keepstone.lock --from paper.bundle --to elsewhere
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "lock",
        nargs="?",
        default="keepstone.lock",
        metavar="LOCK",
        help="a lock file, or a bundle (default: keepstone.lock)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="a copy of the store, or a bundle (default: the store that the lock names)",
    )
    parser.add_argument("--to", metavar="STORE", help="the store to bring it into; as --store")
    add_json(parser)


def _check_before_making(arguments: argparse.Namespace, console: Console) -> None:
    """Raise for a lock or source that is not there or no good, before a store is made for them."""
    from keepstone.cli.location import check_exists
    from keepstone.operations.restore import check_restorable

    try:
        check_exists(console.store_path(arguments, create=True))
    except StoreNotFoundError:
        check_restorable(arguments.lock, arguments.source)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Restore it and say what is where."""
    if arguments.to is not None:
        arguments.store = arguments.to
    require_online(arguments, arguments.source)
    _check_before_making(arguments, console)
    with open_to_keep(arguments, console) as store:
        with console.progress(0, "bytes") as progress:
            report = store.restore(arguments.lock, source=arguments.source, progress=progress)
        where = store.location
    if arguments.json:
        console.json({"names": [name._asdict() for name in report.names], "commit": report.commit})
        return exit_codes.OK
    for name in report.names:
        was = "" if name.selector == name.locked else f"  (pinned as {name.locked})"
        console.out(f"{name.selector}  {name.digest}{was}")
    fresh = sum(name.created_new for name in report.names)
    if report.commit is None:
        console.out(
            f"nothing to restore: {plural(len(report.names), 'version')} of the lock, all in {where} already"
        )
    else:
        console.out(f"restored {plural(fresh, 'version')} of {len(report.names):,} into {where}")
    return exit_codes.OK
