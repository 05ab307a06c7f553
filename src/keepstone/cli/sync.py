"""`keepstone sync`: pulls from another store, then pushes to it.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli.exchanging import add_options, carry_out, open_here, options

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Pull from the store OTHER, then push to it: both hold the same items, versions and aliases then. Numbers of versions
are each store's own. Aliases that were moved in both stores stay as they are, and the exit code is 4."""
EXAMPLES = """\
keepstone sync other-store
keepstone sync other-store --dry-run
keepstone sync s3://bucket/team --create
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_options(parser, creates=True)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Sync, and say what went which way."""
    with open_here(arguments, console, keeps=False) as store:
        return carry_out(store.plan_sync(arguments.other, **options(arguments)), arguments, console)
