"""The log without faults: opening, following, appending, many writers."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import msgspec
import pytest
from tests.faults.processes import needs_fork
from tests.history.conftest import count_up, put, step

from keepstone.foundation.errors import (
    InvalidInputError,
    RefConflictError,
    StoragePermissionError,
    UnsupportedFormatError,
)
from keepstone.history.commit import Draft
from keepstone.history.log import Log
from keepstone.history.state import State
from keepstone.history.validate import FEATURES_REF, StaleDraftError
from keepstone.storage.memory import MemoryStorage


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


@needs_fork
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
