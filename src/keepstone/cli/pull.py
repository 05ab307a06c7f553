"""`keepstone pull`: brings to this store what another one has and this one lacks.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli.exchanging import add_options, carry_out, open_here, options

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Bring to this store what the store OTHER has and this one lacks, in one commit, as `keepstone push` does the other way
round. Aliases that were moved in both stores stay as they are, and the exit code is 4."""
EXAMPLES = """\
keepstone pull other-store
keepstone pull other-store --select prompts/reader --lineage
keepstone pull s3://bucket/team --dry-run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_options(parser, creates=False)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Pull, and say what came."""
    with open_here(arguments, console, keeps=True) as store:
        return carry_out(store.plan_pull(arguments.other, **options(arguments)), arguments, console)
