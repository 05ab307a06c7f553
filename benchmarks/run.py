"""The command: `python -m benchmarks` measures everything, and writes the tables and the plot."""

from __future__ import annotations

import argparse
import compileall
import importlib
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import machine, report
from benchmarks.plot import svg
from benchmarks.report import Run
from benchmarks.settings import Settings
from benchmarks.timing import Case

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
PLOT: Final = ROOT / "docs" / "images" / "benchmarks.svg"
PAGE: Final = ROOT / "docs" / "performance.md"
SUBJECTS: Final = (
    "startup",
    "put",
    "sustained",
    "load",
    "resume",
    "fsck",
    "size",
    "commits",
    "large",
    "versions",
    "bucket_files",
    "bucket_writers",
    "bucket_large",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what `arguments` ask for; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.render:
        return _render(Run.decoded((RESULTS / "latest.json").read_text(encoding="utf-8")))
    _compile()
    folder = Path(tempfile.mkdtemp(prefix="keepstone-bench-", dir=options.folder))
    try:
        settings = Settings(folder, options.quick, options.gsm8k)
        cases = measure(settings, options.only or SUBJECTS)
        run = Run(machine.describe(folder), _command(options), f"{datetime.now(UTC):%Y-%m-%d}", tuple(cases))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.quick:
        # Too small for judging goals in public: printed, kept beside, never in the documentation.
        report.write(run, RESULTS, "quick")
        sys.stdout.write(report.markdown(run))
        return 0
    latest = RESULTS / "latest.json"
    if options.only and latest.exists():
        run = Run.decoded(latest.read_text(encoding="utf-8")).updated(run)
    report.write(run, RESULTS, "latest")
    sys.stdout.write(report.markdown(run))
    return _render(run)


def measure(settings: Settings, subjects: Sequence[str]) -> list[Case]:
    """Return the cases of `subjects`, telling on standard error how it goes."""
    cases: list[Case] = []
    for subject in SUBJECTS:
        if subject not in subjects:
            continue
        start = time.monotonic()
        sys.stderr.write(f"{subject} … ")
        sys.stderr.flush()
        cases += importlib.import_module(f"benchmarks.bench_{subject}").run(settings)
        sys.stderr.write(f"{time.monotonic() - start:.0f} s\n")
    return cases


def _compile() -> None:
    """Compile the package, as installing does: else starting would measure the compiler where nothing is cached."""
    import keepstone

    for folder in keepstone.__path__:
        compileall.compile_dir(folder, quiet=1)


def _render(run: Run) -> int:
    (RESULTS / "latest.md").write_text(report.markdown(run), encoding="utf-8")
    caption = f"{run.machine['cpu']}, {run.machine['cores']} cores, {run.machine['filesystem']}; {run.date}"
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(svg(run.cases, caption), encoding="utf-8")
    PAGE.write_text(report.update_page(PAGE.read_text(encoding="utf-8"), run), encoding="utf-8")
    return 0


def _command(options: argparse.Namespace) -> str:
    words = ["python", "-m", "benchmarks"]
    if options.quick:
        words.append("--quick")
    for name in options.only or ():
        words += ["--only", name]
    if options.gsm8k:
        # The name alone: where a file lies is nobody's business.
        words += ["--gsm8k", options.gsm8k.name]
    return shlex.join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Keepstone and its peers side by side. More than an hour on 2 cores; 10 GB of disk.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of everything; writes results/quick.* only"
    )
    parser.add_argument(
        "--only", action="append", choices=SUBJECTS, help="only this subject; may be repeated"
    )
    parser.add_argument("--folder", type=Path, help="where temporary data lie (default: the system's)")
    parser.add_argument(
        "--gsm8k", type=Path, metavar="PATH", help="JSONL file of GSM8K results, for bytes on disk"
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing; write tables and plot of latest.json"
    )
    return parser
