"""`keepstone list`: the names in a store.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.formatting import moment, size
from keepstone.cli.opening import open_to_look, open_to_read
from keepstone.cli.parser import add_at, add_json
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.repository.past import Past
    from keepstone.repository.refs import Kind

HELP = """\
List the names that begin with PREFIX: artifacts with their newest version, collections with their
number of items. With --pins: what lock files protect from garbage collection."""
EXAMPLES = """\
keepstone list
keepstone list models/ --kind artifact
keepstone list --names | head               # only names, one a line
keepstone list --at 2026-11-20             # as it was at the end of that day
keepstone list --json
keepstone list --pins
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="how the names begin")
    parser.add_argument(
        "--kind", choices=["artifact", "collection"], help="only artifacts, or only collections"
    )
    parser.add_argument("--names", action="store_true", help="print the names alone, one a line")
    parser.add_argument("--pins", action="store_true", help="the pins, not the names")
    add_at(parser)
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the names."""
    if arguments.pins:
        return _list_pins(arguments, console)
    kinds: list[Kind] = [arguments.kind] if arguments.kind else ["artifact", "collection"]
    with open_to_look(arguments, console) as store:
        found = sorted((name, kind) for kind in kinds for name in store.names(arguments.prefix, kind=kind))
        if arguments.names:
            for name, _ in found:
                console.out(name)
            return exit_codes.OK
        facts = [_facts(store, name, kind) for name, kind in found]
    if arguments.json:
        console.json(facts)
    elif facts:
        headers = ["name", "kind", "newest", "size", "created"]
        console.table([_row(fact) for fact in facts], headers, numbers=["size"])
    else:
        console.error(
            f"no names begin with {arguments.prefix!r}" if arguments.prefix else "the store is empty"
        )
    return exit_codes.OK


def _list_pins(arguments: argparse.Namespace, console: Console) -> int:
    with open_to_read(arguments, console) as store:
        pins = [
            pin for pin in store.pins() if any(name.name.startswith(arguments.prefix) for name in pin.names)
        ]
    if arguments.json:
        console.json(
            [{"id": p.id, "lock": p.path, "names": [name.selector for name in p.names]} for p in pins]
        )
    elif pins:
        rows = [[pin.id, plural(len(pin.names), "version"), pin.path] for pin in pins]
        console.table(rows, ["id", "protects", "lock"])
    else:
        console.error("nothing is pinned")
    return exit_codes.OK


def _facts(store: Store | Past, name: str, kind: str) -> dict[str, object]:
    if kind == "collection":
        return {"name": name, "kind": kind, "items": len(store.collection(name))}
    version = store.resolve(name)
    return {
        "name": name,
        "kind": kind,
        "newest": version.selector,
        "digest": version.digest,
        "size_bytes": version.size_bytes,
        "created": moment(version.created),
    }


def _row(fact: dict[str, object]) -> list[object]:
    if fact["kind"] == "collection":
        return [fact["name"], "collection", "", plural(int(str(fact["items"])), "item"), ""]
    newest = str(fact["newest"]).rpartition("@")[2]
    return [fact["name"], "artifact", newest, size(int(str(fact["size_bytes"]))), fact["created"]]
