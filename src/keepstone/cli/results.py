"""`keepstone results`: look at a result set.

Layer: cli. One line an item, or JSON lines that other programs read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keepstone.cli import exit_codes
from keepstone.foundation.errors import ArtifactNotFoundError, InvalidInputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from keepstone.api import Store
    from keepstone.cli.console import Console
    from keepstone.workflows.record import Record, Summary

HELP = "Look at a result set: its answers, its failures, its numbers; without a name, at all of them."

EXAMPLES = """\
keepstone results gsm8k/beam --summary
keepstone results gsm8k/beam --limit 5
keepstone results gsm8k/beam --failed
keepstone results gsm8k/beam --json                          # one JSON object a line"""

_LINE_LENGTH_MAX = 72


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add(
        "name",
        metavar="NAME",
        nargs="?",
        help="the result set, such as gsm8k/beam; without it all are listed",
    )
    add("--summary", action="store_true", help="counts, accuracy, cost and time")
    add("--failed", action="store_true", help="the items that failed, and why")
    add("--key", metavar="K", help="only this item, with everything that is kept of it")
    add("--limit", metavar="N", type=int, help="at most so many items")
    add("--json", action="store_true", help="print JSON, one item a line")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Show it; see `HELP`."""
    if arguments.limit is not None and arguments.limit < 0:
        raise InvalidInputError(f"--limit is {arguments.limit}", hint="give a number from 0")
    from keepstone.cli.opening import open_to_read
    from keepstone.workflows.results import Results

    with open_to_read(arguments, console) as store:
        if arguments.name is None:
            return _list(store, arguments.json, console)
        results = Results(store, _existing(store, arguments.name))
        if arguments.summary:
            _show_summary(results.name, results.summary(), arguments.json, console)
        elif arguments.key is not None:
            console.json((results.failed if arguments.failed else results)[arguments.key])
        else:
            records = results.failed.values() if arguments.failed else results.values()
            _show_records(records, arguments, console)
    return exit_codes.OK


def _list(store: Store, as_json: bool, console: Console) -> int:
    from keepstone.workflows.results import Results

    rows: list[dict[str, Any]] = []
    for name in _names(store):
        results = Results(store, name)
        rows.append({"name": name, "answered": len(results), "failed": len(results.failed)})
    if as_json:
        console.json(rows)
    else:
        cells = [[row["name"], f"{row['answered']:,}", f"{row['failed']:,}"] for row in rows]
        console.table(cells, ["name", "answered", "failed"], numbers=["answered", "failed"])
    return exit_codes.OK


def _names(store: Store) -> Iterator[str]:
    """Yield the result sets of `store`: what has a configuration beside it."""
    for name in store.names("", kind="artifact"):
        if name.endswith(":config"):
            yield name.removesuffix(":config")


def _existing(store: Store, name: str) -> str:
    if store.exists(f"{name}:config") or name in store.names(name, kind="collection"):
        return name
    import difflib

    near = tuple(difflib.get_close_matches(name, list(_names(store)), n=3))
    meant = f"did you mean {' or '.join(near)}?" if near else "`keepstone results` lists what there is"
    raise ArtifactNotFoundError(f"no result set {name!r}", selector=name, near=near, hint=meant)


def _show_summary(name: str, summary: Summary, as_json: bool, console: Console) -> None:
    if as_json:
        console.json(summary)
        return
    console.out(f"{name}: {summary.count:,} answered, {summary.failed:,} failed")
    if summary.accuracy is not None:
        console.out(f"accuracy  {summary.accuracy:.2%} ({summary.correct:,} of {summary.graded:,})")
    if summary.score is not None:
        console.out(f"score     {summary.score:.4g} on average")
    if summary.cost is not None:
        console.out(f"cost      {summary.cost:,.4g}")
    if summary.tokens is not None:
        console.out(f"tokens    {summary.tokens:,}")
    console.out(f"time      {summary.seconds:,.1f} s, all items together")
    if len(summary.configs) > 1:
        for digest, count in summary.configs.items():
            console.out(f"{count:,} under configuration {digest[:15] or '(none)'}")


def _show_records(records: Iterable[Record], arguments: argparse.Namespace, console: Console) -> None:
    import itertools

    import msgspec

    for record in itertools.islice(records, arguments.limit):
        if console.is_muted:
            return
        if arguments.json:
            console.raw(msgspec.json.encode(record) + b"\n")
            continue
        mark = "failed" if record.error else {True: "right ", False: "wrong ", None: ""}[record.correct]
        told = record.error if record.error else msgspec.json.encode(record.output).decode()
        console.out("  ".join(part for part in (mark, _cut(record.key), _cut(told)) if part))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE_LENGTH_MAX else line[: _LINE_LENGTH_MAX - 1] + "…"
