"""Programs that are killed with SIGKILL at any of their requests to a bucket: see killed_clients.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.bucket_place import HERE, Place
from tests.faults.killed_clients import PROGRAMS, WAYS, KillSweep
from tests.faults.processes import needs_fork
from tests.faults.request_operations import fill
from tests.servers.fixtures import on_servers

pytestmark = needs_fork
DAILY = ("put and flush",)


@pytest.mark.timeout(3_600)
@on_servers("moto", "rgw")
@pytest.mark.parametrize("name", PROGRAMS)
def test_killed_at_any_request_nothing_is_lost_or_twice(
    beside_bucket: Place,
    memory_folder: Path,
    name: str,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    chosen = {option for option in ("--long", "--servers", "--rgw") if request.config.getoption(option)}
    if not chosen and name not in DAILY:
        pytest.skip("killed with --servers, and at every request with --long")
    objects = fill(memory_folder / "template", beside_bucket)
    sweep = KillSweep(beside_bucket, name, memory_folder / "template" / HERE, objects)

    if "--long" in chosen:
        for fault in WAYS:
            sweep.run(fault)
    else:
        for turn, fault in enumerate(WAYS if chosen else WAYS[:1]):
            sweep.once(fault, 2 + (turn + 1) * (sweep.requests - 2) // 4)

    record_property("kills", sweep.kills)
    assert sweep.kills
