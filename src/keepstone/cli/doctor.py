"""`keepstone doctor`: can a store be kept there, and what stands in the way?

Layer: cli.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from keepstone.cli import exit_codes
from keepstone.cli.location import require_online, store_inside
from keepstone.cli.parser import add_json
from keepstone.cli.recover import of_other_host
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    from keepstone.cli.console import Console
    from keepstone.operations.doctor import DoctorReport

HELP = """\
Look at PLACE, a folder or a URL: can it be reached, may several programs write there at once, and is there a store? In
a bucket eight writers race for the same keys, twenty times over; what they write is removed again, and nothing else is
changed. Exit code 6 if no store can be made there, if several may not write there, or if that could not be tried."""
EXAMPLES = """\
keepstone doctor s3://bucket/team
keepstone doctor                    # the store that other commands would use
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "place", nargs="?", metavar="PLACE", help="a folder or a URL (default: the store here)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Look, and say what was found."""
    from keepstone.operations.doctor import examine_place

    place: str = console.store_path(arguments) if arguments.place is None else arguments.place
    require_online(arguments, place)
    report = examine_place(place)
    if arguments.json:
        console.json(_facts(report))
    else:
        _print(report, console)
    return exit_codes.OK if report.ok else exit_codes.STORAGE


def _facts(report: DoctorReport) -> dict[str, object]:
    facts: dict[str, object] = {**report._asdict(), "ok": report.ok, "probed": None, "store": None}
    if report.probed is not None:
        facts["probed"] = {"rounds": report.probed.rounds, "threads": report.probed.threads}
    if report.store is not None:
        strangers = [stranger._asdict() for stranger in report.store.strangers]
        elsewhere = [other._asdict() for other in report.store.elsewhere]
        facts["store"] = {**report.store._asdict(), "strangers": strangers, "elsewhere": elsewhere}
    return facts


def _print(report: DoctorReport, console: Console) -> None:
    console.out(f"{report.location} answers in {report.read_ms:.1f} ms")
    if report.probed is not None:
        console.out(
            f"several may write there at once: {report.probed.threads} writers raced for each of "
            f"{report.probed.rounds} keys, and each race had one winner"
        )
    elif report.is_untried:
        console.out(f"whether several may write there could not be tried: {report.problem}")
    elif report.problem:
        console.out(f"several may not write there: {report.problem}")
    if report.hint:
        console.out(report.hint)
    if report.store is None:
        if report.refusal:
            console.out(f"there is no store, and none can be made: {report.refusal}")
        else:
            console.out(f"there is no store yet; `keepstone init {shlex.quote(report.location)}` makes one")
        inside = store_inside(report.location)
        if inside:
            console.out(f"there is one at {inside}")
        return
    known = f", made for {report.store.recorded}" if report.store.recorded else ""
    console.out(f"there is a store, {report.store.id}, with {plural(report.store.commits, 'commit')}{known}")
    if report.store.waiting:
        console.out(
            f"{plural(report.store.waiting, 'journal')} of this machine in {report.journals} "
            "hold what is not published yet; `keepstone recover` does it now"
        )
    for stranger in report.store.strangers:
        console.out(f"left alone: {stranger.name}: {stranger.reason}")
    for other in report.store.elsewhere:
        console.out(of_other_host(other))
    if not report.is_lasting:
        console.out(
            f"{report.journals} would not survive a loss of power: what is kept at level `disk` waits until it is "
            "published"
        )
