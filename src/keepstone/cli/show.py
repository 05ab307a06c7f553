"""`keepstone show`: what is known about one version, or about a collection.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from keepstone.cli import exit_codes
from keepstone.cli.describe import aliases_of, amount, version_facts
from keepstone.cli.formatting import size
from keepstone.cli.opening import open_to_look
from keepstone.cli.parser import add_at, add_json
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.repository.past import Past

HELP = """\
Show what is known about the version that SELECTOR means: digest, time, size, metadata, parents, files.
Of a collection it shows how many items it has, now or in the snapshot that SELECTOR means."""
EXAMPLES = """\
keepstone show models/email
keepstone show models/email@prod --json
"""

PARTS_SHOWN_MAX: Final = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("selector", metavar="SELECTOR", help="a name, name@v3, name@alias, name@2026-11-20 …")
    add_at(parser)
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the facts."""
    with open_to_look(arguments, console) as store:
        selector: str = arguments.selector
        if "@" not in selector and store.kind(selector) == "collection":
            facts: dict[str, Any] = {"name": selector, "kind": "collection"}
            facts["items"] = len(store.collection(selector))
        else:
            facts = _facts(store, selector)
    if arguments.json:
        console.json(facts)
    else:
        _print(facts, console)
    return exit_codes.OK


def _facts(store: Store | Past, selector: str) -> dict[str, Any]:
    version = store.resolve(selector)
    facts = version_facts(version)
    facts["kind"] = "snapshot" if version.is_snapshot else "artifact"
    facts["aliases"] = aliases_of(store.aliases(version.name), version.number)
    if not version.is_snapshot:
        facts["parts"] = [{"path": part.path, "size_bytes": part.size} for part in version.parts]
    return facts


def _print(facts: dict[str, Any], console: Console) -> None:
    if facts["kind"] == "collection":
        console.out(f"{facts['name']} is a collection with {plural(facts['items'], 'item')}")
        return
    lines = [
        ("version", facts["selector"]),
        ("aliases", ", ".join(facts["aliases"])),
        ("digest", facts["digest"]),
        ("created", facts["created"]),
        ("size", amount(facts)),
        ("type", facts["type"]),
        *(("metadata", f"{key} = {_shown(value)}") for key, value in facts["metadata"].items()),
        *(("parent", parent) for parent in facts["parents"]),
    ]
    for title, text in lines:
        if text:
            console.out(f"{title:<9}{text}")
    parts = [part for part in facts.get("parts", ()) if part["path"]]
    for part in parts[:PARTS_SHOWN_MAX]:
        console.out(f"{'file':<9}{part['path']}  ({size(part['size_bytes'])})")
    if len(parts) > PARTS_SHOWN_MAX:
        console.out(f"{'':<9}and {plural(len(parts) - PARTS_SHOWN_MAX, 'more file')}")


def _shown(value: object) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
