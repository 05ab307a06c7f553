"""`keepstone fsck`: is everything there and undamaged?

Layer: cli.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from keepstone.cli import exit_codes
from keepstone.cli.formatting import size
from keepstone.cli.parser import add_json
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console
    from keepstone.operations.fsck import FsckReport

HELP = """\
Check the store: the log's chain, what it refers to, and with --read-data every byte against its digest.
Changes nothing. Exit code 5 and a list of what is damaged, if something is."""
EXAMPLES = """\
keepstone fsck
keepstone fsck --read-data --json
"""

TOUCHES_SHOWN_MAX: Final = 20
FINDINGS_SHOWN_MAX: Final = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--read-data", action="store_true", help="read every byte, and compare its digest")
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Check, and print the report."""
    from keepstone.operations.fsck import fsck_location

    # Not opened: a store that is damaged may refuse that, and is the one to check.
    report = fsck_location(console.store_path(arguments), read_data=arguments.read_data)
    if arguments.json:
        findings = [finding._asdict() for finding in report.findings]
        console.json({**report._asdict(), "findings": findings, "ok": report.ok})
    else:
        _print(report, arguments.read_data, console)
    return exit_codes.OK if report.ok else exit_codes.CORRUPTION


def _print(report: FsckReport, read_data: bool, console: Console) -> None:
    for finding in report.findings[:FINDINGS_SHOWN_MAX]:
        console.out(f"{finding.severity}: {finding.where}: {finding.problem} ({finding.invariant})")
        for selector in finding.touches[:TOUCHES_SHOWN_MAX]:
            console.out(f"  damages {selector}")
        if len(finding.touches) > TOUCHES_SHOWN_MAX:
            console.out(f"  and {len(finding.touches) - TOUCHES_SHOWN_MAX:,} more; --json lists all")
    if len(report.findings) > FINDINGS_SHOWN_MAX:
        console.out(
            f"and {plural(len(report.findings) - FINDINGS_SHOWN_MAX, 'more finding')}; --json lists all"
        )
    checked = [
        plural(report.commits, "commit"),
        plural(report.packs, "pack"),
        plural(report.journals, "journal"),
        plural(report.blobs, "blob"),
        plural(report.entries, "entry", "entries"),
    ]
    how = (
        f"every byte read, {size(report.bytes_read)}"
        if read_data
        else "structure only; --read-data reads every byte"
    )
    verdict = "nothing is damaged" if report.ok else f"{plural(len(report.damage), 'finding')} of damage"
    console.out(f"checked {', '.join(checked)} ({how}): {verdict}")
