"""`keepstone demo`: work that is killed in the middle goes on where it stopped, and answers never mix.

Layer: cli. Everything it says is measured on the spot: a real child process, a real SIGKILL, and counts from
the answering program's own log, which lies outside the store. What is not as promised ends it as a bug.
"""

from __future__ import annotations

import argparse
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keepstone.cli import exit_codes
from keepstone.cli.demo_files import QUESTIONS, SECOND_PROMPT, asked, write_files
from keepstone.cli.demo_statistics import paired_difference
from keepstone.cli.formatting import size

if TYPE_CHECKING:
    from keepstone.cli.console import Console
    from keepstone.workflows.record import Record

HELP = """\
See it work in 20 seconds, without network: 400 questions, killed in the middle, resumed, another prompt,
compared. Everything happens in a new folder under the temporary one; the last lines say how to remove it."""
EXAMPLES = """\
keepstone demo
keepstone demo --full             # and a tour of the other commands
"""

FIRST_SET: Final = "demo/plain"
SECOND_SET: Final = "demo/steps"
WORKERS: Final = 2
SECONDS_MAX: Final = 60
"""A run that takes longer is given up."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--full", action="store_true", help="go on with a tour of the other commands")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Show it."""
    demo = Demo(Path(tempfile.mkdtemp(prefix="keepstone-demo-")), console)
    try:
        demo.show_resume()
        demo.show_change()
        demo.show_copy()
    except KeyboardInterrupt:
        shutil.rmtree(demo.folder, ignore_errors=True)
        raise
    demo.show_ways_on()
    if arguments.full:
        from keepstone.cli.demo_tour import tour

        return tour(demo.folder, demo.store, FIRST_SET, console)
    return exit_codes.OK


class Demo:
    """One demo, in a folder of its own."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._console = console
        write_files(folder)

    def show_resume(self) -> None:
        """Kill a run in the middle, start it again, and count what was asked."""
        out = self._console.out
        out(f"{QUESTIONS} questions, {WORKERS} workers, and a program that answers them:")
        out(f"  $ {shown_command(FIRST_SET)}")
        seconds = self._run_and_kill()
        asked_before, kept = asked(self.folder), set(self._records(FIRST_SET))
        out(f"killed with SIGKILL after {seconds:.1f} s; the same command again:")
        done = self._start("--results", FIRST_SET)
        said = re.search(r"([\d,]+) are here, ([\d,]+) to do", done.stdout + done.stderr)
        require(done.returncode == 0 and said is not None, "the second run did not resume", done)
        present = len(self._records(FIRST_SET))
        require(present == QUESTIONS, f"{present} of {QUESTIONS} answers are kept", done)
        asked_again = [question for question in asked(self.folder)[len(asked_before) :] if question in kept]
        require(not asked_again, f"{len(asked_again)} answered questions were asked again", done)
        out(f"  {said[0] if said else ''} … done: {present} of {QUESTIONS}")
        anew = len(asked(self.folder)) - QUESTIONS
        other = f" ({anew} without an answer then were asked anew)" if anew else ""
        out(f"  none of the {len(kept)} was asked twice, by the program's own log{other}")

    def show_change(self) -> None:
        """Change the prompt: refused, then kept apart, then compared."""
        out = self._console.out
        (self.folder / "prompt.txt").write_text(SECOND_PROMPT)
        refused = self._start("--results", FIRST_SET)
        require(refused.returncode == exit_codes.CONFLICT, "answers to two prompts were mixed", refused)
        out("The prompt changes. The same command is refused: answers to two prompts would mix.")
        done = self._start("--results", FIRST_SET, "--set", SECOND_SET)
        require(done.returncode == 0, "the second set failed", done)
        first, second = self._records(FIRST_SET), self._records(SECOND_SET)
        require(first.keys() == second.keys(), "the sets have different questions", done)
        pairs = [(first[key].correct is True, second[key].correct is True) for key in sorted(first)]
        before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        change = paired_difference(before, after)
        out(f"  --set {SECOND_SET} keeps them apart: {share(before)} correct before, {share(after)} after,")
        interval = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
        out(
            f"  {100 * change.value:+.1f} points (95 % interval {interval}; paired, the same {len(pairs)} questions)"
        )

    def show_copy(self) -> None:
        """Pin the answers, restore them in an empty folder, and compare every one."""
        import keepstone

        lock, elsewhere = self.folder / "keepstone.lock", self.folder / "elsewhere"
        with keepstone.open(str(self.store), create=False) as store:
            store.pin([FIRST_SET, f"{FIRST_SET}:config"], lock)
        with keepstone.open(str(elsewhere)) as other:
            other.restore(lock)
            require(other.verify(lock).ok, "what was restored is not what was pinned")
        here, there = self._contents(self.store), self._contents(elsewhere)
        same = sum(there.get(key) == content for key, content in here.items())
        require(same == len(here) == QUESTIONS, f"{same} of {len(here)} answers are equal elsewhere")
        shutil.rmtree(elsewhere)
        self._console.out(
            f"Pinned in keepstone.lock, restored elsewhere: {same} of {QUESTIONS} answers byte-identical."
        )

    def show_ways_on(self) -> None:
        """Say where everything is, how to remove it, and what to try."""
        out, place = self._console.out, shlex.quote(str(self.store))
        total = sum(path.stat().st_size for path in self.store.rglob("*") if path.is_file())
        out(
            f"The store is {self.store} ({size(total)}); to remove all: rm -r {shlex.quote(str(self.folder))}"
        )
        out(
            "Your own file:  keepstone run --results mine --input FILE.jsonl --key FIELD -- python PROGRAM.py"
        )
        code = f"import keepstone; print(keepstone.open({str(self.store)!r}, mode='r').names())"
        out(f'From Python:    python -c "{code}"')
        out(f"Look around:    keepstone --store {place} results {SECOND_SET} --summary")

    # ---- the parts -----------------------------------------------------------------------------------------

    def _command(self, *options: str) -> list[str]:
        keepstone = [sys.executable, "-m", "keepstone", "--store", str(self.store), "run", *options]
        return [*keepstone, *RUN_OPTIONS, "--", sys.executable, "answer.py", "prompt.txt"]

    def _start(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = self._command(*options)
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )

    def _run_and_kill(self) -> float:
        """Start the run, kill it when about half of the questions were asked; return after how long [s]."""
        enough = random.randint(int(QUESTIONS * 0.35), int(QUESTIONS * 0.65))
        started = time.monotonic()
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                self._command("--results", FIRST_SET), cwd=self.folder, stdout=said, stderr=said
            )
            while len(asked(self.folder)) < enough and process.poll() is None:
                if time.monotonic() - started > SECONDS_MAX:
                    break
                time.sleep(0.02)
            process.kill()
            ended = process.wait()
            said.seek(0)
            require(ended < 0, f"the first run ended by itself: {said.read()[-2000:]}")
        return time.monotonic() - started

    def _records(self, name: str) -> dict[str, Record]:
        import keepstone
        from keepstone.workflows.record import Record

        with keepstone.open(str(self.store), mode="r") as store:
            return dict(store.collection(name, type=Record).items())

    def _contents(self, store: Path) -> dict[str, tuple[str, bytes]]:
        """Return each answer of the first set: the digest of its stored bytes, and what they say."""
        import msgspec

        import keepstone

        with keepstone.open(str(store), mode="r") as opened:
            answers = opened.collection(FIRST_SET)
            # Reading compares the bytes with their digest, so equal digests of what was read are equal bytes.
            return {
                key: (str(answers.digest_of(key)), msgspec.json.encode(record))
                for key, record in answers.items()
            }


RUN_OPTIONS: Final = (
    *("--input", "questions.jsonl", "--key", "question", "--expected", "answer"),
    *("--workers", str(WORKERS)),
)


def shown_command(name: str) -> str:
    """Return the run's command line as a person would type it in the demo's folder, on two lines."""
    first = shlex.join(["keepstone", "run", "--results", name, *RUN_OPTIONS[:-2]])
    return f"{first} \\\n      {shlex.join(RUN_OPTIONS[-2:])} -- python answer.py prompt.txt"


def share(correct: list[bool]) -> str:
    """Return how many are true, in percent."""
    return f"{100 * sum(correct) / len(correct):.1f} %"


def require(holds: bool, otherwise: str, done: subprocess.CompletedProcess[str] | None = None) -> None:
    """End the demo as a bug unless `holds`: it never says what it has not seen."""
    if not holds:
        said = (
            f"; the run said (exit code {done.returncode}): {(done.stdout + done.stderr)[-2000:]}"
            if done
            else ""
        )
        raise AssertionError(f"the demo found that {otherwise}{said}")
