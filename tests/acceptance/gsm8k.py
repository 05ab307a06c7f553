"""One real job, killed again and again: the published GSM8K solutions graded by `keepstone run`.

    python tests/acceptance/gsm8k.py EXAMPLE_MODEL_SOLUTIONS.jsonl --kills 20

The run is killed with SIGKILL at random moments and started again until it is done. Then every question has exactly
one result, the accuracies are those of the file, and no question whose answer was kept has been asked again. The same
with the lines shuffled and 13 labels flipped gives what those flips imply.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import keepstone
from keepstone.workflows.results import Results

HERE = Path(__file__).parent
GRADE = HERE.parent / "data" / "grade.py"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
WORKERS = 2


class Outcome(NamedTuple):
    """What one job, with all its kills, came to."""

    results: int
    kills: int
    asked: int
    asked_again: int
    """Questions that were asked more than once: at most those in flight at a kill."""
    accuracies: dict[str, float]
    """Percent, by model."""


def run_with_kills(lines: list[str], folder: Path, *, kills: int, seed: int) -> Outcome:
    """Run the job over `lines` in `folder`, killed `kills` times; return what came of it."""
    folder.mkdir()
    data, notes = folder / "questions.jsonl", folder / "asked"
    data.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    job = [
        sys.executable,
        "-m",
        "keepstone",
        "run",
        "--store",
        str(folder / "store"),
        "--results",
        "gsm8k/grades",
    ]
    job += ["--input", str(data), "--key", "question", "--workers", str(WORKERS)]
    job += ["--", sys.executable, str(HERE / "asked.py"), str(GRADE), str(notes)]
    chance = random.Random(seed)
    done = 0
    while done < kills:
        # Each round may get a few of what is left, so that the last kill still finds the job under way.
        quota = (len(lines) - count_asked(notes)) / (kills - done + 1)
        done += kill_after(job, notes, count_asked(notes) + chance.uniform(0, 2 * quota))
    finished = subprocess.run(job, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    return look(folder / "store", notes, done)


def kill_after(job: list[str], notes: Path, asked_min: float) -> int:
    """Start the job and kill it when so many questions were asked; return 1 if it was still running then."""
    process = subprocess.Popen(
        job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and count_asked(notes) < asked_min:
        time.sleep(0.002)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed, "the job was done before it could be killed"
    return 1


def count_asked(notes: Path) -> int:
    """Return how many questions the filter was asked so far, repeated ones counted again."""
    return notes.read_bytes().count(b"\n") if notes.exists() else 0


def look(store_folder: Path, notes: Path, kills: int) -> Outcome:
    """Return what is in the store, and what the filter noted."""
    asked = Counter(notes.read_text().splitlines())
    with keepstone.open(store_folder, mode="r") as store:
        records = dict(Results(store, "gsm8k/grades"))
    for key, record in records.items():
        assert record.input is not None
        assert record.key == key == record.input["question"]
    return Outcome(
        results=len(records),
        kills=kills,
        asked=asked.total(),
        asked_again=sum(1 for count in asked.values() if count > 1),
        accuracies={
            model: 100 * sum(r.output[model] for r in records.values()) / max(1, len(records))
            for model in MODELS
        },
    )


def expected_accuracies(lines: list[str]) -> dict[str, float]:
    """Return what grading `lines` must give, worked out without Keepstone and without the filter."""
    right: Counter[str] = Counter()
    for line in lines:
        item = json.loads(line)
        truth = item["ground_truth"].rsplit("A:", 1)[1].strip().replace(",", "")
        for model in MODELS:
            said = item[model]["solution"].rpartition("A:")
            right[model] += bool(said[1]) and said[2].strip().replace(",", "") == truth
    return {model: 100 * right[model] / len(lines) for model in MODELS}


def flip_labels(lines: list[str], count: int, chance: random.Random) -> list[str]:
    """Return the lines shuffled, the ground truth of `count` of them replaced by a number that nobody gave."""
    shuffled = chance.sample(lines, len(lines))
    for position in chance.sample(range(len(shuffled)), count):
        item: dict[str, Any] = json.loads(shuffled[position])
        item["ground_truth"] = item["ground_truth"].rsplit("A:", 1)[0] + "A: -987654321"
        shuffled[position] = json.dumps(item)
    return shuffled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("input", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    arguments = parser.parse_args()
    lines = arguments.input.read_text(encoding="utf-8").splitlines()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        for name, chosen in (
            ("as they are", lines),
            ("shuffled, 13 flipped", flip_labels(lines, 13, chance)),
        ):
            outcome = run_with_kills(
                chosen,
                Path(folder) / name.split(",")[0].replace(" ", "-"),
                kills=arguments.kills,
                seed=arguments.seed,
            )
            print(f"{name}: {outcome}")
            assert outcome.results == len(lines)
            assert outcome.accuracies == expected_accuracies(chosen)
            assert outcome.asked_again <= outcome.kills * WORKERS


if __name__ == "__main__":
    main()
