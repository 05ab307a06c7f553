"""`keepstone remove`: takes a name, a version, or an alias away.

Layer: cli. Bytes stay until garbage is collected, and the history says what was there.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.opening import open_to_change, open_to_read
from keepstone.cli.parser import add_dry_run, add_json
from keepstone.foundation.names import parse_selector, plural

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console

HELP = """\
Take away what SELECTOR means: a whole name, one version (name@v3) or an alias (name@prod, its version stays).
Numbers are not used again, and the history keeps who removed what."""
EXAMPLES = """\
keepstone remove models/email --dry-run
keepstone remove models/email@v1
keepstone remove models/email@prod        # the alias, not the version
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selector", metavar="SELECTOR", help="a name, name@v3 or name@alias")
    parser.add_argument("--message", "-m", default="", metavar="TEXT", help="why, for the history")
    add_dry_run(parser)
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Remove it and say what was removed."""
    opened = open_to_read if arguments.dry_run else open_to_change
    with opened(arguments, console) as store:
        what = describe(store, arguments.selector)
        if not arguments.dry_run:
            remove(store, arguments.selector, arguments.message)
    if arguments.json:
        console.json({"selector": arguments.selector, "removed": what, "dry_run": arguments.dry_run})
    else:
        console.out(f"{'would remove' if arguments.dry_run else 'removed'} {what}")
    return exit_codes.OK


def describe(store: Store, selector: str) -> str:
    """Return what `selector` means, in words; it must exist."""
    parsed = parse_selector(selector)
    if parsed.kind == "alias":
        return f"the alias {selector} of {store.resolve(selector).selector}"
    if "@" in selector:
        return f"the version {store.resolve(selector).selector}"
    if store.kind(selector) == "collection":
        return f"the collection {selector} with {plural(len(store.collection(selector)), 'item')}"
    return f"{selector} with {plural(len(store.versions(selector)), 'version')}"


def remove(store: Store, selector: str, message: str) -> None:
    """Remove what `selector` means."""
    parsed = parse_selector(selector)
    if parsed.kind == "alias":
        store.unalias(parsed.name, parsed.value, message=message)
    elif "@" in selector:
        # Pinned down, so that a save in between is not what gets removed.
        store.remove(store.resolve(selector).selector, message=message)
    else:
        store.remove(selector, message=message)
