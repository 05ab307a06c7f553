"""Result sets: one record for each item of work, and running what is missing.

Layer: workflows. A set `gsm8k/beam` is the collections `gsm8k/beam` (answers) and `gsm8k/beam:failed`, and
the artifact `gsm8k/beam:config`. An item that counts as done survives power loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sized
from typing import TYPE_CHECKING, Any

import msgspec

from keepstone.foundation.errors import InvalidInputError, KeyNotFoundError
from keepstone.foundation.names import check_name
from keepstone.operations.progress import Progress, progress_of
from keepstone.workflows.config import Claim, claim, read_claim, value_config
from keepstone.workflows.functions import CallOptions, run_functions
from keepstone.workflows.items import Field, Items
from keepstone.workflows.ledger import Ledger
from keepstone.workflows.record import Record, Summary, Tally, now_text
from keepstone.workflows.report import Report
from keepstone.workflows.runner import (
    RunOptions,
    check_count,
    make_report,
)
from keepstone.workflows.values import short_key

if TYPE_CHECKING:
    from keepstone.api import Store
    from keepstone.repository.collection import Collection as StoredCollection


class Results(Mapping[str, Record]):
    """The answered items of the result set `name`: a read mapping from key to `Record`.

    `config` is what the answers depend on (any JSON-like value; credentials are removed); running and adding
    under another one than before is refused. Reading needs none.
    """

    def __init__(self, store: Store, name: str, config: Any = None) -> None:
        check_name(name, what="result set")
        if name.endswith((":failed", ":config")):
            raise InvalidInputError(f"result set {name!r} has a reserved ending", hint="choose another name")
        self.store = store
        self.name = name
        self.collection: StoredCollection[Record] = store.collection(name, type=Record, durability="disk")
        """Records of answered items, as stored."""
        self.failed_collection: StoredCollection[Record] = store.collection(
            f"{name}:failed", type=Record, durability="disk"
        )
        """Records of failures, as stored; also of items that were answered since."""
        self._given = config
        self._config = value_config(config)
        self._claimed: Claim | None = None

    # ---- reading -------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Record:
        return self.collection[short_key(key)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and short_key(key) in self.collection

    def __iter__(self) -> Iterator[str]:
        return iter(self.collection)

    def __len__(self) -> int:
        return len(self.collection)

    def __repr__(self) -> str:
        return f"Results({self.name!r})"

    def __reduce__(self) -> tuple[type[Results], tuple[Store, str, Any]]:
        return (Results, (self.store, self.name, self._given))

    @property
    def processed(self) -> KeysView[str]:
        """The keys of all answered items."""
        return self.keys()

    @property
    def failed(self) -> Mapping[str, Record]:
        """The records of the items that failed and have not been answered since."""
        return Failures(self)

    @property
    def config(self) -> Any:
        """The configuration as it is stored, without credentials; None if there is none."""
        present, _ = read_claim(self.store, self.name)
        return None if present is None else present.config

    def summary(self) -> Summary:
        """Return counts, accuracy, mean score, cost, tokens and seconds; reads every record.

        After `redo`, answers under a configuration that was given up do not count.
        """
        present, _ = read_claim(self.store, self.name)
        tally = Tally()
        for record in self.collection.values():
            if present is None or not present.redone or record.config in present.accepted:
                tally.add(record)
        return tally.summary(failed=len(self.failed))

    # ---- writing -------------------------------------------------------------------------------------------

    def add(self, record: Record) -> Record:
        """Keep `record`, durable on return; an empty `config` or `created` is filled in. Returns what is kept.

        A record with an error goes to the failed ones.

        Raises:
            ConfigChangedError: the set was made under another configuration than this object has.
        """
        if self._claimed is None and self._given is not None:
            self._claimed = claim(self.store, self.name, self._config)
        if not record.config:
            record = msgspec.structs.replace(record, config=self._present_digest())
        if not record.created:
            record = msgspec.structs.replace(record, created=now_text())
        kept = msgspec.structs.replace(record, key=short_key(record.key))
        (self.failed_collection if kept.error else self.collection)[kept.key] = kept
        return kept

    def run(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Field = "question",
        workers: int = 4,
        retries: int = 2,
        timeout: float | None = None,
        max_failures: int | None = None,
        progress: Progress = False,
        expected: Field | None = None,
        retry_failed: bool = False,
        accept_change: bool = False,
        redo: bool = False,
        limit: int | None = None,
    ) -> Report:
        """Call `function(item)` in `workers` threads for every item without an answer; keep each answer as it comes.

        An exception is tried again `retries` times with growing, jittered waits, then kept as a failure.
        `timeout` is in seconds; a call that exceeds it goes on in its thread unseen, and its answer is
        dropped. `max_failures` in a row stop the run. `items` may be an iterator: it is read as workers
        become free, and if it raises, that error comes after everything in flight is recorded.

        Raises:
            ConfigChangedError: another configuration, or another item under a key, than what was answered.
            KeyboardInterrupt: after what was in flight is recorded; a second Ctrl-C does not wait for that.
        """
        run_options, call_options = _options(
            key, workers, retries, timeout, max_failures, retry_failed, accept_change, redo, limit
        )
        return run_functions(self, function, items, key, expected, run_options, call_options, progress)

    async def arun(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        key: Field = "question",
        workers: int = 4,
        retries: int = 2,
        timeout: float | None = None,
        max_failures: int | None = None,
        progress: Progress = False,
        expected: Field | None = None,
        retry_failed: bool = False,
        accept_change: bool = False,
        redo: bool = False,
        limit: int | None = None,
    ) -> Report:
        """Do as `run` does inside a running event loop; `function` may be async, `items` may be an async iterable.

        A cancelled run keeps what was answered.
        """
        from keepstone.workflows.coroutines import run_async

        run_options, call_options = _options(
            key, workers, retries, timeout, max_failures, retry_failed, accept_change, redo, limit
        )
        return await run_async(self, function, items, key, expected, run_options, call_options, progress)

    # ---- for the runs --------------------------------------------------------------------------------------

    def prepare(self, items: Iterable[Any], key: Field, expected: Field | None, options: RunOptions) -> Items:
        """Claim the configuration and return what compares items with what is there."""
        self._claimed = claim(
            self.store, self.name, self._config, accept_change=options.accept_change, redo=options.redo
        )
        source = Items(self, key=key, expected=expected, claimed=self._claimed, options=options)
        source.check(items)
        return source

    def ledger(self, items: object, options: RunOptions, progress: Progress) -> Ledger:
        """Return the ledger of a run over `items`."""
        callback = progress_of(progress, "items")
        if callback is not None:
            callback.set_size(len(items) if isinstance(items, Sized) else None)
        return Ledger(
            self.collection,
            self.failed_collection,
            config=self._config.digest,
            failures_in_a_row_max=options.failures_in_a_row_max,
            progress=callback,
        )

    def report(self, ledger: Ledger, source: Items, started: float, interrupted: bool) -> Report:
        """Return the report of a run that began at `started`."""
        return make_report(
            self.name,
            ledger,
            present=source.present,
            failed_before=source.failed_before,
            duplicates=source.duplicates,
            started=started,
            config=self._config.digest,
            removed=self._config.removed,
            interrupted=interrupted,
        )

    def _present_digest(self) -> str:
        if self._claimed is None:
            self._claimed, _ = read_claim(self.store, self.name)
        return "" if self._claimed is None else self._claimed.digest


class Failures(Mapping[str, Record]):
    """The failed records of a result set, without those of items that were answered since."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def __getitem__(self, key: str) -> Record:
        record = self._results.failed_collection[short_key(key)]
        if record.key in self._results.collection:
            raise KeyNotFoundError(
                f"{key[:80]!r} has been answered since it failed",
                collection=self._results.failed_collection.name,
                key=key,
                hint="look it up among the answers",
            )
        return record

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._results.failed_collection if key not in self._results.collection)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _options(
    key: Field,
    workers: int,
    retries: int,
    timeout: float | None,
    failures_in_a_row_max: int | None,
    retry_failed: bool,
    accept_change: bool,
    redo: bool,
    limit: int | None,
) -> tuple[RunOptions, CallOptions]:
    check_count(workers, "workers")
    check_count(retries, "retries", 0)
    if timeout is not None and timeout <= 0:
        raise InvalidInputError(
            f"timeout is {timeout:g} s", hint="give seconds above 0, or None for no limit"
        )
    return RunOptions(
        retry_failed=retry_failed,
        accept_change=accept_change,
        redo=redo,
        failures_in_a_row_max=failures_in_a_row_max,
        limit=limit,
    ), CallOptions(
        workers=workers,
        retries=retries,
        timeout_seconds=timeout,
        key_field=key if isinstance(key, str) else "",
    )
