"""Looking back in the log: its commits, the state at every number, what was the newest at a time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.history.conftest import count_up

from keepstone.foundation.errors import NotFoundError
from keepstone.history.commit import DAY_NS, commit_time
from keepstone.storage.memory import MemoryStorage


def test_commits_are_read_forwards_and_backwards(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    count_up(log, times=5)

    assert [commit.number for commit in log.commits()] == [0, 1, 2, 3, 4]
    assert [commit.number for commit in log.commits(1, 3)] == [1, 2, 3]
    assert [commit.number for commit in log.commits_backwards()] == [4, 3, 2, 1, 0]
    assert [commit.number for commit in log.commits_backwards(3, first=2)] == [3, 2]
    assert log.commit_at(2).refs[0].new == b"3"


def test_a_commit_that_is_not_there_is_not_found(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    count_up(log, times=2)

    for number in (2, -1):
        with pytest.raises(NotFoundError):
            log.commit_at(number)
    with pytest.raises(NotFoundError):
        log.state_at(2)


def test_the_state_at_every_number_is_the_state_that_was(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    states = [log.state]
    for _ in range(140):
        count_up(log)
        states.append(log.state)

    behind = make.log(storage)

    assert [behind.state_at(number) for number in range(-1, 140)] == states


def test_the_commit_of_a_time_is_found_across_clocks_set_back(make: Any, storage: MemoryStorage) -> None:
    now = [0]
    log = make.log(storage, now_ns=lambda: now[0])
    for now[0] in (10, 20, 20, 30, 3 * DAY_NS, 40, 50, 4 * DAY_NS, 60):
        count_up(log)

    times = [commit.time for commit in log.commits()]
    for moment in (0, 10, 19, 20, 29, 30, 39, 40, 55, 60, 3 * DAY_NS, 5 * DAY_NS):
        expected = max((n for n, made in enumerate(times) if made <= moment), default=-1)
        assert log.number_at(moment) == expected
    assert make.log(MemoryStorage()).number_at(5) == -1


def test_times_older_than_all_remembered_runs_are_still_found(make: Any, storage: MemoryStorage) -> None:
    now = [10]
    log = make.log(storage, now_ns=lambda: now[0])
    count_up(log, times=3)
    for round_number in range(260):
        for now[0] in (9 * DAY_NS, 20 + round_number):
            count_up(log)

    assert log.state.runs[0].number > 0
    assert log.number_at(15) == 2


# ---- times ---------------------------------------------------------------------------------------------


def test_a_clock_set_back_does_not_set_commit_times_back(make: Any, storage: MemoryStorage) -> None:
    now = [make.now_ns]
    log = make.log(storage, now_ns=lambda: now[0])
    count_up(log)
    now[0] -= 5 * 10**9
    count_up(log)

    assert [commit.time for commit in log.commits()] == [make.now_ns, make.now_ns]


def test_a_parent_two_days_ahead_is_not_followed(make: Any, storage: MemoryStorage) -> None:
    count_up(make.log(storage, now_ns=lambda: make.now_ns + 2 * DAY_NS))

    log = make.log(storage)
    count_up(log)

    assert log.state.time == make.now_ns


def test_a_commit_time_follows_a_parent_up_to_one_day_ahead() -> None:
    assert commit_time(100, 50) == 100
    assert commit_time(100, 100 + DAY_NS) == 100 + DAY_NS
    assert commit_time(100, 101 + DAY_NS) == 100
