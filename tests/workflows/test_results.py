"""Result sets from Python: resume, failures apart, changes refused, errors of the caller passed on."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import keepstone
from keepstone.foundation.errors import ConfigChangedError, InvalidInputError, KeyNotFoundError
from keepstone.workflows.record import Record
from keepstone.workflows.results import Results

ITEMS = [{"question": f"q{n}", "n": n} for n in range(20)]


def double(item: dict[str, Any]) -> dict[str, Any]:
    return {"output": 2 * item["n"], "cost": 0.5, "correct": item["n"] % 2 == 0}


class Flaky:
    """Doubles, but raises for some; counts its calls."""

    def __init__(self, bad: Callable[[int], bool]) -> None:
        self.bad = bad
        self.calls: list[int] = []

    def __call__(self, item: dict[str, Any]) -> int:
        self.calls.append(item["n"])
        if self.bad(item["n"]):
            raise RuntimeError(f"no answer to {item['n']}")
        return 2 * item["n"]


def test_every_item_is_answered_once_and_kept(results: Results) -> None:
    report = results.run(double, ITEMS)

    assert (report.done, report.failed, report.present) == (20, 0, 0)
    assert results["q7"].output == 14
    assert results["q7"].input == {"question": "q7", "n": 7}
    assert set(results.processed) == {f"q{n}" for n in range(20)}
    assert "q7" in results
    assert "nothing" not in results
    with pytest.raises(KeyNotFoundError):
        results["nothing"]


def test_started_again_only_what_is_missing_is_asked(results: Results) -> None:
    results.run(double, ITEMS[:13])
    function = Flaky(lambda n: False)
    report = results.run(function, ITEMS)

    assert sorted(function.calls) == list(range(13, 20))
    assert (report.present, report.done) == (13, 7)


def test_failures_stand_apart_until_they_are_answered(results: Results) -> None:
    results.run(Flaky(lambda n: n in (3, 5)), ITEMS, retries=0)
    assert set(results.failed) == {"q3", "q5"}
    assert results.failed["q3"].error == "RuntimeError: no answer to 3"
    assert len(results) == 18

    untouched = Flaky(lambda n: False)
    assert results.run(untouched, ITEMS).failed_before == 2
    assert untouched.calls == []

    results.run(Flaky(lambda n: n == 5), ITEMS, retries=0, retry_failed=True)
    assert set(results.failed) == {"q5"}
    assert results["q3"].output == 6
    with pytest.raises(KeyNotFoundError):
        results.failed["q3"]


def test_an_exception_is_tried_again_and_attempts_are_counted(results: Results) -> None:
    function = Flaky(lambda n: len(function.calls) < 2)
    results.run(function, ITEMS[:1], retries=1)

    assert results["q0"].attempts == 2


def test_failures_in_a_row_stop_the_run(results: Results) -> None:
    report = results.run(Flaky(lambda n: n > 4), ITEMS, workers=1, retries=0, max_failures=3)

    assert "3 items in a row failed" in report.stopped
    assert (report.done, report.failed) == (5, 3)
    assert not report.is_complete


def test_an_iterator_that_raises_half_way_leaves_what_was_done(results: Results) -> None:
    def items() -> Iterator[dict[str, Any]]:
        yield from ITEMS[:6]
        raise OSError("the line went dead")

    with pytest.raises(OSError, match="the line went dead"):
        results.run(double, items())
    assert len(results) == 6


def test_an_iterator_is_read_no_faster_than_workers_are_free(results: Results) -> None:
    ahead: list[int] = []
    taken = 0

    def items() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for item in ITEMS:
            taken += 1
            yield item

    def function(item: dict[str, Any]) -> int:
        ahead.append(taken - len(ahead))
        return item["n"]

    results.run(function, items(), workers=2)
    assert max(ahead) <= 3


def test_another_configuration_is_refused_accepted_or_redone(store: keepstone.Store) -> None:
    Results(store, "set", config={"model": "a"}).run(double, ITEMS[:2])
    changed = Results(store, "set", config={"model": "b"})
    with pytest.raises(ConfigChangedError, match="model: 'a' → 'b'"):
        changed.run(double, ITEMS[:4])

    assert changed.run(double, ITEMS[:4], accept_change=True).done == 2
    assert len(changed.summary().configs) == 2

    again = Results(store, "set", config={"model": "c"})
    assert again.run(double, ITEMS[:4], redo=True).done == 4
    assert len(again.summary().configs) == 1
    assert again.config == {"model": "c"}


def test_a_redo_that_stops_half_way_goes_on_and_mixes_nothing(store: keepstone.Store) -> None:
    Results(store, "set", config="a").run(double, ITEMS[:6])
    again = Results(store, "set", config="b")
    again.run(double, ITEMS[:6], redo=True, limit=2)

    assert again.summary().count == 2
    assert again.run(double, ITEMS[:6]).done == 4
    assert set(again.summary().configs) == {again["q0"].config}


def test_a_redo_that_fails_leaves_no_old_answer_in_its_place(store: keepstone.Store) -> None:
    Results(store, "set", config="a").run(double, ITEMS[:2])
    again = Results(store, "set", config="b")
    again.run(Flaky(lambda n: n == 1), ITEMS[:2], redo=True, retries=0)

    assert set(again) == {"q0"}
    assert set(again.failed) == {"q1"}


@pytest.mark.parametrize("as_iterator", [False, True])
def test_an_edited_input_never_keeps_the_old_answer_silently(results: Results, as_iterator: bool) -> None:
    results.run(double, ITEMS[:3])
    edited = [{"question": "q1", "n": 100}, *ITEMS[3:5]]
    give = (lambda: iter(edited)) if as_iterator else (lambda: edited)

    with pytest.raises(ConfigChangedError, match=r"1 answer to other inputs.*'q1'"):
        results.run(double, give())
    assert results.run(double, give(), accept_change=True).present >= 1
    assert results["q1"].output == 2
    assert results.run(double, give(), redo=True).done >= 1
    assert results["q1"].output == 200


def test_two_different_items_with_one_key_are_refused(results: Results) -> None:
    started = threading.Barrier(2, timeout=5)

    def function(item: dict[str, Any]) -> int:
        if item["n"] == 0:
            started.wait()
        return item["n"]

    def items() -> Iterator[dict[str, Any]]:
        yield {"question": "same", "n": 0}
        started.wait()
        yield {"question": "same", "n": 1}

    with pytest.raises((InvalidInputError, ConfigChangedError), match="same"):
        results.run(function, items())


def test_a_call_that_does_not_return_fails_its_item_and_its_answer_is_dropped(results: Results) -> None:
    release = threading.Event()

    def function(item: dict[str, Any]) -> int:
        if item["n"] == 1:
            release.wait(10)
        return item["n"]

    report = results.run(function, ITEMS[:4], timeout=0.2, retries=0, workers=1)
    release.set()

    assert (report.done, report.failed) == (3, 1)
    assert results.failed["q1"].error == "TimeoutError: no answer within 0.2 s"
    time.sleep(0.05)
    assert "q1" not in results


def test_ctrl_c_keeps_what_is_in_flight_and_asks_nothing_new(results: Results) -> None:
    function = Flaky(lambda n: False)

    def interrupted(item: dict[str, Any]) -> int:
        if item["n"] == 4:
            _thread.interrupt_main()
            time.sleep(0.3)
        return function(item)

    with pytest.raises(KeyboardInterrupt, match="everything that was answered is kept"):
        results.run(interrupted, ITEMS, workers=1)
    assert set(results) == {f"q{n}" for n in function.calls} == {f"q{n}" for n in range(5)}


def test_an_answer_that_cannot_be_kept_is_a_failure(results: Results) -> None:
    results.run(lambda item: object() if item["n"] == 1 else 1, ITEMS[:3], retries=5)

    assert set(results.failed) == {"q1"}
    assert results.failed["q1"].attempts == 1
    assert "SerializerError" in (results.failed["q1"].error or "")


def test_keys_and_expected_values_may_be_functions(results: Results) -> None:
    results.run(
        lambda item: item["n"], ITEMS[:2], key=lambda item: f"key {item['n']}", expected=lambda item: 1
    )

    assert {key: record.correct for key, record in results.items()} == {"key 0": False, "key 1": True}


def test_an_item_without_the_key_field_is_refused(results: Results) -> None:
    with pytest.raises(InvalidInputError, match="has no field 'question'"):
        results.run(double, ["just text"])


def test_a_summary_adds_up(results: Results) -> None:
    results.run(double, ITEMS)
    summary = results.summary()

    assert (summary.count, summary.graded, summary.correct, summary.accuracy) == (20, 20, 10, 0.5)
    assert summary.cost == 10.0


def test_records_can_be_added_by_hand(results: Results) -> None:
    kept = results.add(Record(key="a", output=1))
    results.add(Record(key="b", error="no"))

    assert results["a"] == kept
    assert kept.created
    assert set(results.failed) == {"b"}


def test_a_long_key_is_found_by_its_text(results: Results) -> None:
    text = "why? " * 2000
    results.run(lambda item: 1, [{"question": text}])

    assert results[text].input == {"question": text}


def test_results_cross_a_pickle(store: keepstone.Store) -> None:
    results = Results(store, "set", config={"a": 1})
    results.run(double, ITEMS[:2])
    copy = pickle.loads(pickle.dumps(results))

    assert dict(copy) == dict(results)
    copy.store.close()


def test_context_variables_reach_the_function(results: Results) -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place")
    place.set("here")
    results.run(lambda item: place.get(), ITEMS[:3], timeout=5)

    assert {record.output for record in results.values()} == {"here"}


def test_progress_reaches_a_function_and_a_callback(results: Results) -> None:
    seen: list[tuple[int, int | None]] = []
    results.run(double, ITEMS, progress=lambda done, size: seen.append((done, size)))

    assert seen[0] == (0, 20)
    assert seen[-1] == (20, 20)


def test_credentials_in_the_configuration_are_not_stored_and_named(store: keepstone.Store) -> None:
    results = Results(store, "set", config={"api_key": "sk-123", "model": "a"})
    report = results.run(double, ITEMS[:1])

    assert results.config == {"api_key": "[removed]", "model": "a"}
    assert report.removed == ("api_key",)


# ---- inside an event loop ----------------------------------------------------------------------------------


def test_async_functions_run_together_and_are_kept(results: Results) -> None:
    together = most = 0

    async def function(item: dict[str, Any]) -> int:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.01)
        together -= 1
        if item["n"] == 3:
            raise RuntimeError("no")
        return item["n"]

    report = asyncio.run(results.arun(function, ITEMS, workers=5, retries=0))

    assert (report.done, report.failed) == (19, 1)
    assert 2 <= most <= 5
    assert set(results.failed) == {"q3"}


def test_plain_functions_and_async_iterables_run_in_a_loop(results: Results) -> None:
    async def items() -> Any:
        for item in ITEMS[:5]:
            yield item

    assert asyncio.run(results.arun(double, items())).done == 5
    assert asyncio.run(results.arun(double, ITEMS[:8])).present == 5


def test_an_async_call_beyond_its_timeout_fails_its_item(results: Results) -> None:
    async def function(item: dict[str, Any]) -> int:
        await asyncio.sleep(10 if item["n"] == 1 else 0)
        return item["n"]

    report = asyncio.run(results.arun(function, ITEMS[:3], timeout=0.1, retries=0))

    assert (report.done, report.failed) == (2, 1)
    assert results.failed["q1"].error == "TimeoutError: no answer within 0.1 s"


def test_a_cancelled_run_keeps_what_was_answered(results: Results) -> None:
    async def function(item: dict[str, Any]) -> int:
        await asyncio.sleep(0 if item["n"] < 5 else 10)
        return item["n"]

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(results.arun(function, ITEMS), 0.5)

    asyncio.run(main())
    assert set(results) == {f"q{n}" for n in range(5)}


def test_errors_of_an_async_source_come_after_draining(results: Results) -> None:
    async def items() -> Any:
        yield ITEMS[0]
        raise OSError("dead")

    async def function(item: dict[str, Any]) -> int:
        await asyncio.sleep(0.05)
        return 1

    with pytest.raises(OSError, match="dead"):
        asyncio.run(results.arun(function, items()))
    assert set(results) == {"q0"}


def test_a_run_imports_no_asyncio(tmp_path: Any) -> None:
    code = (
        "import sys, keepstone\n"
        f"with keepstone.open({str(tmp_path / 'other')!r}) as store:\n"
        "    keepstone.Results(store, 's').run(lambda item: 1, [{'question': 'q'}])\n"
        "sys.exit(' '.join({'asyncio', 'numpy', 'fsspec', 's3fs'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""


def test_run_refuses_an_async_function(results: Results) -> None:
    async def function(item: Any) -> int:
        return 1

    with pytest.raises(InvalidInputError, match="async"):
        results.run(function, ITEMS)
