"""Programs that misbehave: no answer ever stands under another item's key."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.foundation.errors import InvalidInputError
from keepstone.workflows.config import find_program
from keepstone.workflows.results import Results
from keepstone.workflows.runner import RunOptions

Questions = Callable[..., list[dict[str, Any]]]
BAD = {"q3", "q8"}

ONLY_THE_BAD_FAIL = {
    "chats": "not JSON",
    "chats_after": "more than one line",
    "blank_line": "more than one line",
    "twice": "more than one line",
    "twice_late": "more than one line",
    "not_json": "not JSON",
    "a_list": "not a JSON object",
    "not_utf8": "not JSON",
    "nan": "not JSON",
    "error": "no idea",
    "crashes": "was killed by SIGSEGV before it answered",
    "exits": "ended with exit code 3 before it answered",
    "torn": "before it answered",
    "closes_stdout": "closed its output before it answered",
    "grandchild": "ended with exit code 4 before it answered",
    "other_key": "another 'id' than it was asked with",
}


@pytest.mark.parametrize("mode", ONLY_THE_BAD_FAIL)
def test_what_goes_wrong_fails_its_own_item_and_no_other(
    mode: str, program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    report = program.run(mode, make_questions(10))

    assert wrong_pairs() == []
    assert set(results.failed) == BAD
    assert len(results) == 8
    assert all(ONLY_THE_BAD_FAIL[mode] in (failure.error or "") for failure in results.failed.values())
    assert (report.done, report.failed, report.left) == (8, 2, 0)


@pytest.mark.parametrize("mode", ["skips", "hangs"])
def test_an_item_without_an_answer_fails_after_its_timeout(
    mode: str, program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    started = time.monotonic()
    program.run(mode, make_questions(10), timeout_seconds=0.5)

    assert wrong_pairs() == []
    assert set(results.failed) == BAD
    assert len(results) == 8
    # The program sleeps for 60 s.
    assert time.monotonic() - started < 60
    assert "no answer within 0.5 s" in (results.failed["q3"].error or "")


def test_a_surplus_object_that_comes_at_any_time_leaves_no_wrong_pair(
    program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    """The line comes 4 ms late from another thread, when many other items have been asked."""
    report = program.run("twice_from_a_thread", make_questions(36, lambda n: n == 12), workers=1)

    assert wrong_pairs() == []
    assert len(results) + len(results.failed) == 36
    assert len(results.failed) <= 2
    assert report.withdrawn > 0
    assert any("started once for each item" in text for text in program.said)


def test_an_object_printed_at_the_start_is_nobodys_answer(
    program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    program.run("banner", make_questions(6))

    assert wrong_pairs() == []


def test_a_program_that_prints_without_reading_answers_nothing(
    program: Any, results: Results, make_questions: Questions
) -> None:
    program.run("ignores_stdin", make_questions(3), options=RunOptions(failures_in_a_row_max=3))

    assert len(results) == 0


def test_a_line_above_64_mib_fails_its_item(
    program: Any, results: Results, make_questions: Questions
) -> None:
    program.run("huge", make_questions(4), workers=1)

    assert set(results.failed) == {"q3"}
    assert results.failed["q3"].error == "printed a line of more than 64 MiB"
    assert len(results) == 3


def test_chatter_on_standard_error_never_blocks_and_its_end_is_kept_with_a_failure(
    program: Any, results: Results, make_questions: Questions
) -> None:
    program.run("noisy", make_questions(6))
    assert len(results) == 6

    other = Results(results.store, "crashing")
    program.results = other
    program.run("crashes", make_questions(4))
    assert "about to fail" in other.failed["q3"].output["stderr"]


def test_items_larger_than_a_pipe_reach_the_program(
    program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    program.run("good", [{**item, "text": "ä" * 300_000} for item in make_questions(4)])

    assert len(results) == 4
    assert wrong_pairs() == []


@pytest.mark.parametrize("mode", ["exits_after_each", "deaf"])
def test_a_program_that_ends_after_one_answer_is_started_again(
    mode: str, program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    report = program.run(mode, make_questions(6), workers=1)

    assert report.done == len(results) == 6
    assert wrong_pairs() == []


def test_a_program_that_does_not_end_is_ended_and_its_answers_stay(
    program: Any, results: Results, make_questions: Questions
) -> None:
    started = time.monotonic()
    report = program.run("stays", make_questions(4), exit_grace_seconds=0.2)

    assert report.done == len(results) == 4
    # The program sleeps for 60 s.
    assert time.monotonic() - started < 60
    assert any("did not end" in note for note in report.notes)


def test_a_silent_program_is_told_to_flush_once(program: Any, make_questions: Questions) -> None:
    program.run("buffers", make_questions(2), timeout_seconds=0.6, silence_seconds=0.2)

    assert len([text for text in program.said if "flush" in text]) == 1


def test_no_process_is_left_behind(program: Any, make_questions: Questions) -> None:
    program.run("grandchild", make_questions(4))

    groups = {int(fields[4]) for fields in _processes() if fields[1] == "(sleep)"}
    assert groups.isdisjoint(_sessions_of_this_test())


def _processes() -> list[list[str]]:
    found: list[list[str]] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.append(Path("/proc", name, "stat").read_text().split())
            except OSError:
                continue
    return found


def _sessions_of_this_test() -> set[int]:
    # A child's group has the child's own number, and children of this process are all reaped by now.
    return {int(fields[4]) for fields in _processes() if fields[3] == str(os.getpid())}


def test_programs_inherit_nothing_but_their_three_pipes(
    program: Any, results: Results, make_questions: Questions
) -> None:
    program.run("descriptors", make_questions(2))

    # The fourth is the folder that the program lists.
    assert all(record.output == ["0", "1", "2", "3"] for record in results.values())
    assert len(results) == 2


def test_answers_that_must_repeat_their_key_and_do_not_are_refused(
    program: Any, results: Results, make_questions: Questions
) -> None:
    program.run("good", make_questions(2), must_repeat_key=True)
    assert len(results) == 0

    program.results = other = Results(results.store, "echoed")
    program.run("echo", make_questions(2), must_repeat_key=True)
    assert {record.output for record in other.values()} == {2, 4}


# ---- one process for each item -----------------------------------------------------------------------------

EACH_FAILS = (
    "chats",
    "chats_after",
    "twice",
    "twice_late",
    "twice_from_a_thread",
    "crashes",
    "exits",
    "other_key",
)


@pytest.mark.parametrize("mode", EACH_FAILS)
def test_each_is_exact_whatever_the_program_does(
    mode: str, program: Any, results: Results, make_questions: Questions, wrong_pairs: Callable[[], list[Any]]
) -> None:
    program.run(mode, make_questions(5), each=True)

    assert set(results.failed) == {"q3"}
    assert len(results) == 4
    assert wrong_pairs() == []


def test_each_takes_an_answer_whose_line_has_no_end(results: Results, program: Any) -> None:
    program.run("good", [{"id": "q1", "n": 1, "bad": False}], each=True)

    assert results["q1"].output == 2


# ---- retries and ends --------------------------------------------------------------------------------------


def test_a_crash_is_tried_again_and_a_second_line_is_not(
    program: Any, results: Results, make_questions: Questions, tmp_path: Path
) -> None:
    side = tmp_path / "asked"
    program.run("exits", make_questions(3), retries=1, side=str(side), workers=1)
    assert side.read_text().split().count("q3") == 2
    assert results.failed["q3"].attempts == 2

    side.unlink()
    program.results = Results(results.store, "twice")
    program.run("twice", make_questions(3), retries=1, side=str(side), workers=1)
    assert side.read_text().split().count("q3") == 1


def test_failures_in_a_row_stop_the_run_and_the_rest_stays_to_do(
    program: Any, results: Results, make_questions: Questions
) -> None:
    report = program.run(
        "exits", make_questions(50, lambda n: True), options=RunOptions(failures_in_a_row_max=4)
    )

    assert "in a row failed" in report.stopped
    assert 4 <= len(results.failed) <= 6
    assert report.left == 50 - len(results.failed)


def test_a_limit_asks_at_most_so_many(program: Any, results: Results, make_questions: Questions) -> None:
    report = program.run("good", make_questions(10), options=RunOptions(limit=4))

    assert (len(results), report.left) == (4, 6)


def test_failed_items_are_asked_again_only_when_asked_for(
    program: Any, results: Results, make_questions: Questions
) -> None:
    items = make_questions(5)
    program.run("error", items)
    again = program.run("error", items)
    assert (again.done, again.failed, again.failed_before) == (0, 0, 1)

    third = program.run("error", items, options=RunOptions(retry_failed=True))
    assert (third.failed, third.failed_before) == (1, 0)


def test_a_program_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="'no-such-program' is not found"):
        find_program(["no-such-program"])
