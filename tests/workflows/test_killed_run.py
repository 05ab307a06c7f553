"""A run that is killed or interrupted loses nothing that it acknowledged, and asks nothing twice that it
kept."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import keepstone
from keepstone.workflows.results import Results

SCRIPT = Path(__file__).with_name("killed_run.py")
COUNT = 60


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"id": f"q{n}", "n": n, "bad": False}) + "\n" for n in range(COUNT)))
    return path


def start(tmp_path: Path, questions: Path, mode: str = "slow") -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        str(SCRIPT),
        str(tmp_path / "store"),
        str(questions),
        str(tmp_path / "asked"),
        mode,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def asked(tmp_path: Path) -> Counter[str]:
    side = tmp_path / "asked"
    return Counter(side.read_text().split() if side.exists() else ())


def wait_for_asked(tmp_path: Path, count: int) -> None:
    while sum(asked(tmp_path).values()) < count:
        time.sleep(0.005)


def answered(tmp_path: Path) -> set[str]:
    with keepstone.open(str(tmp_path / "store"), mode="r") as store:
        return set(Results(store, "set"))


def test_kill_9_again_and_again_then_all_is_there_and_nothing_kept_was_asked_twice(
    tmp_path: Path, questions: Path
) -> None:
    chance = random.Random(7)
    kills = 3
    kept: set[str] = set()
    for _ in range(kills):
        before = sum(asked(tmp_path).values())
        process = start(tmp_path, questions)
        wait_for_asked(tmp_path, before + chance.randrange(1, 16))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.1)  # the children read the end of their input and go away
        now = answered(tmp_path)
        assert kept <= now
        kept = now
    process = start(tmp_path, questions)
    assert process.wait(30) == 0
    process.communicate()

    with keepstone.open(str(tmp_path / "store"), mode="r") as store:
        results = Results(store, "set")
        assert {key: record.output for key, record in results.items()} == {
            f"q{n}": 2 * n for n in range(COUNT)
        }
        assert len(results.failed) == 0
    times = asked(tmp_path)
    # Only what was in flight when a kill came, one item for each of the two workers, is asked again.
    assert sum(times.values()) <= COUNT + 2 * kills


def test_what_was_kept_at_a_kill_is_never_asked_again(tmp_path: Path, questions: Path) -> None:
    process = start(tmp_path, questions)
    wait_for_asked(tmp_path, 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = answered(tmp_path)
    before = asked(tmp_path)
    assert len(kept) >= 15

    process = start(tmp_path, questions)
    process.communicate(timeout=30)

    after = asked(tmp_path)
    assert {key for key in kept if after[key] != before[key]} == set()
    assert answered(tmp_path) == {f"q{n}" for n in range(COUNT)}


def test_ctrl_c_drains_and_what_was_in_flight_is_kept(tmp_path: Path, questions: Path) -> None:
    process = start(tmp_path, questions)
    wait_for_asked(tmp_path, 10)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)

    assert process.returncode == 130
    assert b"interrupted" in out
    assert set(asked(tmp_path)) == answered(tmp_path)
    assert len(answered(tmp_path)) < COUNT


def test_a_second_ctrl_c_gives_up_what_is_in_flight(tmp_path: Path, questions: Path) -> None:
    lines = questions.read_text().splitlines()
    questions.write_text(
        "\n".join(line.replace("false", "true") if n > 3 else line for n, line in enumerate(lines))
    )
    process = start(tmp_path, questions, "hangs")
    wait_for_asked(tmp_path, 6)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.3)
    process.communicate(timeout=10)

    assert process.returncode == 130
    assert answered(tmp_path) == {"q0", "q1", "q2", "q3"}
    with keepstone.open(str(tmp_path / "store"), mode="r") as store:
        assert len(Results(store, "set").failed) == 0


def test_two_runs_at_once_answer_everything_and_ask_little_twice(tmp_path: Path, questions: Path) -> None:
    runs = [start(tmp_path, questions) for _ in range(2)]
    assert [run.wait(30) for run in runs] == [0, 0]
    for run in runs:
        run.communicate()

    assert answered(tmp_path) == {f"q{n}" for n in range(COUNT)}


def test_children_end_when_the_run_is_killed(tmp_path: Path, questions: Path) -> None:
    process = start(tmp_path, questions)
    wait_for_asked(tmp_path, 4)
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    numbers = [int(number) for path in children for number in path.read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.communicate()

    deadline = time.monotonic() + 5
    while any(_is_alive(number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert numbers
    assert not any(_is_alive(number) for number in numbers)


def _is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
