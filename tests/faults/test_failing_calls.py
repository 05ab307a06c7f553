"""Every system call of every operation fails, once and for ever: an error that says where, and nothing is lost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.failing_calls import (
    EVERYDAY,
    FAILING,
    FAILING_EVERYDAY,
    LONG,
    READING,
    Disk,
    Operation,
    Sweep,
)
from tests.faults.sweep_operations import fill, operations

NAMES = [operation.name for operation in operations(Path())]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr("keepstone.storage.local.Calls", lambda: made.calls)
    # How long is waited, not whether.
    monkeypatch.setattr("keepstone.history.slots.WAIT_SECONDS_MAX", 0.0)
    monkeypatch.setattr("keepstone.repository.sealer.LOCK_WAIT_SECONDS", 0.03)
    monkeypatch.setattr("keepstone.repository.sealer.FLUSH_WAIT_SECONDS", 0.1)
    monkeypatch.setattr("keepstone.operations.recover._LOCK_WAIT_SECONDS", 0.03)
    # Collecting looks at what is made from now on; there is a collection after most errors.
    gc.freeze()
    yield made
    gc.unfreeze()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("template")
    fill(folder / "store", folder / "source")
    return folder / "store", folder / "source"


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_call_of_an_operation_fails_nothing_is_lost_or_half_visible(
    memory_folder: Path,
    disk: Disk,
    template: tuple[Path, Path],
    name: str,
    is_thorough: bool,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_long = request.config.getoption("--long")
    operation: Operation = next(o for o in operations(template[1]) if o.name == name)
    for constant, value in operation.thresholds:
        monkeypatch.setattr(constant, value)
    sweep = Sweep(disk, operation, template[0], memory_folder)

    faults = LONG if is_long else READING if operation.reads else EVERYDAY
    some = None if is_long else FAILING if is_thorough else FAILING_EVERYDAY
    calls = [sweep.run(fault, some=some) for fault in faults]

    record_property("runs", disk.runs)
    assert max(calls) > 0
