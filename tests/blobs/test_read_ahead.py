"""Reading ahead: few requests, in parallel, within a bound, and never a different answer."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.processes import needs_fork
from tests.storage.slow import SlowStorage, await_no_reading_threads, reading_threads

from keepstone.blobs.read_ahead import ReadAhead
from keepstone.blobs.runs import GAP_BYTES_MAX, RUN_BYTES_MAX, Span, plan_runs
from keepstone.foundation.errors import StorageError
from keepstone.storage.memory import MemoryStorage

KIB, MIB = 1024, 1024 * 1024


def stored(**objects: int) -> SlowStorage:
    """A slow storage with objects of so many random bytes."""
    storage = MemoryStorage()
    for name, size in objects.items():
        storage.write_new(name, random.Random(name).randbytes(size))
    return SlowStorage(storage)


def ahead_of(storage: SlowStorage, items: Iterable[Span], **options: int) -> ReadAhead[Span]:
    return ReadAhead(storage, items, lambda span: [span], reads_at_once=16, keep=True, **options)


def read_all(storage: SlowStorage, ahead: ReadAhead[Span]) -> int:
    """Read each item as a reader does; return how many were here without a request of the reader's own."""
    served = 0
    for span in ahead.each():
        data = ahead.take(span)
        served += data is not None
        assert (data or storage.inner.read_range(*span)) == storage.inner.read_range(*span)
    ahead.close()
    return served


SPANS = st.lists(
    st.builds(
        lambda key, start, size: Span(key, start, start + size),
        st.sampled_from("ab"),
        st.integers(0, 40 * MIB),
        st.integers(1, 12 * MIB) | st.integers(1, 2_000),
    ),
    max_size=40,
)


@given(SPANS)
def test_each_range_lies_in_one_request_and_requests_are_bounded(spans: list[Span]) -> None:
    runs = plan_runs(spans)

    covered = [span for run in runs for span in run.spans]
    assert sorted(covered) == sorted(set(spans))
    for run in runs:
        assert all(run.key == s.key and run.start <= s.start and s.end <= run.end for s in run.spans)
        assert run.end - run.start <= RUN_BYTES_MAX or len(run.spans) == 1
    firsts = [min(spans.index(span) for span in run.spans) for run in runs]
    assert firsts == sorted(firsts)


def test_gaps_below_64_kib_are_read_through_and_others_are_not() -> None:
    near = [Span("a", 0, 10), Span("a", 10 + GAP_BYTES_MAX - 1, 10 + GAP_BYTES_MAX)]
    far = [Span("a", 0, 10), Span("a", 10 + GAP_BYTES_MAX, 11 + GAP_BYTES_MAX)]

    assert len(plan_runs(near)) == 1
    assert len(plan_runs(far)) == 2
    assert len(plan_runs([Span("a", 0, 10), Span("b", 10, 20)])) == 2


def test_neighbours_in_any_order_cost_one_request() -> None:
    storage = stored(a=500 * KIB)
    spans = [Span("a", n * 1000, n * 1000 + 900) for n in range(500)]
    random.Random(1).shuffle(spans)

    assert read_all(storage, ahead_of(storage, spans)) == 500
    assert len(storage.ranges) == 1


def test_large_objects_are_read_in_requests_of_8_mib_several_at_once() -> None:
    storage = stored(a=100 * MIB)
    spans = [Span("a", n * MIB, (n + 1) * MIB) for n in range(100)]

    assert read_all(storage, ahead_of(storage, spans)) == 100
    assert len(storage.ranges) <= 100 / 8 + 4
    assert storage.at_once_max > 2
    await_no_reading_threads()


def test_what_is_held_stays_below_the_bound_whatever_the_order() -> None:
    storage = stored(a=30 * MIB)
    spans = [Span("a", n * 10 * KIB, n * 10 * KIB + 9 * KIB) for n in range(3_000)]
    random.Random(2).shuffle(spans)
    ahead = ahead_of(storage, spans, bytes_max=4 * MIB)
    most = 0
    for span in ahead.each():
        assert ahead.take(span) is not None
        most = max(most, ahead._held)
    ahead.close()

    # One request more may be begun for whoever waits.
    assert most <= 4 * MIB + RUN_BYTES_MAX


def test_a_range_that_is_needed_twice_is_fetched_once() -> None:
    storage = stored(a=MIB)
    spans = [Span("a", 0, 100), Span("a", 500 * KIB, 500 * KIB + 7), Span("a", 0, 100)]

    assert read_all(storage, ahead_of(storage, spans)) == 3
    assert len(storage.ranges) == 2


@pytest.mark.parametrize("apart", [3, 30])
def test_a_range_that_comes_back_is_fetched_once_in_a_while(apart: int) -> None:
    storage = stored(again=200 * KIB)
    storage.inner.write_new("once", bytes(100 * MIB))
    again = Span("again", 0, 200 * KIB)
    spans = [Span("once", at, at + MIB) for at in range(0, 100 * MIB, MIB)]
    items = [item for number, span in enumerate(spans) for item in ([again] * (not number % apart) + [span])]

    assert read_all(storage, ahead_of(storage, items)) == len(items)
    # Once in a window of 40 MiB at most; the first ones are smaller.
    assert len([key for key, _, _ in storage.ranges if key == "again"]) <= 5


def test_items_that_nobody_reads_hold_nothing_up() -> None:
    storage = stored(a=64 * MIB)
    spans = [Span("a", n * 100 * KIB, (n + 1) * 100 * KIB) for n in range(640)]
    ahead = ahead_of(storage, spans, bytes_max=MIB)

    read = [ahead.take(span) is not None for n, span in enumerate(ahead.each()) if n % 100 == 99]

    assert len(read) == 6
    assert ahead._held <= 10 * MIB
    ahead.close()
    await_no_reading_threads()


def test_a_failing_request_is_left_to_who_asks_and_the_rest_is_planned_again() -> None:
    storage = stored(a=20 * MIB)
    spans = [Span("a", n * 10 * KIB, (n + 1) * 10 * KIB) for n in range(2_000)]
    lock, failures = threading.Lock(), [1, 2]

    def fail(key: str, start: int) -> None:
        with lock:
            if start and failures:
                failures.pop()
                raise StorageError("cut off")

    storage.on_read = fail

    served = read_all(storage, ahead_of(storage, spans))

    assert not failures
    assert 2_000 - 3 <= served < 2_000
    assert len(storage.ranges) < 30
    await_no_reading_threads()


def test_an_error_of_the_items_comes_after_the_items_before_it() -> None:
    storage = stored(a=MIB)

    def items() -> Iterator[Span]:
        for n in range(100):
            yield Span("a", n * 100, n * 100 + 100)
        raise StorageError("no more can be said")

    ahead = ahead_of(storage, items())
    handed_out = ahead.each()

    assert all(ahead.take(next(handed_out)) is not None for _ in range(100))
    with pytest.raises(StorageError, match="no more"):
        next(handed_out)
    ahead.close()


def test_planning_that_fails_costs_only_its_own_item() -> None:
    storage = stored(a=MIB)

    def spans_of(number: int) -> Iterator[Span]:
        if number == 50:
            raise StorageError("nobody knows where")
        yield Span("a", number * 100, number * 100 + 100)

    ahead = ReadAhead(storage, range(100), spans_of, reads_at_once=16, keep=True)
    served = [ahead.take(Span("a", n * 100, n * 100 + 100)) is not None for n in ahead.each()]
    ahead.close()

    assert [number for number, here in enumerate(served) if not here] == [50]


def test_one_request_takes_no_thread() -> None:
    storage = stored(a=MIB)
    ahead = ahead_of(storage, [Span("a", 0, 5), Span("a", 5, 9)])

    for span in ahead.each():
        assert ahead.take(span) is not None
        assert not reading_threads()
    ahead.close()

    assert len(storage.ranges) == 1


def test_leaving_early_ends_the_threads_and_asks_for_little_more() -> None:
    storage = stored(a=200 * MIB)
    ahead = ahead_of(storage, [Span("a", n * MIB, (n + 1) * MIB) for n in range(200)])
    for span in ahead.each():
        ahead.take(span)
        break
    ahead.close()

    await_no_reading_threads()
    assert storage.bytes_read <= 80 * MIB
    assert ahead.take(Span("a", 5 * MIB, 6 * MIB)) is None


def test_a_medium_that_does_not_answer_keeps_nobody_from_leaving() -> None:
    storage = stored(a=40 * MIB)
    answers = threading.Event()
    storage.on_read = lambda key, start: answers.wait(30) and None
    ahead = ahead_of(storage, [Span("a", n * MIB, (n + 1) * MIB) for n in range(40)])
    ahead.pump()

    ahead.close()

    assert all(thread.daemon for thread in reading_threads())
    answers.set()
    await_no_reading_threads()


def test_what_is_planned_is_for_the_thread_that_asks_for_the_items() -> None:
    storage = stored(a=8 * MIB)
    spans = [Span("a", n * KIB, (n + 1) * KIB) for n in range(4_000)]
    ahead = ahead_of(storage, spans)
    items = ahead.each()
    first = next(items)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(ahead.take, first).result() is None
        assert ahead.take(first) is not None
        second = other.submit(next, items).result()
        assert ahead.take(second) is None
        assert other.submit(ahead.take, second).result() is not None

    assert all(ahead.take(span) is not None for span in items)
    ahead.close()


@needs_fork
def test_a_forked_child_goes_on_without_threads() -> None:
    storage = stored(a=30 * MIB)
    spans = [Span("a", n * 10 * KIB, (n + 1) * 10 * KIB) for n in range(3_000)]
    ahead = ahead_of(storage, spans)
    items = ahead.each()
    for _ in range(10):
        assert ahead.take(next(items)) is not None
    child = os.fork()
    if child == 0:
        rest = list(items)
        right = rest == spans[10:] and all(ahead.take(span) is None for span in rest[:50])
        ahead.close()
        os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert [span for span in items if ahead.take(span) is not None] == spans[10:]
    ahead.close()
