"""Writers killed with SIGKILL lose nothing that was acknowledged; see kill9.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.faults.processes import needs_fork

pytestmark = needs_fork
PROGRAM = Path(__file__).with_name("kill9.py")


def run(folder: Path, *, rounds: int, seconds: int) -> dict[str, Any]:
    """Run the program; its writers must not outlive a test that gave up on it."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder / "run"), "--rounds", str(rounds)],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            code = -1
    text = output.read_text()
    assert code == 0, text
    return json.loads(text.splitlines()[-1])


def test_no_acknowledged_item_is_lost_by_sixteen_kills(tmp_path: Path) -> None:
    report = run(tmp_path, rounds=2, seconds=60)

    assert report["killed"] == 16
    assert report["acknowledged"] > 0


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_no_acknowledged_item_is_lost_by_sixteen_hundred_kills(tmp_path: Path) -> None:
    report = run(tmp_path, rounds=200, seconds=1400)

    assert report["killed"] == 1600
    assert report["versions"] > 0
