"""Runs tests with a defect, each time in a fresh copy of a process that has imported pytest and no Keepstone.

`python -m tests.faults.defect_runs` reads one JSON line for each run from its input, {"defect": name or "", "tests":
[…]}, and answers with one: which tests failed in their call, with which errors, and how many passed. Starting a
Python and importing pytest is most of the time that a short run takes; a fork saves both.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest
from tests.faults.defects import ROOT, environment, plant

OPTIONS: Final = (
    *("-q", "-x", "--tb=no", "--assert=plain", "-p", "no:xdist", "-p", "no:cacheprovider"),
    *("-o", "addopts=--import-mode=importlib"),
)


PRELOADED: Final = (
    *(
        "_hypothesis_pytestplugin",
        "hypothesis.strategies",
        "hypothesis.internal.conjecture.engine",
        "pytest_timeout",
    ),
    *("blake3", "concurrent.futures", "msgspec", "multiprocessing", "numpy", "sqlite3", "zstandard"),
)
"""Imported once for all runs: what tests and Keepstone use, and nothing of Keepstone."""


class _Recorder:
    """Notes how each test ended."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[dict[str, Any]] = []
        self.broken: list[str] = []
        """What went wrong outside of a test's call: imports, fixtures."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if report.when == "call" and report.passed:
            self.passed += 1
        elif report.failed and call.excinfo is not None:
            error = call.excinfo.value
            names = [kind.__name__ for kind in type(error).__mro__]
            self.failed.append(
                {"test": item.nodeid, "error": str(error)[:300], "kinds": names, "when": call.when}
            )
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(str(report.longrepr)[-2000:])


def run_here(defect: str, tests: list[str]) -> dict[str, Any]:
    """Run tests in this process, which is used for nothing else afterwards."""
    recorder = _Recorder()
    if defect:
        os.environ.update(environment(defect))
        plant(defect)
    options = OPTIONS if defect else tuple(option for option in OPTIONS if option != "-x")
    code = pytest.main([*options, *tests], plugins=[recorder])
    return {
        "code": int(code),
        "passed": recorder.passed,
        "failed": recorder.failed,
        "broken": recorder.broken,
    }


def run_forked(defect: str, tests: list[str]) -> dict[str, Any]:
    """Run tests in a forked child."""
    with tempfile.TemporaryDirectory(prefix="keepstone-defect-") as folder:
        result, output = Path(folder, "result"), Path(folder, "output")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with output.open("wb") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                # What fails under a defect must not be kept as an example for runs without.
                os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
                os.environ["TMPDIR"] = folder
                tempfile.tempdir = None
                result.write_text(json.dumps(run_here(defect, tests)))
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if status or not result.exists():
            said = output.read_text(errors="replace")[-2000:] if output.exists() else ""
            return {"code": -1, "passed": 0, "failed": [], "broken": [f"the run died with {status}: {said}"]}
        return json.loads(result.read_text())


class Runs:
    """A process that makes runs; one for all tests of a module."""

    def __enter__(self) -> Self:
        import subprocess

        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.defect_runs"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, defect: str, tests: Iterable[str]) -> dict[str, Any]:
        """Return how `tests` end with a defect; with none where it is empty."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"defect": defect, "tests": list(tests)}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Answer one run after the other."""
    for name in PRELOADED:
        with suppress(ImportError):
            import_module(name)
    # What is here now is nobody's garbage; each child would look through all of it.
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.write(json.dumps(run_forked(asked["defect"], asked["tests"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
