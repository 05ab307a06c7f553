"""Every request of every operation goes wrong, once and for ever: an error that says where, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.bucket_place import HERE, Place, Waits
from tests.faults.failing_requests import FAILURES_MAX, Sweep
from tests.faults.request_operations import fill, operations
from tests.faults.request_ways import ALL, EVERYDAY, READING
from tests.servers.fixtures import on_servers

OPERATIONS = [operation.name for operation in operations("")]
DAILY = ("save small", "put and flush", "push in packs", "restore")
"""The everyday run sweeps parts of these."""


@on_servers("moto", "rgw")
def test_some_requests_fail_and_nothing_is_lost_or_half_visible(
    beside_bucket: Place,
    memory_folder: Path,
    waits: Waits,
    is_thorough: bool,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = fill(memory_folder / "template", beside_bucket)
    daily = [operation for operation in operations(beside_bucket.url) if operation.name in DAILY]
    for number, operation in enumerate(daily):
        with monkeypatch.context() as patch:
            for constant, value in operation.thresholds:
                patch.setattr(constant, value)
            sweep = Sweep(beside_bucket, operation, memory_folder / "template" / HERE, objects, waits)
            ways = [way for way in EVERYDAY if sweep.count(way)]
            for turn in range(2) if is_thorough else (number % 2,):
                way = ways[(3 * number + 5 * turn) % len(ways)]
                sweep.once(way, 1 + (1 + turn) * sweep.count(way) // 3, same_session=turn == 0)
            record_property("runs", sweep.runs)
            assert sweep.runs


@pytest.mark.long
@pytest.mark.timeout(7_200)
@on_servers("moto", "rgw")
@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_request_of_an_operation_fails_nothing_is_lost_or_half_visible(
    beside_bucket: Place,
    memory_folder: Path,
    waits: Waits,
    name: str,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operation = next(o for o in operations(beside_bucket.url) if o.name == name)
    objects = fill(memory_folder / "template", beside_bucket)
    for constant, value in operation.thresholds:
        monkeypatch.setattr(constant, value)
    sweep = Sweep(beside_bucket, operation, memory_folder / "template" / HERE, objects, waits)

    for way in READING if operation.reads else ALL:
        sweep.run(way)
        if len(sweep.failures) >= FAILURES_MAX:
            break

    record_property("runs", sweep.runs)
    record_property("errors", sweep.failed)
    record_property("seconds slept at most", round(sweep.waited))
    record_property("answers waited for at most", sweep.silent)
    assert sweep.failures == []
    assert sweep.runs or not sweep.requests
