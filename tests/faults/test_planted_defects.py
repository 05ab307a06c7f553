"""Mistakes are planted in the real code, one at a time, and for each of them a test fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.faults.defect import Defect
from tests.faults.defect_list import DEFECTS
from tests.faults.defect_runs import Runs
from tests.faults.defects import PAGE, edited, environment, page_rows
from tests.faults.processes import needs_fork

pytestmark = needs_fork

RIGHT_REASONS = {"AssertionError", "KeepstoneError", "Failed"}
"""`Failed`: an error that was expected did not come."""
EVERYDAY = 4
"""Every fourth is planted whenever the tests run; all of them with --thorough."""
ALL = [
    pytest.param(defect, id=defect.name, marks=[pytest.mark.thorough] if number % EVERYDAY else [])
    for number, defect in enumerate(DEFECTS.values())
]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as process:
        yield process


@pytest.mark.parametrize("defect", ALL)
def test_a_planted_defect_is_caught(runs: Runs, defect: Defect) -> None:
    result = runs.run(defect.name, [defect.test])

    assert result["broken"] == []
    assert result["failed"], "no test noticed"
    caught = result["failed"][0]
    assert caught["test"].startswith(defect.test)
    assert caught["when"] == "call"
    assert RIGHT_REASONS.intersection(caught["kinds"]), caught


@pytest.mark.parametrize("every", [EVERYDAY, pytest.param(1, marks=pytest.mark.thorough)])
def test_without_a_defect_the_same_tests_pass(runs: Runs, every: int) -> None:
    tests = {defect.test for defect in list(DEFECTS.values())[::every]}

    result = runs.run("", sorted(tests))

    assert (result["code"], result["failed"], result["broken"]) == (0, [], [])
    assert result["passed"] >= len(tests)


def test_every_defect_fits_the_code_as_it_is() -> None:
    for defect in DEFECTS.values():
        source = defect.path.read_text(encoding="utf-8")
        assert edited(defect, source) != source
        compile(edited(defect, source), defect.name, "exec")


def test_a_defect_is_in_the_processes_that_a_test_starts() -> None:
    code = """
from keepstone.foundation.clock import Clock
clock = Clock(iter((2, 1)).__next__)
print(clock.stamp(), clock.stamp())
"""

    def said(variables: dict[str, str]) -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    assert said({}) == "2 3\n"
    assert said(environment("stamp not advanced")) == "2 1\n"


def test_the_page_lists_them_all() -> None:
    found = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]

    assert found[1:] == page_rows()
