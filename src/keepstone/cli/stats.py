"""`keepstone stats`: how much is in the store, and what it takes.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.formatting import size
from keepstone.cli.opening import open_to_read
from keepstone.cli.parser import add_json
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
Say how much is in the store, and how much room it takes."""
EXAMPLES = """\
keepstone stats
keepstone stats --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the numbers."""
    with open_to_read(arguments, console) as store:
        facts = store.stats()
    if arguments.json:
        console.json({**facts._asdict(), "total_bytes": facts.total_bytes})
        return exit_codes.OK
    names = f"{plural(facts.artifacts, 'artifact')} ({plural(facts.versions, 'version')})"
    items = f"{plural(facts.collections, 'collection')} ({plural(facts.entries, 'item')})"
    published = f"{plural(facts.packs, 'pack')} {size(facts.pack_bytes)}"
    log = f"log of {plural(facts.commits, 'commit')} {size(facts.log_bytes)}"
    journals = f"{plural(facts.journals, 'journal')} {size(facts.journal_bytes)}"
    checkpoints = f"checkpoints {size(facts.checkpoint_bytes)}"
    console.out(f"store     {facts.location}")
    console.out(f"holds     {names}, {items}")
    console.out(f"takes     {size(facts.total_bytes)}: {published}, {log}, {journals}, {checkpoints}")
    return exit_codes.OK
