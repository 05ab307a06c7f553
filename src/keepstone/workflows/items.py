"""Items of a Python run: any iterable, one at a time, as tasks for what has no answer yet.

Layer: workflows. The iterable is read only as fast as workers are free, and never held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.names import plural
from keepstone.workflows.config import Claim, changed_error
from keepstone.workflows.runner import RunOptions
from keepstone.workflows.task import Task
from keepstone.workflows.values import key_text, plain, same

if TYPE_CHECKING:
    from keepstone.workflows.results import Results

Field = str | Callable[[Any], Any]
"""A field's name, or a function of the item."""


class Items:
    """The items of one run, compared with what is there."""

    def __init__(
        self, results: Results, *, key: Field, expected: Field | None, claimed: Claim, options: RunOptions
    ) -> None:
        self.present = self.failed_before = self.duplicates = 0
        self.in_flight: dict[str, Task] = {}
        self._results = results
        self._key = key
        self._expected = expected
        self._claimed = claimed
        self._options = options

    def check(self, items: Iterable[Any]) -> None:
        """Refuse, before anything is asked, inputs that differ from those that were answered under their keys.

        Only a list or another collection can be looked at before it is used; an iterator is checked as it
        goes.
        """
        if not isinstance(items, Collection) or self._options.accept_change or self._options.redo:
            return
        edited = [task.key for task in map(self._task, items) if self._is_edited(task)]
        if edited:
            raise self._edited_error(edited)

    def tasks(self, items: Iterable[Any]) -> Iterator[Task]:
        """Yield a task for each item that is to be asked."""
        asked = 0
        for item in items:
            if self._options.limit is not None and asked >= self._options.limit:
                return
            task = self._look(self._task(item))
            if task is not None:
                asked += 1
                self.in_flight[task.key] = task
                yield task

    def task_of(self, item: Any) -> Task | None:
        """Return the task for one item, None if there is nothing to ask."""
        task = self._look(self._task(item))
        if task is not None:
            self.in_flight[task.key] = task
        return task

    def _task(self, item: Any) -> Task:
        expected = (
            None if self._expected is None else plain(_field(item, self._expected, "expected"), "expected")
        )
        key = key_text(_field(item, self._key, "key"), f"item {item!r:.80}")
        return Task(key=key, input=plain(item, "the item"), expected=expected, argument=item)

    def _look(self, task: Task) -> Task | None:
        """Return `task` as it is to be asked, None if it is not."""
        twin = self.in_flight.get(task.key)
        if twin is not None:
            if not same(twin.input, task.input):
                raise InvalidInputError(
                    f"two different items have the same key {task.key[:80]!r}",
                    hint="pass key= a field, or a function, that is different for each item",
                )
            self.duplicates += 1
            return None
        record = self._results.collection.get(task.key)
        if record is None:
            return self._look_at_failure(task)
        if self._claimed.redone and record.config not in self._claimed.accepted:
            return _marked(task, is_stale=True)
        if self._options.accept_change or same(record.input, task.input):
            self.present += 1
            return None
        if self._options.redo:
            return _marked(task, is_stale=True)
        raise self._edited_error([task.key])

    def _look_at_failure(self, task: Task) -> Task | None:
        failure = self._results.failed_collection.get(task.key)
        if failure is None:
            return task
        is_other = failure.config not in self._claimed.accepted or not same(failure.input, task.input)
        if is_other or self._options.retry_failed:
            return _marked(task, failed_before=True)
        self.failed_before += 1
        return None

    def _is_edited(self, task: Task) -> bool:
        record = self._results.collection.get(task.key)
        if record is None or (self._claimed.redone and record.config not in self._claimed.accepted):
            return False
        return not same(record.input, task.input)

    def _edited_error(self, keys: list[str]) -> Exception:
        shown = ", ".join(repr(key[:60]) for key in keys[:5]) + (", …" if len(keys) > 5 else "")
        what = f"has {plural(len(keys), 'answer')} to other inputs than the items have under their keys"
        return changed_error(self._results.name, [shown], what)


def _marked(task: Task, *, is_stale: bool = False, failed_before: bool = False) -> Task:
    return Task(
        key=task.key,
        input=task.input,
        expected=task.expected,
        argument=task.argument,
        is_stale=is_stale,
        failed_before=failed_before,
    )


def _field(item: Any, field: Field, what: str) -> Any:
    if callable(field):
        return field(item)
    if isinstance(item, Mapping):
        fields = cast("Mapping[str, Any]", item)
        if field in fields:
            return fields[field]
    elif not isinstance(item, (str, bytes, int, float)) and hasattr(item, field):
        return getattr(item, field)
    raise InvalidInputError(
        f"item {item!r:.80} has no field {field!r}",
        hint=f"pass {what}= the name of a field, or a function: {what}=lambda item: ...",
    )
