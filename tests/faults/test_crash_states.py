"""Loss of power at any point of any operation: every state that it may leave is built, opened, and keeps its promises.

What is assumed of a medium stands in `crash_states.py`. A violation is told with the point of the crash and with what
was lost; the same test finds it again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.crash_recording import Recorder, points
from tests.faults.crash_scripts import PAIRS, SCENARIOS, history, random_work

KINDS = {"unnamed": True, "named": False}
"""How files are born: without a name, as on Linux, or with one that is replaced."""
EACH_KIND = ["unnamed", pytest.param("named", marks=pytest.mark.thorough)]
STATES_EVERYDAY, STATES, STATES_LONG = 40, 130, 4_000
"""Looked at after each work of one process, for each way in which files are born."""
AGAIN, AGAIN_LONG = 8, 60
"""... after another loss of power in each of a few recoveries."""
DRAWN_SEEDS, DRAWN_SEEDS_LONG = 2, 80
DRAWN, DRAWN_LONG = 100, 800
"""... after work that is drawn at random."""
TOGETHER, TOGETHER_LONG = 8, 60
"""... of two processes, for each point at which the second begins."""
LEAST = {
    "create": (110, 110),
    "create and put": (117, 119),
    "save small": (5, 26),
    "save a pack": (6, 123),
    "save large": (6, 25),
    "save a folder": (4, 15),
    "save again": (6, 31),
    "transaction": (5, 126),
    "aliases": (6, 17),
    "remove": (6, 29),
    "remove a collection": (39, 74),
    "put at process": (102, 102),
    "put at disk": (131, 131),
    "put at store": (89, 117),
    "put by threads": (51, 51),
    "put many": (64, 64),
    "put parts": (4, 19),
    "overwrite and delete": (56, 56),
    "flush": (137, 131),
    "rotate": (131, 131),
    "adopt": (17, 30),
    "merge": (25, 25),
    "close much": (25, 25),
    "checkpoint": (8, 56),
    "full disk": (130, 130),
    "failing sync": (131, 131),
    "append while syncing": (137, 137),
}
"""So many are found at least, with unnamed files and with named ones; where they are few, these are all. Where they are
many, what a recovery does, and so how many follow from it, depends a little on time."""
LEAST_DRAWN = 95
LEAST_OF_PAIRS = {
    "save the same": 10,
    "alias the same": 10,
    "put after a save": 16,
    "put into what the other made": 30,
    "put where no journal was": 16,
    "look at all that is made": 65,
    "recover": 50,
    "flush": 50,
}
Count = Callable[[str, object], None]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Records in memory, where the system has a place for that: nothing of it has to last."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="keepstone-", dir=memory if memory.is_dir() else tmp_path))
    try:
        made = Recorder(folder, monkeypatch)
        yield made
        made.builder.require_unchanged()
    finally:
        monkeypatch.undo()
        shutil.rmtree(folder)


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize(
            "seed", range(DRAWN_SEEDS_LONG if metafunc.config.getoption("--long") else DRAWN_SEEDS)
        )


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_loss_of_power_keeps_every_promise(
    recorder: Recorder, name: str, kind: str, is_thorough: bool, is_long: bool, record_property: Count
) -> None:
    scenario, unnamed = SCENARIOS[name], KINDS[kind]
    recording = recorder.record(scenario.base, scenario.work, unnamed=unnamed)
    most = STATES if is_thorough else STATES_EVERYDAY
    limit, again = (STATES_LONG, AGAIN_LONG) if is_long else (int(most * scenario.share), AGAIN)

    found = recorder.look(recording, limit=limit, exhaustive=is_long, every=1 if is_long else 4)

    states = found.states
    assert found.violations == []
    for crash in found.some:
        recovery = recorder.record_recovery(crash.tree, [*recording.promises.changes], unnamed=unnamed)
        second = recorder.look(recovery, limit=again, exhaustive=is_long, every=1 if is_long else 2)
        assert second.violations == []
        states += second.states
    record_property("crash states", states)
    least = LEAST[name][list(KINDS).index(kind)]
    assert states >= (least if is_thorough else min(least, limit))


@pytest.mark.parametrize("kind", EACH_KIND)
def test_a_loss_of_power_in_work_drawn_at_random(
    recorder: Recorder, seed: int, kind: str, is_long: bool, record_property: Count
) -> None:
    recording = recorder.record(history, random_work(seed), unnamed=KINDS[kind])
    limit = DRAWN_LONG if is_long else DRAWN
    found = recorder.look(recording, limit=limit, seed=seed, every=2 if is_long else 4)
    record_property("crash states", found.states)
    assert found.violations == []
    assert seed >= DRAWN_SEEDS or found.states >= LEAST_DRAWN


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if not pair.waits])
def test_two_processes_at_once_keep_every_promise(
    recorder: Recorder, name: str, kind: str, is_thorough: bool, is_long: bool, record_property: Count
) -> None:
    _look_at_pair(recorder, recorder.record_interleaved, name, kind, is_thorough, is_long, record_property)


@pytest.mark.parametrize("kind", EACH_KIND)
@pytest.mark.parametrize("name", PAIRS)
def test_what_follows_a_killed_process_keeps_every_promise(
    recorder: Recorder, name: str, kind: str, is_thorough: bool, is_long: bool, record_property: Count
) -> None:
    _look_at_pair(recorder, recorder.record_killed, name, kind, is_thorough, is_long, record_property)


def _look_at_pair(
    recorder: Recorder,
    record: Callable[..., Any],
    name: str,
    kind: str,
    is_thorough: bool,
    is_long: bool,
    count: Count,
) -> None:
    base, one, other, _ = PAIRS[name]
    # Each point where least is on the medium, which is before a sync; half of them for each kind, every day a quarter.
    first, step = (0, 1) if is_long else (list(KINDS).index(kind), 2 if is_thorough else 4)
    states = 0
    for recording in points(
        lambda at: record(base, one, other, at, syncs=not is_long, unnamed=KINDS[kind]), first, step
    ):
        found = recorder.look(recording, limit=TOGETHER_LONG if is_long else TOGETHER, exhaustive=is_long)
        assert found.violations == []
        states += found.states
    count("crash states", states)
    assert states >= LEAST_OF_PAIRS[name] // (1 if is_thorough else 3)


def test_a_thorough_run_looks_at_more_than_4500_states() -> None:
    pairs = [least for name, least in LEAST_OF_PAIRS.items() for _ in range(1 if PAIRS[name].waits else 2)]

    assert sum(map(sum, LEAST.values())) + DRAWN_SEEDS * 2 * LEAST_DRAWN + 2 * sum(pairs) > 4_500


TEETH = {
    "the content of a commit": ("save small", "fsync", "store/log/#"),
    "the name of a commit": ("save small", "fsync", "store/log"),
    "what a journal holds": ("put at disk", "fdatasync", "store/journals/"),
    "the name of a journal": ("put at disk", "fsync", "store/journals"),
}


@pytest.mark.parametrize("what", TEETH)
def test_one_sync_less_is_noticed(recorder: Recorder, what: str) -> None:
    name, call, place = TEETH[what]
    scenario = SCENARIOS[name]

    def left_out(made: str, where: str) -> bool:
        return made == call and (where.startswith(place) if place.endswith("/") else where == place)

    recording = recorder.record(scenario.base, scenario.work, left_out=left_out)

    assert recorder.look(recording, limit=40).violations
