"""`keepstone alias`: lets a word stand for a version.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.opening import open_to_change
from keepstone.cli.parser import add_dry_run, add_json

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.repository.version import Version

HELP = """\
Let ALIAS stand for the version that SELECTOR means, and move it there if it stood for another.
With --expected nothing is changed unless the alias stands where you think (exit code 4)."""
EXAMPLES = """\
keepstone alias models/email@v1 prod
keepstone alias models/email@v2 prod --expected models/email@v1   # only if nobody else has moved it
keepstone remove models/email@prod                                # takes only the alias away
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selector", metavar="SELECTOR", help="the version, such as models/email@v3")
    parser.add_argument("alias", metavar="ALIAS", help="a word such as prod")
    parser.add_argument(
        "--expected", metavar="SELECTOR", help="what the alias must stand for now; none if it must be new"
    )
    parser.add_argument("--message", "-m", default="", metavar="TEXT", help="why, for the history")
    add_dry_run(parser)
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Move the alias and say where it stands."""
    with open_to_change(arguments, console) as store:
        version = store.resolve(arguments.selector)
        if not arguments.dry_run:
            version = _move(store, arguments)
        if arguments.json:
            facts = {"name": version.name, "alias": arguments.alias, "selector": version.selector}
            console.json({**facts, "digest": version.digest, "dry_run": arguments.dry_run})
        else:
            verb = "would stand" if arguments.dry_run else "stands"
            console.out(f"{version.name}@{arguments.alias} {verb} for {version.selector}")
    return exit_codes.OK


def _move(store: Store, arguments: argparse.Namespace) -> Version:
    selector, alias, expected = arguments.selector, arguments.alias, arguments.expected
    if expected is None:
        return store.alias(selector, alias, message=arguments.message)
    wanted = None if expected == "none" else expected
    return store.alias(selector, alias, expected=wanted, message=arguments.message)
