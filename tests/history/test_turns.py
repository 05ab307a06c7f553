"""Many writers at one far-away log: nothing is lost, nobody starves, and few requests are in vain."""

from __future__ import annotations

from typing import Any

import pytest
from tests.history.conftest import NOW_NS, STORE_ID, FaultyStorage, count_up
from tests.history.simulated_time import READ_SECONDS, WORK_SECONDS, WRITE_SECONDS, Crowd

from keepstone.foundation.format import WAITING_KEY
from keepstone.history.commit import NO_PARENT, Commit
from keepstone.history.turns import (
    ASK_SLOTS,
    COURTESY_SECONDS,
    KNOWN_COMMITS,
    LOSSES,
    RECENT_SECONDS,
    SILENCE_SECONDS_MAX,
    Turns,
)
from keepstone.history.waiting import Waiting, read_waiting, write_waiting
from keepstone.storage.memory import MemoryStorage

BOUND = 128
"""So many commits of one who is fast may come before that of one who is not."""
EIGHT = {f"writer-{number}": 12 for number in range(8)}


def test_eight_writers_lose_nothing_and_none_of_them_starves(storage: MemoryStorage, make: Any) -> None:
    crowd = Crowd(storage, EIGHT, {})

    log = make.log(storage)
    assert [commit.txn for commit in log.commits()] == [
        commit.txn for commit in sorted(crowd.landed, key=lambda c: c.number)
    ]
    assert log.state.length == len(crowd.landed) == sum(EIGHT.values())
    assert all(log.state.refs[name] == b"12" for name in EIGHT)
    times = [commit.time for commit in log.commits()]
    assert times == sorted(times)
    # In turns it would be 7; the first round has no order yet.
    assert max(crowd.overtaken) <= 6 * len(EIGHT)
    assert max(crowd.tries) <= 4 * len(EIGHT)


def test_eight_writers_make_few_requests_in_vain(storage: MemoryStorage) -> None:
    crowd = Crowd(storage, EIGHT, {})

    commits = sum(EIGHT.values())
    # Each has to read what the seven others wrote; at first, when all begin at once, there is no order.
    assert crowd.total("write") <= 3 * commits
    assert crowd.total("read") <= 16 * commits


def test_one_who_appends_without_a_pause_lets_others_in(storage: MemoryStorage) -> None:
    crowd = Crowd(storage, {"busy": 60, "late": 3}, {"late": 0.5})

    assert max(crowd.waits["late"]) < 4 * (ASK_SLOTS + 1) * (READ_SECONDS + WRITE_SECONDS)


def test_who_appends_alone_hardly_slows_down(storage: MemoryStorage) -> None:
    crowd = Crowd(storage, {"busy": 80}, {})

    asked = crowd.total("ask")
    assert 0 < asked <= 80 / ASK_SLOTS
    assert crowd.total("write") == 80
    # One more write: of the hint that names a checkpoint.
    assert crowd.clock.now < 81 * (WRITE_SECONDS + WORK_SECONDS) + (asked + 8) * READ_SECONDS


@pytest.mark.parametrize(
    ("slowness", "writers"),
    [(5.0, 2), *(pytest.param(slow, 7, marks=pytest.mark.long) for slow in (1.2, 1.5, 2.0, 3.0, 5.0))],
)
def test_who_is_slow_gets_in_beside_one_who_is_fast(
    storage: MemoryStorage, slowness: float, writers: int
) -> None:
    slow = {f"slow{number}": 3 for number in range(writers)}
    crowd = Crowd(storage, {"fast": 120 * writers, **slow}, {}, dict.fromkeys(slow, slowness))

    # Until one has lost three times, has said so and is heard; the others come in behind it.
    assert max(crowd.overtaken) <= BOUND + 10 * writers
    assert max(crowd.waits["fast"]) < 2 * COURTESY_SECONDS


def test_who_is_gone_is_not_waited_for(storage: MemoryStorage) -> None:
    crowd = Crowd(storage, {**EIGHT, "last": 60}, {})

    alone = crowd.waits["last"][-20:]
    assert sum(alone) / len(alone) < 2 * (READ_SECONDS + WRITE_SECONDS)


def test_without_others_there_is_nothing_to_wait_for() -> None:
    turns = Turns(MemoryStorage(), b"me      ")

    assert not turns.has_others
    assert not turns.should_look(0)
    assert [turns.pause(number) for number in range(20)] == [0.0] * 20
    assert turns.ahead == 1


@pytest.mark.parametrize("writers", [2, 3, 20])
def test_any_number_of_writers_finds_an_order(storage: MemoryStorage, writers: int) -> None:
    each = 6 if writers < 20 else 3
    crowd = Crowd(storage, {f"w{number}": each for number in range(writers)}, {})

    assert len({commit.number for commit in crowd.landed}) == each * writers
    assert max(crowd.overtaken) <= 6 * max(writers, ASK_SLOTS)


class Heard:
    """The turns of one writer, `me`, who hears of commits that are made one after the other."""

    def __init__(self) -> None:
        self.now = 0.0
        self.storage = MemoryStorage()
        self.turns = Turns(self.storage, b"me      ", now=lambda: self.now)
        self.number = 0

    def hear(self, *writers: str) -> None:
        for writer in writers:
            self.now += READ_SECONDS + WRITE_SECONDS
            self.turns.note([self._commit(writer)])
            self.number += 1

    def _commit(self, writer: str) -> Commit:
        return Commit(
            number=self.number,
            parent=NO_PARENT,
            txn=bytes(16),
            store=STORE_ID,
            writer=writer.encode().ljust(8),
            time=NOW_NS + int(self.now * 1e9),
        )

    def go_on_alone_to(self, number: int) -> None:
        """Commit one after the other, from where others may be heard of."""
        self.hear(*["me"] * (number - self.number))

    def wait_in_silence(self) -> float:
        """Return how long it takes until it is one's turn, if nobody else says anything."""
        began = self.now
        while pause := self.turns.pause(self.number):
            self.now += pause
            self.turns.note_pause(pause)
            self.now += READ_SECONDS
            self.turns.note_read(READ_SECONDS, is_all=True)
        return self.now - began


def test_who_stays_gets_his_turn_among_many_who_append_once() -> None:
    heard = Heard()
    heard.hear("a", "b", "c", "me")

    passed = 0
    while heard.turns.pause(heard.number):
        heard.hear(f"once{passed}")
        passed += 1
        assert passed <= KNOWN_COMMITS

    # a, b and c are not waited for, who have gone; but in a crowd nobody goes before his turn.
    assert passed > 3


def test_after_a_quiet_time_nobody_is_waited_for() -> None:
    heard = Heard()
    heard.hear(*[f"w{number}" for number in range(30)], "me")
    assert heard.turns.pause(heard.number)

    heard.now += RECENT_SECONDS

    # Who knows what happened meanwhile looks first, and does not ask for many commits that are hardly there.
    assert heard.turns.should_look(0)
    assert heard.turns.ahead == 1
    assert heard.wait_in_silence() == 0


def test_a_commit_that_took_a_minute_makes_nobody_wait_for_minutes() -> None:
    heard = Heard()
    heard.turns.note_write(60)
    heard.turns.note_read(60, is_all=True)
    heard.hear(*[f"w{number}" for number in range(30)], "me")

    assert 1 < heard.wait_in_silence() < SILENCE_SECONDS_MAX + 1.5


def test_who_says_that_he_waits_is_let_in_once() -> None:
    heard = Heard()
    heard.go_on_alone_to(2 * ASK_SLOTS)
    write_waiting(heard.storage, Waiting(b"other   ", heard.number - 1, 10**9))

    # It is dead.
    assert COURTESY_SECONDS <= heard.wait_in_silence() < COURTESY_SECONDS + 0.1
    for slots in range(3, 9):
        heard.go_on_alone_to(slots * ASK_SLOTS)
        assert not heard.turns.pause(heard.number)

    # It was slow, and lost again.
    write_waiting(heard.storage, Waiting(b"other   ", heard.number - 1, 10**9))
    assert heard.turns.pause(heard.number + ASK_SLOTS)
    assert heard.turns.has_others
    heard.hear("other")
    assert not heard.turns.pause(heard.number)


@pytest.mark.parametrize(
    ("writer", "number"),
    [
        pytest.param("other", 3, id="who_has_made_his_commit_since"),
        pytest.param("older", 2, id="of_whom_nobody_here_knows_what_became"),
        pytest.param("me", 20, id="oneself"),
    ],
)
def test_an_old_hint_makes_nobody_wait(writer: str, number: int) -> None:
    heard = Heard()
    heard.number = 3
    heard.hear("other")
    heard.go_on_alone_to(3 * ASK_SLOTS)
    write_waiting(heard.storage, Waiting(writer.encode().ljust(8), number, 10**9))

    assert not heard.turns.pause(heard.number)
    heard.go_on_alone_to(4 * ASK_SLOTS)
    assert heard.wait_in_silence() == 0


@pytest.mark.parametrize("data", [b"", b"x" * 23, b"x" * 25, b"x" * 1000])
def test_a_hint_that_says_nothing_is_none(storage: MemoryStorage, data: bytes) -> None:
    assert read_waiting(storage) is None
    storage.write_hint(WAITING_KEY, data)
    assert read_waiting(storage) is None


def test_any_hint_costs_a_moment_at_most() -> None:
    heard = Heard()
    heard.go_on_alone_to(2 * ASK_SLOTS)
    heard.storage.write_hint(WAITING_KEY, b"\xff" * 24)

    assert heard.wait_in_silence() < COURTESY_SECONDS + 0.1
    heard.go_on_alone_to(3 * ASK_SLOTS)
    assert heard.wait_in_silence() == 0


def test_who_loses_again_and_again_says_so() -> None:
    heard = Heard()
    heard.hear("other")
    for losses in range(1, LOSSES + 1):
        assert read_waiting(heard.storage) is None
        heard.turns.note_loss(0.5 * losses)
        heard.turns.tell(7)

    told = read_waiting(heard.storage)
    assert told is not None
    assert told[:2] == (b"me      ", 7)
    assert WRITE_SECONDS < told.nanoseconds / 1e9 < 2
    # Who has said so reads all there is before every attempt.
    assert heard.turns.should_look(1)
    heard.turns.note_write(0.1)
    assert not heard.turns.should_look(1)


def test_who_asks_nobody_for_their_turn_makes_no_more_requests(faulty: FaultyStorage, make: Any) -> None:
    faulty.reads_at_once = 1
    one, other = make.log(faulty), make.log(faulty, writer=2)
    for _ in range(3 * ASK_SLOTS):
        count_up(one)
        count_up(other)

    assert WAITING_KEY not in {key for _, key in faulty.calls}


def test_nobody_needs_the_right_to_say_that_he_waits() -> None:
    storage = MemoryStorage(writable=False)
    turns = Turns(storage, b"me      ")
    for _ in range(LOSSES):
        turns.note_loss(0.1)

    turns.tell(7)

    assert read_waiting(storage) is None
    assert not turns.pause(7)
