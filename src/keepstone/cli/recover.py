"""`keepstone recover`: publishes what killed programs left behind.

Layer: cli. Nothing is lost without it: readers on this machine see such answers anyway.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.opening import open_to_change
from keepstone.cli.parser import add_json
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console
    from keepstone.operations.other_hosts import OtherHost
    from keepstone.operations.recover import RecoverReport

HELP = """\
Publish what programs that were killed had kept, but not yet published, and say what it was.
Readers on this machine see it even without that; it can be repeated, and stopped, at any time.
What waits to go to a bucket stands below the name of its machine. Of one that is gone, or was given another name, it
is published by --host; the command says for which names there is any."""
EXAMPLES = """\
keepstone recover
keepstone --store s3://bucket/team recover --host old-laptop-3f9a0c21
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--host", metavar="HOST", help="also what this machine has left, where no program writes any more"
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Recover, and print the report."""
    with open_to_change(arguments, console) as store:
        report = store.recover(host=arguments.host)
    if arguments.json:
        strangers = [stranger._asdict() for stranger in report.strangers]
        elsewhere = [other._asdict() for other in report.elsewhere]
        console.json({**report._asdict(), "strangers": strangers, "elsewhere": elsewhere})
    else:
        _print(report, console)
    return exit_codes.CORRUPTION if report.damaged else exit_codes.OK


def _print(report: RecoverReport, console: Console) -> None:
    if report.journals or report.swept:
        console.out(
            f"published {plural(report.entries, 'item')} from {plural(report.journals, 'journal')}"
            + (f"; {plural(report.swept, 'empty remainder')} removed" if report.swept else "")
        )
    elif not report.uploaded:
        console.out("nothing was left behind")
    if report.uploaded:
        console.out(f"published {plural(report.uploaded, 'item')} that had been uploaded before")
    if report.skipped:
        console.out(
            f"{plural(report.skipped, 'item')} torn by a loss of power, before they counted as on disk"
        )
    for name in report.damaged:
        console.out(f"{name} is damaged; what is sound in it was published, and the file was kept aside")
    for stranger in report.strangers:
        console.out(f"left alone: {stranger.name}: {stranger.reason}")
    for other in report.elsewhere:
        console.out(of_other_host(other))


def of_other_host(other: OtherHost) -> str:
    """Return the line that says what another machine has left, and what to do about it."""
    return (
        f"not published: {plural(other.journals, 'journal')} of the machine {other.host}; run `keepstone recover` "
        f"there, or where it is gone or was renamed `keepstone recover --host {other.host}`"
    )
