"""The demo: short, quick, true, and repeatable."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import keepstone
from keepstone.cli.demo import FIRST_SET, SECOND_SET, WORKERS
from keepstone.cli.demo_files import QUESTIONS, asked, write_files


class Shown(NamedTuple):
    """A demo that has ended: what it printed, what its tour printed, and where it worked."""

    lines: list[str]
    tour: list[str]
    folder: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Temporary folder and present folder of the demos."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "temporary").mkdir()
    (folder / "here").mkdir()
    return folder


def start(world: Path, *options: str) -> subprocess.Popen[str]:
    # A store of the user's own must stay out of it.
    own = {"TMPDIR": str(world / "temporary"), "KEEPSTONE_STORE": str(world / "mine")}
    return subprocess.Popen(
        [sys.executable, "-m", "keepstone", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=world / "here",
        env={**os.environ, **own},
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    return out.splitlines()


@pytest.fixture(scope="module")
def shown(world: Path) -> Shown:
    lines = finish(start(world, "--full"))
    (folder,) = (world / "temporary").iterdir()
    (end,) = [number for number, line in enumerate(lines, 1) if line.startswith("Look around:")]
    return Shown(lines[:end], lines[end:], folder)


def test_it_takes_at_most_15_lines_and_leaves_one_folder(world: Path, shown: Shown) -> None:
    assert len(shown.lines) <= 15
    assert any(line.endswith(f"rm -r {shown.folder}") for line in shown.lines)
    assert not (world / "mine").exists()
    assert list((world / "here").iterdir()) == []


def test_what_it_says_is_true(shown: Shown) -> None:
    text = "\n".join(shown.lines)
    found = re.search(r"(\d+) are here, (\d+) to do", text)
    assert found is not None
    here, to_do = map(int, found.groups())
    (anew,) = re.findall(r"\((\d+) without an answer", text) or ["0"]

    assert here + to_do == QUESTIONS
    assert 0 < here < QUESTIONS
    # Two sets of answers, and at most one question for each worker without one when it was killed.
    assert len(asked(shown.folder)) == 2 * QUESTIONS + int(anew)
    assert int(anew) <= WORKERS
    assert f"{QUESTIONS} of {QUESTIONS} answers byte-identical" in text
    assert "refused" in text
    assert re.search(r"\+\d+\.\d points \(95 % interval [+-]\d+\.\d to \+\d+\.\d; paired", text)


def test_the_accuracies_are_those_of_the_answers(shown: Shown) -> None:
    with keepstone.open(shown.folder / "store", mode="r") as store:
        shares = [keepstone.Results(store, name).summary().accuracy for name in (FIRST_SET, SECOND_SET)]
    (line,) = [line for line in shown.lines if "correct before" in line]

    assert [f"{100 * (share or 0):.1f}" for share in shares] == re.findall(r"(\d+\.\d) %", line)


@pytest.mark.parametrize("title", ["From Python:", "Look around:", "Your own file:"])
def test_the_lines_to_copy_work(title: str, shown: Shown, tmp_path: Path) -> None:
    write_files(tmp_path)
    (line,) = [line.removeprefix(title).strip() for line in shown.lines if line.startswith(title)]
    line = line.replace("FILE.jsonl", "questions.jsonl").replace("FIELD", "question")
    words = shlex.split(
        line.replace("python PROGRAM.py", f"{shlex.quote(sys.executable)} answer.py prompt.txt")
    )
    words[:1] = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "keepstone"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert ("mine" if "own" in title else SECOND_SET) in done.stdout


def test_the_tour_ends_well(shown: Shown) -> None:
    assert sum(line.startswith("$ keepstone ") for line in shown.tour) >= 10
    assert any("nothing is damaged" in line for line in shown.tour)


@pytest.mark.thorough
def test_a_second_demo_works_and_takes_no_tour_unless_asked(world: Path, shown: Shown) -> None:
    lines = finish(start(world))

    assert len(list((world / "temporary").iterdir())) == 2
    assert lines[0] == shown.lines[0]
    assert len(lines) == len(shown.lines)
