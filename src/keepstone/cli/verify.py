"""`keepstone verify`: is all that a lock names here, and is every byte of it right?

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
    from keepstone.operations.verify import VerifyReport

HELP = """\
Read every byte that LOCK names from the store and compare it with its digest. LOCK may be a bundle: then the bundle
is checked by itself, and no store is needed. Exit code 3 if something is missing, 5 if something is damaged."""
EXAMPLES = """\
keepstone verify keepstone.lock
keepstone verify paper.bundle --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "lock",
        nargs="?",
        default="keepstone.lock",
        metavar="LOCK",
        help="a lock file, or a bundle (default: keepstone.lock)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Check it and print what was found."""
    from keepstone.operations.bundle import is_bundle
    from keepstone.operations.verify import verify_bundle

    if is_bundle(arguments.lock):
        report = verify_bundle(arguments.lock)
    else:
        with open_to_read(arguments, console) as store:
            report = store.verify(arguments.lock)
    if arguments.json:
        verdicts = [verdict._asdict() for verdict in report.verdicts]
        console.json({**report._asdict(), "verdicts": verdicts, "ok": report.ok})
    else:
        _print(report, console)
    if report.damaged or report.problem:
        return exit_codes.CORRUPTION
    return exit_codes.NOT_FOUND if report.missing else exit_codes.OK


def _print(report: VerifyReport, console: Console) -> None:
    for verdict in report.verdicts:
        problem = f": {verdict.problem}" if verdict.problem else ""
        console.out(f"{verdict.condition:<8}{verdict.selector}{problem}")
    if report.problem:
        console.out(f"damaged {report.problem}; none of the names is touched")
    right = sum(verdict.condition == "right" for verdict in report.verdicts)
    read = f"{plural(report.blobs, 'blob')}, {size(report.bytes_read)} read"
    console.out(f"{right:,} of {plural(len(report.verdicts), 'version')} right to the last byte ({read})")
