"""`keepstone versions`: all versions of a name.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from keepstone.cli import exit_codes
from keepstone.cli.describe import aliases_of, amount, short_digest, version_facts
from keepstone.cli.opening import open_to_look
from keepstone.cli.parser import add_at, add_json

if TYPE_CHECKING:
    from keepstone.cli.console import Console

HELP = """\
List the versions of NAME, the newest first; of a collection, its snapshots."""
EXAMPLES = """\
keepstone versions models/email
keepstone versions models/email --json
"""

METADATA_SHOWN_MAX: Final = 48


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a name such as models/email")
    add_at(parser)
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the versions."""
    with open_to_look(arguments, console) as store:
        found = store.versions(arguments.name)
        aliases = store.aliases(arguments.name)
    facts = [{**version_facts(version), "aliases": aliases_of(aliases, version.number)} for version in found]
    if arguments.json:
        console.json(facts)
    else:
        headers = ["version", "created", "size", "digest", "aliases", "metadata"]
        console.table([_row(fact) for fact in facts], headers, numbers=["size"])
    return exit_codes.OK


def _row(fact: dict[str, Any]) -> list[object]:
    import msgspec

    metadata = msgspec.json.encode(fact["metadata"]).decode() if fact["metadata"] else ""
    shown = metadata if len(metadata) <= METADATA_SHOWN_MAX else metadata[: METADATA_SHOWN_MAX - 1] + "…"
    number, when = f"v{fact['number']}", fact["created"]
    return [
        number,
        when,
        amount(fact),
        short_digest(fact["digest"]),
        ", ".join(fact["aliases"]),
        shown,
    ]
