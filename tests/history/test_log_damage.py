"""A damaged log: without its inline packs it is read; with a gap, or a commit that is wrong, it is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.history.conftest import count_up, put

from keepstone.foundation.errors import CorruptionError, DivergedError, MalformedError
from keepstone.foundation.format import log_key
from keepstone.history.commit import Draft, trimmed
from keepstone.history.state import State
from keepstone.storage.memory import MemoryStorage


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
