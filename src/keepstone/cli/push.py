"""`keepstone push`: brings to another store what this one has and it lacks.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli.exchanging import add_options, carry_out, open_here, options

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Bring to the store OTHER what this store has and it lacks, in one commit. Items are merged key by key, versions are
added (under the next numbers where the name is there already), aliases follow unless they were moved there as well:
then both stay, and the exit code is 4. Cut off, it is cheap to repeat; with nothing new it costs a read or two."""
EXAMPLES = """\
keepstone push ../shared --create
keepstone push ../shared --select models/ --select answers/gsm8k --create
keepstone push s3://bucket/team --dry-run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_options(parser, creates=True)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Push, and say what was brought."""
    with open_here(arguments, console, keeps=False) as store:
        return carry_out(store.plan_push(arguments.other, **options(arguments)), arguments, console)
