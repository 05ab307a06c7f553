"""The real job of gsm8k.py on the hundred lines that are here."""

from __future__ import annotations

import random
from pathlib import Path

from tests.acceptance.gsm8k import WORKERS, expected_accuracies, flip_labels, run_with_kills

LINES = (Path(__file__).parents[1] / "data" / "gsm8k_100.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_job_killed_three_times_has_each_result_once(tmp_path: Path) -> None:
    outcome = run_with_kills(LINES, tmp_path / "job", kills=3, seed=1)

    assert outcome.results == 100
    assert outcome.accuracies == expected_accuracies(LINES)
    assert outcome.asked_again <= 3 * WORKERS


def test_shuffled_lines_with_flipped_labels_give_what_the_flips_imply(tmp_path: Path) -> None:
    lines = flip_labels(LINES, 13, random.Random(2))
    outcome = run_with_kills(lines, tmp_path / "job", kills=1, seed=2)

    assert outcome.results == 100
    assert outcome.accuracies == expected_accuracies(lines)
    assert outcome.accuracies != expected_accuracies(LINES)
