"""Running a program over an input file: plan, ask what is missing, ask again what was taken back.

Layer: workflows. Everything that can be refused is refused before anything is asked.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.names import plural
from keepstone.operations.progress import ProgressCallback
from keepstone.workflows.config import Claim, Config, changed_error, claim
from keepstone.workflows.filters import FilterOptions, Pool
from keepstone.workflows.inputs import InputFile
from keepstone.workflows.ledger import Ledger
from keepstone.workflows.report import Report
from keepstone.workflows.runner import (
    RunOptions,
    Say,
    check_count,
    make_report,
    quiet,
    raise_errors,
)
from keepstone.workflows.task import Feed, Task
from keepstone.workflows.values import same

if TYPE_CHECKING:
    from keepstone.workflows.results import Results

EDITED_SHOWN_MAX = 5
MANY_ANSWERS = 20_000
"""Above so many answers the comparison takes longer than a second."""


class Plan(msgspec.Struct):
    """Which items of a file are to be asked; memory grows by 8 bytes an item."""

    todo: array[int]
    """Indexes into the file, ascending."""
    present: int = 0
    failed_before: int = 0
    """Failed earlier, and stay so."""
    stale: set[int] = msgspec.field(default_factory=set[int])
    """Those to do that have an answer which does not count any more."""
    retried: set[int] = msgspec.field(default_factory=set[int])
    """Those to do that failed earlier."""

    def tasks(self, file: InputFile) -> Iterator[Task]:
        """Yield what is to be asked."""
        for index in self.todo:
            yield file.task(index, is_stale=index in self.stale, failed_before=index in self.retried)

    def keep_only(self, other: Plan) -> None:
        """Drop what `other` does not ask."""
        asked = set(other.todo)
        self.todo = array("Q", (index for index in self.todo if index in asked))


def make_plan(results: Results, file: InputFile, claimed: Claim, options: RunOptions) -> Plan:
    """Return what is to be done.

    Raises:
        ConfigChangedError: an answer belongs to another input than the file has under its key.
    """
    absent = _absent(file, results.collection.missing(file.keys()), range(len(file)))
    plan = Plan(array("Q"))
    edited: list[str] = []
    must_look = file.key is not None or claimed.redone
    next_absent = iter([*absent, len(file)])
    skip = next(next_absent)
    for index in range(len(file)):
        if index == skip:
            skip = next(next_absent)
        elif must_look and _is_outdated(results, file, index, claimed, options, edited):
            plan.stale.add(index)
        else:
            plan.present += 1
    if edited:
        keys = ", ".join(repr(key[:60]) for key in edited[:EDITED_SHOWN_MAX])
        more = ", …" if len(edited) > EDITED_SHOWN_MAX else ""
        what = f"has {plural(len(edited), 'answer')} to other inputs than {file.path} has under their keys"
        raise changed_error(results.name, [f"{keys}{more}"], what)
    _add_todo(plan, results, file, absent, claimed, options)
    return plan


def _absent(
    file: InputFile, missing: Iterator[str] | list[str], indexes: Iterator[int] | range
) -> array[int]:
    """Return the indexes, out of `indexes`, of the keys in `missing`, which come in the same order."""
    from keepstone.workflows.ledger import key_hash

    absent: array[int] = array("Q")
    rest = iter(indexes)
    for key in missing:
        wanted = key_hash(key)
        absent.append(next(index for index in rest if file.hash_of(index) == wanted))
    return absent


def _is_outdated(
    results: Results, file: InputFile, index: int, claimed: Claim, options: RunOptions, edited: list[str]
) -> bool:
    """Whether the answer to item `index` does not count; adds its key to `edited` where that is for the user
    to say."""
    task = file.task(index)
    record = results.collection[task.key]
    if claimed.redone and record.config not in claimed.accepted:
        return True
    if same(record.input, task.input) or options.accept_change:
        return False
    if not options.redo:
        edited.append(task.key)
    return True


def _add_todo(
    plan: Plan, results: Results, file: InputFile, absent: array[int], claimed: Claim, options: RunOptions
) -> None:
    if not plan.stale and not len(results.failed_collection):
        plan.todo = absent
        return
    fresh = _absent(file, results.failed_collection.missing(file.task(i).key for i in absent), iter(absent))
    is_fresh = iter([*fresh, len(file)])
    next_fresh = next(is_fresh)
    stale = iter([*sorted(plan.stale), len(file)])
    next_stale = next(stale)
    for index in [*absent, len(file)]:
        while next_stale < index:
            plan.todo.append(next_stale)
            next_stale = next(stale)
        if index == next_fresh:
            if index < len(file):
                plan.todo.append(index)
                next_fresh = next(is_fresh)
        elif options.retry_failed or _is_other_failure(results, file, index, claimed):
            plan.todo.append(index)
            plan.retried.add(index)
        else:
            plan.failed_before += 1


def _is_other_failure(results: Results, file: InputFile, index: int, claimed: Claim) -> bool:
    """Whether item `index` failed with another input, or under a configuration that was given up."""
    task = file.task(index)
    record = results.failed_collection[task.key]
    return record.config not in claimed.accepted or not same(record.input, task.input)


def run_program(
    results: Results,
    file: InputFile,
    filters: FilterOptions,
    config: Config,
    options: RunOptions,
    *,
    progress: ProgressCallback | None = None,
    say: Say = quiet,
    planned: Callable[[Plan], None] = lambda plan: None,
) -> Report:
    """Ask the program of `filters` for every item of `file` that has no answer, and return how it went.

    `planned` hears what is here and what is to do before anything is asked.

    Raises:
        ConfigChangedError: the result set was made under another configuration, or with other inputs.
        StorageError: the store takes no more; what was acknowledged stays.
    """
    started = time.monotonic()
    _check(filters)
    claimed = claim(
        results.store, results.name, config, accept_change=options.accept_change, redo=options.redo
    )
    if len(results) > MANY_ANSWERS:
        say(f"comparing {plural(len(results), 'answer')} with {file.path}")
    plan = make_plan(results, file, claimed, options)
    to_do = len(plan.todo)
    planned(plan)
    if options.limit is not None:
        plan.todo = plan.todo[: options.limit]
    if progress is not None:
        progress.set_size(len(plan.todo))
    ledger = Ledger(
        results.collection,
        results.failed_collection,
        config=claimed.digest,
        failures_in_a_row_max=options.failures_in_a_row_max,
        progress=progress,
    )
    interrupted = _ask_all(plan, file, filters, ledger, say)
    if ledger.withdrawn_count and not interrupted and not ledger.stopped:
        rest = make_plan(results, file, claimed, msgspec.structs.replace(options, retry_failed=False))
        rest.keep_only(plan)
        # Each item in a child of its own: nothing can have to be taken back a second time.
        interrupted = _ask_all(rest, file, msgspec.structs.replace(filters, each=True), ledger, say)
    return make_report(
        results.name,
        ledger,
        present=plan.present,
        failed_before=plan.failed_before,
        started=started,
        config=claimed.digest,
        removed=config.removed,
        interrupted=interrupted,
        left=to_do - ledger.done_count - ledger.failed_count,
        duplicates=file.duplicates,
    )


def _check(filters: FilterOptions) -> None:
    if filters.must_repeat_key and not filters.key_field:
        raise InvalidInputError(
            "answers cannot repeat a key that is no field", hint="name the field with --key"
        )
    check_count(filters.workers, "workers")
    check_count(filters.retries, "retries", 0)


def _ask_all(plan: Plan, file: InputFile, filters: FilterOptions, ledger: Ledger, say: Say) -> bool:
    """Ask everything that `plan` names; return whether Ctrl-C came."""
    feed = Feed(plan.tasks(file))
    ledger.stop = feed.stop
    workers = max(1, min(filters.workers, len(plan.todo)))
    pool = Pool(msgspec.structs.replace(filters, workers=workers), feed, ledger, say)

    def abandon() -> None:
        ledger.abandon()
        pool.kill()

    try:
        interrupted = pool.crew().work(feed, abandon=abandon, say=say)
    except BaseException:
        feed.stop()
        abandon()
        raise
    raise_errors(feed, ledger)
    return interrupted
