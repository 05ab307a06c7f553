"""`keepstone run`: a program over the lines of a file, each answer kept the moment it is certain.

Layer: cli. Started again, it asks only what is missing. Exit code 8 says that some items failed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from keepstone.cli import exit_codes
from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.names import plural

if TYPE_CHECKING:
    import argparse

    from keepstone.cli.console import Console
    from keepstone.cli.progress import Progress
    from keepstone.workflows.program import Plan
    from keepstone.workflows.report import Report

HELP = """\
Run a program over the lines of a file and keep every answer. Started again, it does only what is missing.

The program is a filter: it reads one JSON object a line from standard input and prints exactly one JSON
object a line, flushed, for each; everything else goes to standard error. Items that fail are kept apart."""

EXAMPLES = """\
keepstone run --template                                     # writes answer.py to begin with
keepstone run --results gsm8k/beam --input questions.jsonl --key question -- python answer.py
keepstone run --results gsm8k/beam --input questions.jsonl --key question \\
    --retry-failed -- python answer.py"""

TEMPLATE_PATH: Final = "answer.py"
TEMPLATE: Final = '''\
"""Answer questions: one JSON object a line in, exactly one out."""

import json
import sys


def answer(item: dict) -> dict:
    """Return what is to be kept of one item.

    Well-known fields: output, expected, correct, score, cost, tokens, error.
    """
    # Here goes your own work, for example a call of a language model.
    return {"output": item["question"].upper()}


for line in sys.stdin:
    item = json.loads(line)
    try:
        result = answer(item)
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    # Repeating the field that --key names proves that the answer belongs to this question.
    result["question"] = item["question"]
    print(json.dumps(result), flush=True)  # everything else that is printed must go to sys.stderr
'''
TIMEOUT_SECONDS: Final = 600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("--results", metavar="NAME", help="the result set that keeps the answers, such as gsm8k/beam")
    add("--input", metavar="FILE", help="a file with one JSON object a line")
    add(
        "--key",
        metavar="FIELD",
        help="field that names an item (otherwise the digest of the whole line does)",
    )
    add("--expected", metavar="FIELD", help="field that holds the right answer")
    add("--workers", metavar="N", type=int, default=4, help="how many programs run at once (4)")
    add(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=TIMEOUT_SECONDS,
        help=f"for one answer ({TIMEOUT_SECONDS:g}; 0: no limit)",
    )
    add(
        "--retries",
        metavar="N",
        type=int,
        default=2,
        help="how often a crash, a timeout or an answer with an error is tried again (2)",
    )
    add("--retry-failed", action="store_true", help="also ask items again that failed in an earlier run")
    add("--max-failures", metavar="N", type=int, help="stop when so many items in a row have failed")
    add("--limit", metavar="N", type=int, help="ask at most so many items")
    add(
        "--config-file",
        metavar="PATH",
        action="append",
        default=[],
        help="a file that the answers depend on and the command does not name; may be given several times",
    )
    add("--set", metavar="NAME", help="keep the answers in this result set instead")
    add("--accept-change", action="store_true", help="go on although the command or an input has changed")
    add(
        "--redo",
        action="store_true",
        help="ask again what was answered under another command or for another input",
    )
    add("--each", action="store_true", help="start the program once for each item")
    add("--echo", action="store_true", help="refuse answers that do not repeat the field of --key")
    add("--template", action="store_true", help=f"write {TEMPLATE_PATH} to begin with, and end")
    add("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the program; see `HELP`."""
    if arguments.template:
        return _write_template(console)
    name = arguments.set or arguments.results
    for value, option in ((name, "--results NAME"), (arguments.input, "--input FILE")):
        if not value:
            raise InvalidInputError(f"{option} is missing", hint="see `keepstone run --help`")

    import keepstone
    from keepstone.workflows.config import command_config
    from keepstone.workflows.filters import FilterOptions
    from keepstone.workflows.inputs import InputFile
    from keepstone.workflows.program import run_program
    from keepstone.workflows.results import Results
    from keepstone.workflows.runner import RunOptions

    options = RunOptions(
        retry_failed=arguments.retry_failed,
        accept_change=arguments.accept_change,
        redo=arguments.redo,
        failures_in_a_row_max=arguments.max_failures,
        limit=arguments.limit,
    )
    command = tuple(arguments.program or ())
    config = command_config(
        command,
        files=arguments.config_file,
        key=arguments.key,
        expected=arguments.expected,
        search_path=os.environ.get("PATH"),
    )
    filters = FilterOptions(
        command=command,
        environment=os.environ,
        workers=arguments.workers,
        timeout_seconds=_timeout(arguments.timeout),
        retries=arguments.retries,
        each=arguments.each,
        key_field=arguments.key or "",
        must_repeat_key=arguments.echo,
    )
    with (
        InputFile(arguments.input, key=arguments.key, expected=arguments.expected) as file,
        keepstone.open(console.store_path(arguments, create=True)) as store,
        console.progress(0, "items") as progress,
    ):
        report = run_program(
            Results(store, name),
            file,
            filters,
            config,
            options,
            progress=_Shown(progress),
            say=console.error,
            planned=lambda plan: console.error(_plan_text(plan)),
        )
    return _end(report, arguments.json, console)


class _Shown:
    """The console's progress as a callback."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def set_size(self, size: int | None) -> None:
        self._progress.total = size or 0

    def absolute_update(self, value: int) -> None:
        self._progress.set(value)


def _timeout(seconds: float) -> float | None:
    if seconds < 0:
        raise InvalidInputError(f"--timeout is {seconds:g}", hint="give seconds, or 0 for no limit")
    return seconds or None


def _plan_text(plan: Plan) -> str:
    text = f"{plan.present:,} {'is' if plan.present == 1 else 'are'} here, {len(plan.todo):,} to do"
    if plan.failed_before:
        text += f"; {plural(plan.failed_before, 'item')} failed earlier (--retry-failed asks again)"
    return text


def _end(report: Report, as_json: bool, console: Console) -> int:
    if as_json:
        console.json(report)
    else:
        console.out(str(report))
        if report.failed or report.failed_before:
            console.error(f"hint: look at the failures with `keepstone results {report.name} --failed`")
    if report.interrupted:
        return exit_codes.INTERRUPTED
    if report.failed or report.failed_before or report.stopped:
        return exit_codes.PARTLY_FAILED
    return exit_codes.OK


def _write_template(console: Console) -> int:
    try:
        with open(TEMPLATE_PATH, "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise InvalidInputError(
            f"{TEMPLATE_PATH} is there already; it was not changed",
            hint="move it away, or begin with what it has",
        ) from error
    console.out(f"wrote {TEMPLATE_PATH}; try it with:")
    console.out(
        "keepstone run --results first/try --input questions.jsonl --key question -- python answer.py"
    )
    return exit_codes.OK
