"""Stores, input files and runs for the tests of the workflows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import keepstone
from keepstone.workflows.config import command_config
from keepstone.workflows.filters import FilterOptions
from keepstone.workflows.inputs import InputFile
from keepstone.workflows.program import run_program
from keepstone.workflows.report import Report
from keepstone.workflows.results import Results
from keepstone.workflows.runner import RunOptions

HOSTILE = Path(__file__).with_name("hostile.py")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[keepstone.Store]:
    with keepstone.open(str(tmp_path / "store")) as store:
        yield store


@pytest.fixture
def results(store: keepstone.Store) -> Results:
    return Results(store, "set")


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., str]:
    """Write objects as the lines of a file and return its path."""

    def write(*items: Any, name: str = "input.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return str(path)

    return write


def questions(count: int, bad: Callable[[int], bool] = lambda n: n % 5 == 3) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "n": n, "bad": bad(n)} for n in range(1, count + 1)]


class Program:
    """Runs `hostile.py MODE` over questions."""

    def __init__(self, results: Results, folder: Path) -> None:
        self.results = results
        self.folder = folder
        self.said: list[str] = []

    def run(
        self,
        mode: str,
        items: list[dict[str, Any]],
        *,
        options: RunOptions | None = None,
        side: str = "",
        **filters: Any,
    ) -> Report:
        path = self.folder / "questions.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        command = (sys.executable, "-S", str(HOSTILE), mode, *([side] if side else []))
        given: dict[str, Any] = {
            "workers": 2,
            "retries": 0,
            "timeout_seconds": 10.0,
            "exit_grace_seconds": 3.0,
        }
        with InputFile(str(path), key="id") as file:
            return run_program(
                self.results,
                file,
                FilterOptions(
                    command=command, environment=os.environ, key_field="id", **{**given, **filters}
                ),
                command_config(command, key="id"),
                options or RunOptions(),
                say=self.said.append,
            )


@pytest.fixture
def program(results: Results, tmp_path: Path) -> Program:
    return Program(results, tmp_path)


@pytest.fixture
def make_questions() -> Callable[..., list[dict[str, Any]]]:
    return questions


@pytest.fixture
def wrong_pairs(results: Results) -> Callable[[], list[Any]]:
    """Return the answers that are not their own item's."""

    def find() -> list[Any]:
        return [r for r in results.values() if r.output != 2 * r.input["n"] or r.key != r.input["id"]]

    return find
