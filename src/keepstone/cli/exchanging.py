"""What `push`, `pull` and `sync` share: their options, running or planning, and what is printed.

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from keepstone.cli import exit_codes
from keepstone.cli.location import require_online
from keepstone.cli.parser import add_dry_run, add_json

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.operations.sync_plan import SyncPlan, SyncReport


def add_options(parser: argparse.ArgumentParser, *, creates: bool) -> None:
    """Add the arguments that the commands share; `creates`: the other store can be made."""
    parser.add_argument("other", metavar="OTHER", help="folder or URL of the other store")
    parser.add_argument(
        "--select",
        action="append",
        metavar="NAME",
        help="only this: a name, a prefix such as models/, or a selector such as models/email@prod; can be repeated",
    )
    parser.add_argument(
        "--lineage", action="store_true", help="with --select: also the versions that these were made from"
    )
    if creates:
        parser.add_argument("--create", action="store_true", help="make the other store if there is none")
    parser.add_argument(
        "--afresh", action="store_true", help="compare everything, forgetting what was synced before"
    )
    add_dry_run(parser)
    add_json(parser)


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the library takes."""
    chosen: dict[str, Any] = {
        "select": arguments.select,
        "lineage": arguments.lineage,
        "afresh": arguments.afresh,
    }
    if "create" in arguments:
        chosen["create"] = arguments.create
    return chosen


def carry_out(plan: SyncPlan, arguments: argparse.Namespace, console: Console) -> int:
    """Apply or print the plan; return the exit code: 4 where aliases are in conflict."""
    if arguments.dry_run:
        report = plan.report
    else:
        with console.progress(0, "bytes") as progress:
            report = plan.apply(progress=progress)
    return show(report, arguments, console)


def show(report: SyncReport, arguments: argparse.Namespace, console: Console) -> int:
    """Print what was done, or would be; return the exit code."""
    if arguments.json:
        console.json(
            {"ways": [_facts(way._asdict()) for way in report.changes], "dry_run": _is_dry(arguments)}
        )
    else:
        console.out(str(report))
        if report.conflicts:
            console.error(_way_out(report))
    return exit_codes.CONFLICT if report.conflicts else exit_codes.OK


def _way_out(report: SyncReport) -> str:
    way = next(way for way in report.changes if way.conflicts)
    conflict = way.conflicts[0]
    name, _, alias = conflict.alias.rpartition("@")
    theirs = conflict.target if way.way == "push" else conflict.source
    example = (
        f"keepstone alias {name}@{theirs[:15]} {alias}" if theirs else f"keepstone remove {conflict.alias}"
    )
    return (
        "aliases in conflict stay as they are; set each on one side as it is on the other. Theirs, here: "
        f"`{example}`"
    )


def _is_dry(arguments: argparse.Namespace) -> bool:
    return bool(getattr(arguments, "dry_run", False))


def _facts(way: dict[str, Any]) -> dict[str, Any]:
    for field in ("versions", "aliases", "conflicts"):
        way[field] = [one._asdict() for one in way[field]]
    return way


def open_here(arguments: argparse.Namespace, console: Console, *, keeps: bool) -> Store:
    """Return the store that one stands in; `keeps`: it is made if there is none."""
    require_online(arguments, arguments.other)
    from keepstone.cli.opening import open_to_change, open_to_keep, open_to_read

    if arguments.dry_run:
        return open_to_read(arguments, console)
    return open_to_keep(arguments, console) if keeps else open_to_change(arguments, console)
