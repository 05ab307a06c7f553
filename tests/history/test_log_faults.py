"""Lost answers, late answers, a medium that contradicts itself: no commit is lost, none lands twice."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.foundation.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StorageError,
    StorageFullError,
)
from keepstone.foundation.format import WAITING_KEY, log_key
from keepstone.history.commit import Draft
from keepstone.history.slots import PUTS_MAX

TXN = b"one and the same"


def fail(times: int, faulty: Any, *, applied: bool, error: Exception | None = None) -> None:
    """Make the next `times` creations fail, before or after they take effect."""
    left = [times]

    def write_new(key: str, data: bytes) -> None:
        if not left[0]:
            return faulty.inner.write_new(key, data)
        left[0] -= 1
        if applied:
            faulty.inner.write_new(key, data)
        raise error or StorageError("the connection broke")

    faulty.on_write_new = write_new


def test_a_lost_answer_of_a_commit_that_landed_is_a_success(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(1, faulty, applied=True)

    commit = log.append(lambda state: make.ref("model", b"1"), txn=TXN)

    assert commit.txn == TXN
    assert log.state.length == 1
    assert make.log(faulty).state == log.state


def test_one_s_own_commit_reported_as_somebody_else_s_is_a_success(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(1, faulty, applied=True, error=ObjectExistsError("exists", key=log_key(0)))

    assert log.append(lambda state: make.ref("model", b"1"), txn=TXN).txn == TXN
    assert log.state.length == 1


def test_a_commit_that_did_not_land_is_put_again_to_the_same_slot(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(PUTS_MAX - 1, faulty, applied=False)

    log.append(lambda state: make.ref("model", b"1"))

    assert [key for verb, key in faulty.calls if verb == "write_new"] == [log_key(0)] * PUTS_MAX


def test_a_medium_that_keeps_failing_raises_its_first_error(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(PUTS_MAX, faulty, applied=False)

    with pytest.raises(StorageError, match="the connection broke"):
        log.append(lambda state: make.ref("model", b"1"))

    assert log.state.number == -1
    assert log.append(lambda state: make.ref("model", b"1")).number == 0


def test_reads_that_fail_after_a_lost_answer_do_not_double_the_commit(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    log.append(lambda state: Draft())
    fail(1, faulty, applied=True)
    broken = [2]

    def on_read(key: str) -> None:
        if broken[0] and key == log_key(1):
            broken[0] -= 1
            raise StorageError("the connection broke")

    faulty.on_read = on_read

    commit = log.append(lambda state: make.ref("model", b"1"), txn=TXN)

    assert commit.number == 1
    assert [c.txn for c in make.log(faulty).commits()].count(TXN) == 1


@pytest.mark.parametrize("landed_meanwhile", [True, False])
def test_repeating_a_failed_append_with_its_txn_commits_once(
    make: Any, faulty: Any, landed_meanwhile: bool
) -> None:
    log = make.log(faulty)
    late: list[bytes] = []

    def write_new(key: str, data: bytes) -> None:
        late.append(data)
        raise StorageError("the connection broke")

    faulty.on_write_new = write_new
    with pytest.raises(StorageError):
        log.append(lambda state: make.ref("model", b"1"), txn=TXN)
    faulty.on_write_new = faulty.inner.write_new
    if landed_meanwhile:
        faulty.inner.write_new(log_key(0), late[0])

    commit = log.append(lambda state: make.ref("model", b"1"), txn=TXN)

    assert commit.number == 0
    assert log.state.length == 1


def test_a_txn_that_landed_is_never_committed_again_however_often_making_it_durable_fails(
    make: Any, faulty: Any
) -> None:
    log = make.log(faulty)

    def landed_only(key: str, data: bytes) -> None:
        faulty.inner.write_new(key, data)
        raise StorageError("the folder cannot be synced", landed=True)

    def settle(prefix: str) -> None:
        raise StorageError("the folder cannot be synced")

    faulty.on_write_new, faulty.settle = landed_only, settle
    for _ in range(3):
        with pytest.raises(StorageError) as caught:
            log.append(lambda state: Draft(), txn=TXN)
        assert caught.value.landed
    faulty.on_write_new = faulty.inner.write_new
    del faulty.settle

    assert log.append(lambda state: Draft(), txn=TXN).number == 0
    assert log.state.length == 1


def test_a_late_landing_is_seen_by_the_next_append(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    late: list[bytes] = []

    def write_new(key: str, data: bytes) -> None:
        late.append(data)
        raise StorageError("the connection broke")

    faulty.on_write_new = write_new
    with pytest.raises(StorageError):
        log.append(lambda state: make.ref("first", b"1"), txn=TXN)

    def land_first(key: str, data: bytes) -> None:
        faulty.on_write_new = faulty.inner.write_new
        faulty.inner.write_new(log_key(0), late[0])
        faulty.inner.write_new(key, data)

    faulty.on_write_new = land_first
    assert log.append(lambda state: make.ref("second", b"1")).number == 1
    assert log.state.refs == {"first": b"1", "second": b"1"}


def test_an_interrupt_after_landing_does_not_double_the_commit(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(1, faulty, applied=True, error=KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        log.append(lambda state: make.ref("model", b"1"), txn=TXN)

    assert log.append(lambda state: make.ref("model", b"1"), txn=TXN).number == 0
    assert log.state.length == 1


def test_a_commit_that_landed_but_may_be_lost_is_folded_and_reported(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(1, faulty, applied=True, error=StorageError("fsync failed", landed=True))

    with pytest.raises(StorageError) as caught:
        log.append(lambda state: make.ref("model", b"1"))

    assert caught.value.landed
    assert log.state.refs == {"model": b"1"}
    assert [verb for verb, _ in faulty.calls].count("write_new") == 1


def test_a_full_medium_is_not_tried_again(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(9, faulty, applied=False, error=StorageFullError("no space", needed=5))

    with pytest.raises(StorageFullError):
        log.append(lambda state: Draft())

    assert [verb for verb, _ in faulty.calls].count("write_new") == 1


@pytest.mark.parametrize("is_silent_to_all", [False, True])
def test_a_medium_that_did_not_answer_is_not_asked_again_and_again(
    make: Any, faulty: Any, is_silent_to_all: bool
) -> None:
    """Storages of servers are patient themselves, for minutes: what is tried here as well, is tried for hours."""
    log = make.log(faulty)
    silence = StorageBusyError("no answer", path="bucket", hint="wait")
    asked: list[str] = []

    def ask(key: str, *_: object) -> Any:
        asked.append(key)
        raise silence

    faulty.on_write_new = ask
    if is_silent_to_all:
        faulty.on_read = ask

    with pytest.raises(StorageBusyError, match="no answer"):
        log.append(lambda state: make.ref("model", b"1"))
    assert asked == [log_key(0)] * (2 if is_silent_to_all else 1)


def test_a_medium_that_contradicts_itself_is_an_error_not_a_loop(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(99, faulty, applied=False, error=ObjectExistsError("exists", key=log_key(0)))

    with pytest.raises(StorageError, match="said to exist"):
        log.append(lambda state: Draft())


def test_a_lost_race_is_lost_at_the_slot_and_won_at_the_next(make: Any, faulty: Any) -> None:
    log, other = make.log(faulty), make.log(faulty.inner, writer=2)

    def write_new(key: str, data: bytes) -> None:
        faulty.on_write_new = faulty.inner.write_new
        other.append(lambda state: make.ref("other", b"1"))
        faulty.inner.write_new(key, data)

    faulty.on_write_new = write_new

    assert log.append(lambda state: make.ref("mine", b"1")).number == 1
    assert log.state.refs == {"other": b"1", "mine": b"1"}


def test_the_same_txn_committed_by_another_process_is_taken_for_one_s_own(make: Any, faulty: Any) -> None:
    log, other = make.log(faulty), make.log(faulty.inner, writer=2)

    def write_new(key: str, data: bytes) -> None:
        faulty.on_write_new = faulty.inner.write_new
        other.append(lambda state: Draft(seals=(b"j" * 16,)), txn=TXN)
        faulty.inner.write_new(key, data)

    faulty.on_write_new = write_new

    commit = log.append(lambda state: Draft(seals=(b"j" * 16,)), txn=TXN)

    assert (commit.number, commit.writer) == (0, (2).to_bytes(8, "big"))
    assert log.state.length == 1


def test_others_commits_are_settled_before_they_are_built_on(make: Any, faulty: Any) -> None:
    other = make.log(faulty.inner, writer=2)
    other.append(lambda state: Draft())
    log = make.log(faulty)

    log.append(lambda state: Draft())
    log.append(lambda state: Draft())
    assert [verb for verb, _ in faulty.calls if verb in ("settle", "write_new")] == [
        "settle",
        "write_new",
        "write_new",
    ]

    other.append(lambda state: Draft())
    log.append(lambda state: Draft())
    assert [verb for verb, _ in faulty.calls].count("settle") == 2


def test_others_commits_are_settled_before_one_answers_that_nothing_is_to_be_done(
    make: Any, faulty: Any
) -> None:
    make.log(faulty.inner, writer=2).append(lambda state: Draft())
    log = make.log(faulty)

    assert log.append(lambda state: None if state.length else Draft()) is None
    assert ("settle", "log/") in faulty.calls
    assert log.settle() == (0, log.state.hash)
    assert faulty.calls.count(("settle", "log/")) == 1


def test_one_s_own_commit_of_doubtful_durability_is_settled_too(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    fail(1, faulty, applied=True, error=StorageError("fsync failed", landed=True))
    with pytest.raises(StorageError):
        log.append(lambda state: Draft())

    log.append(lambda state: Draft())

    assert ("settle", "log/") in faulty.calls


def test_a_lone_writer_spends_one_request_a_commit(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    log.append(lambda state: Draft())
    faulty.calls.clear()

    for _ in range(10):
        log.append(lambda state: Draft())

    # One who goes on and on asks now and then whether others wait.
    asked = ("read_range", WAITING_KEY)
    assert faulty.calls.count(asked) <= 2
    assert [call for call in faulty.calls if call != asked] == [
        ("write_new", log_key(n)) for n in range(1, 11)
    ]


def test_nothing_new_costs_one_request(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    faulty.calls.clear()

    log.refresh()

    assert faulty.calls == [("read_range", log_key(0))]


def test_a_failed_txn_whose_slot_went_to_another_is_committed_behind_it(make: Any, faulty: Any) -> None:
    log, other = make.log(faulty), make.log(faulty.inner, writer=2)
    fail(PUTS_MAX, faulty, applied=False)
    with pytest.raises(StorageError):
        log.append(lambda state: make.ref("mine", b"1"), txn=TXN)
    other.append(lambda state: make.ref("other", b"1"))

    commit = log.append(lambda state: make.ref("mine", b"1"), txn=TXN)

    assert (commit.number, commit.txn) == (1, TXN)
    assert log.state.refs == {"other": b"1", "mine": b"1"}


def test_a_slow_refresh_does_not_set_the_state_back(make: Any, faulty: Any) -> None:
    log = make.log(faulty)
    make.log(faulty.inner, writer=2).append(lambda state: Draft())

    def on_read(key: str) -> None:
        if key == log_key(1):
            # While this refresh reads slot 1 as free, another thread fills it.
            faulty.on_read = lambda key: None
            log.append(lambda state: Draft())
            raise ObjectNotFoundError("free when it was read", key=key)

    faulty.on_read = on_read

    assert log.refresh().number == 1
    assert log.state.number == 1
