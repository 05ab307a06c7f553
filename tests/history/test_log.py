"""The log without faults: opening, following, appending, looking back, many writers."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import msgspec
import pytest

from keepstone.foundation.errors import (
    CorruptionError,
    DivergedError,
    InvalidInputError,
    MalformedError,
    NotFoundError,
    RefConflictError,
    StoragePermissionError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import log_key
from keepstone.history.commit import Commit, Draft, encode_commit, trimmed
from keepstone.history.log import DAY_NS, Log, commit_time
from keepstone.history.state import State
from keepstone.history.validate import FEATURES_REF, StaleDraftError
from keepstone.storage.memory import MemoryStorage


def count_up(log: Log, name: str = "counter", times: int = 1) -> None:
    """Add one to a ref `times` times, as anybody would who rebases by itself."""
    for _ in range(times):
        log.append(lambda state: step(state, name))


def step(state: State, name: str) -> Draft:
    from keepstone.history.commit import RefChange

    old = state.refs.get(name)
    return Draft(refs=(RefChange(name, old, str(int(old or b"0") + 1).encode()),))


def test_an_empty_store_opens_before_commit_0(make: Any, storage: MemoryStorage) -> None:
    assert make.log(storage).state == State()


def test_what_is_appended_is_in_the_state_and_in_every_other_log(make: Any, storage: MemoryStorage) -> None:
    log, other = make.log(storage), make.log(storage, writer=2)

    commit = log.append(lambda state: make.ref("model", b"1"))

    assert commit is not None
    assert (commit.number, commit.writer, commit.hash) == (0, (1).to_bytes(8, "big"), log.state.hash)
    assert log.state.refs == {"model": b"1"}
    assert other.state.number == -1
    assert other.refresh() == log.state == make.log(storage).state


def test_the_inline_pack_lies_where_the_state_says(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    log.append(lambda state: make.inline("content"))

    (pack,) = log.state.packs.values()

    assert storage.read_range(pack.key, pack.offset, pack.offset + pack.record.size) == b"content"


def test_nothing_to_do_makes_no_commit(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)

    assert log.append(lambda state: None) is None
    assert log.state.number == -1


def test_nothing_to_do_is_believed_only_of_the_newest_state(make: Any, storage: MemoryStorage) -> None:
    log, other = make.log(storage), make.log(storage)
    other.append(lambda state: make.ref("model", b"1"))

    commit = log.append(lambda state: make.ref("seen", b"1") if state.refs else None)

    assert commit is not None
    assert commit.number == 1


def test_a_conflict_is_believed_only_of_the_newest_state(make: Any, storage: MemoryStorage) -> None:
    log, other = make.log(storage), make.log(storage)
    other.append(lambda state: make.ref("model", b"1"))

    log.append(lambda state: make.ref("model", b"2", old=b"1"))

    assert log.state.refs == {"model": b"2"}


def test_a_lost_expectation_reaches_the_caller(make: Any, storage: MemoryStorage) -> None:
    log, other = make.log(storage), make.log(storage)
    other.append(lambda state: make.ref("model", b"1"))

    with pytest.raises(RefConflictError):
        log.append(lambda state: make.ref("model", b"2"))

    assert log.state.number == 0


def test_the_builder_is_called_again_when_its_draft_went_stale(make: Any, storage: MemoryStorage) -> None:
    log, other = make.log(storage), make.log(storage)
    other.append(lambda state: Draft(add=(make.record("a"),)))
    log.refresh()
    other.append(lambda state: Draft(drop=(make.name("a"),)))
    seen: list[int] = []

    def build(state: State) -> Draft:
        seen.append(state.number)
        return (
            Draft(needs=(make.name("a"),)) if make.name("a") in state.packs else Draft(message="looked again")
        )

    commit = log.append(build)

    assert seen == [0, 1]
    assert commit is not None
    assert commit.message == "looked again"


def test_a_builder_that_never_fits_is_given_up(make: Any, storage: MemoryStorage) -> None:
    with pytest.raises(StaleDraftError, match="not live") as caught:
        make.log(storage).append(lambda state: Draft(needs=(make.name("never"),)))

    assert caught.value.rule == "NEEDS"


def test_a_draft_above_the_limits_is_refused(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)

    with pytest.raises(InvalidInputError):
        log.append(lambda state: Draft(message="x" * 100_000))
    assert log.append(lambda state: Draft()).number == 0


def test_a_read_only_storage_is_not_appended_to(make: Any, storage: MemoryStorage) -> None:
    make.log(storage).append(lambda state: make.ref("model", b"1"))

    log = make.log(MemoryStorage(storage.location, writable=False))

    assert log.state.refs == {"model": b"1"}
    with pytest.raises(StoragePermissionError):
        log.append(lambda state: Draft())


def put(storage: MemoryStorage, commit: Commit) -> None:
    storage.write_new(log_key(commit.number), encode_commit(commit))


def test_an_unknown_write_feature_forbids_appending_only(make: Any, storage: MemoryStorage) -> None:
    put(
        storage,
        make.next_commit(State(), make.ref(FEATURES_REF, msgspec.msgpack.encode({"write": ["leases"]}))),
    )

    log = make.log(storage)

    assert log.state.read_only
    with pytest.raises(UnsupportedFormatError):
        log.append(lambda state: Draft())


def test_an_unknown_read_feature_refuses_to_open(make: Any, storage: MemoryStorage) -> None:
    put(
        storage,
        make.next_commit(State(), make.ref(FEATURES_REF, msgspec.msgpack.encode({"read": ["groups"]}))),
    )

    with pytest.raises(UnsupportedFormatError):
        make.log(storage)


@pytest.mark.parametrize("length", [1, 4, 5, 20, 21, 37, 150, 300])
def test_a_tail_of_any_length_is_read_whole(make: Any, storage: MemoryStorage, length: int) -> None:
    log, behind = make.log(storage), make.log(storage)
    count_up(log, times=length)

    assert behind.refresh() == log.state
    assert make.log(storage).state == log.state
    assert log.state.refs == {"counter": str(length).encode()}


# ---- looking back --------------------------------------------------------------------------------------


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


# ---- damage --------------------------------------------------------------------------------------------


def test_trimmed_slots_decode_and_chain(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    for content in "abcdef":
        log.append(lambda state, content=content: make.inline(content))
    for number in (0, 3, 5):
        storage.write_hint(log_key(number), trimmed(storage.read(log_key(number)), where="here"))

    assert make.log(storage).state == log.state
    assert len(list(log.commits())) == 6
    count_up(make.log(storage))


def test_damage_in_an_inline_pack_leaves_the_log_readable(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    log.append(lambda state: make.inline("content"))
    storage.write_hint(log_key(0), storage.read(log_key(0))[:-1] + b"?")

    assert make.log(storage).state == log.state


@pytest.mark.parametrize("number", [0, 2, 4, 7])
def test_a_damaged_header_refuses_to_open(make: Any, storage: MemoryStorage, number: int) -> None:
    count_up(make.log(storage), times=8)
    data = bytearray(storage.read(log_key(number)))
    data[-1] ^= 1
    storage.write_hint(log_key(number), bytes(data))

    with pytest.raises(CorruptionError, match=f"commit {number} "):
        make.log(storage)


def test_a_gap_in_a_long_tail_is_found_at_opening(make: Any, storage: MemoryStorage) -> None:
    count_up(make.log(storage), times=20)
    storage.delete(log_key(9))

    with pytest.raises(MalformedError, match=r"commit 9 .* missing"):
        make.log(storage)


def test_a_log_with_a_gap_is_neither_read_nor_filled(make: Any, storage: MemoryStorage) -> None:
    count_up(make.log(storage), times=4)
    storage.delete(log_key(2))

    # Read as far as the gap it would give old values, and nothing to tell that they are.
    with pytest.raises(MalformedError, match=r"commit 2 .* missing"):
        make.log(storage)


def test_a_commit_in_the_wrong_slot_is_corruption(make: Any, storage: MemoryStorage) -> None:
    count_up(make.log(storage), times=3)
    storage.write_hint(log_key(1), storage.read(log_key(2)))

    with pytest.raises(MalformedError, match="holds commit 2"):
        make.log(storage)


def test_a_commit_of_another_store_is_refused(make: Any, storage: MemoryStorage) -> None:
    foreign = msgspec.structs.replace(make.next_commit(State(), Draft()), store=b"another")
    put(storage, foreign)

    with pytest.raises(DivergedError):
        make.log(storage)


def test_a_log_replaced_by_another_one_has_diverged(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    count_up(log, times=2)
    storage.delete(log_key(1))
    count_up(make.log(storage), "another", times=2)

    with pytest.raises(DivergedError):
        log.refresh()


def test_a_rule_broken_by_another_program_names_commit_and_rule(make: Any, storage: MemoryStorage) -> None:
    put(storage, make.next_commit(State(), Draft(drop=(make.name("never"),))))

    with pytest.raises(MalformedError, match=r"commit 0 .*only live packs are dropped"):
        make.log(storage)


# ---- many writers --------------------------------------------------------------------------------------


def test_eight_threads_on_two_logs_lose_and_double_nothing(make: Any, storage: MemoryStorage) -> None:
    logs = [make.log(storage, writer=1), make.log(storage, writer=2)]
    landed: list[bytes] = []

    def work(log: Log, name: str) -> None:
        for number in range(15):
            txn = f"{name}-{number}".encode().ljust(16)
            commit = log.append(
                lambda state: Draft(refs=step(state, "all").refs + step(state, name).refs), txn=txn
            )
            assert commit is not None
            landed.append(commit.txn)
            assert log.state.number >= commit.number

    threads = [
        threading.Thread(target=work, args=(log, f"{i}{j}")) for i, log in enumerate(logs) for j in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    log = make.log(storage)
    assert sorted(commit.txn for commit in log.commits()) == sorted(landed)
    assert len(set(landed)) == log.state.length == 120
    assert log.state.refs["all"] == b"120"
    assert all(log.state.refs[f"{i}{j}"] == b"15" for i in range(2) for j in range(4))
    assert all(one.refresh() == log.state for one in logs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_log_survives_fork_while_another_thread_appends(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    count_up(log)
    inside, done = threading.Event(), threading.Event()

    def build(state: State) -> Draft:
        inside.set()
        done.wait(30)
        return step(state, "counter")

    thread = threading.Thread(target=lambda: log.append(build))
    thread.start()
    inside.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # A child that waits for a lost lock must not make the test wait too.
        try:
            log.after_fork(b"childchi")
            count_up(log, "child")
            ok = log.state.refs == {"counter": b"1", "child": b"1"} and log.commit_at(1).writer == b"childchi"
            os._exit(0 if ok else 1)
        finally:
            os._exit(2)
    done.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log.state.refs == {"counter": b"2"}
