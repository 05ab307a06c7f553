"""Checkpoints only save time: present, damaged, ahead or gone, the state is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import CorruptionError, StorageError
from keepstone.foundation.format import (
    CHECKPOINT_LAST_KEY,
    CHECKPOINT_PREFIX,
    Kind,
    checkpoint_key,
    log_key,
)
from keepstone.foundation.frame import encode_frame
from keepstone.history.checkpoint import (
    COMMITS_MIN,
    PIECE_BYTES,
    decode_checkpoint,
    encode_checkpoint,
    number_of,
)
from keepstone.history.commit import Draft
from keepstone.history.log import FAR_BEHIND, Log
from keepstone.history.state import State
from keepstone.storage.memory import MemoryStorage

LONG = COMMITS_MIN + 20


def keys(storage: MemoryStorage) -> list[str]:
    return [info.key for info in storage.list(CHECKPOINT_PREFIX) if info.key != CHECKPOINT_LAST_KEY]


def grow(log: Log, count: int) -> None:
    for _ in range(count):
        log.append(lambda state: Draft(message="x"))


@pytest.fixture
def grown(make: Any, storage: MemoryStorage) -> Log:
    """A log with one checkpoint and twenty commits behind it."""
    log = make.log(storage)
    log.append(lambda state: make.ref("model", b"1"))
    grow(log, LONG - 1)
    assert len(keys(storage)) == 1
    return log


def test_a_checkpoint_spares_reading_what_is_before_it(make: Any, faulty: Any, grown: Log) -> None:
    faulty.calls.clear()

    log = make.log(faulty)

    assert log.state == grown.state
    assert ("read_range", log_key(0)) not in faulty.calls
    assert ("list", CHECKPOINT_PREFIX) not in faulty.calls
    assert not [key for verb, key in faulty.calls if verb == "list" and key.startswith("log/")]


def delete_all(storage: MemoryStorage) -> None:
    for key in (*keys(storage), CHECKPOINT_LAST_KEY):
        storage.delete(key)


def delete_last(storage: MemoryStorage) -> None:
    storage.delete(CHECKPOINT_LAST_KEY)


def damage_last(storage: MemoryStorage) -> None:
    storage.write_hint(CHECKPOINT_LAST_KEY, b"\x00" * 10)


def dangling_last(storage: MemoryStorage) -> None:
    storage.delete(keys(storage)[0])


def damage_checkpoint(storage: MemoryStorage) -> None:
    key = keys(storage)[0]
    data = bytearray(storage.read(key))
    data[-1] ^= 1
    storage.write_hint(key, bytes(data))


def cut_checkpoint(storage: MemoryStorage) -> None:
    key = keys(storage)[0]
    storage.write_hint(key, storage.read(key)[:-1])


def empty_checkpoint(storage: MemoryStorage) -> None:
    storage.write_hint(keys(storage)[0], b"")


def strange_files(storage: MemoryStorage) -> None:
    delete_last(storage)
    for name in ("README", "9" * 20 + "-short", "x" * 20 + "-" + "0" * 64, "9" * 20 + "-" + "G" * 64):
        storage.write_new(CHECKPOINT_PREFIX + name, b"hello")


def newer_format(storage: MemoryStorage) -> None:
    delete_last(storage)
    data = encode_frame(Kind.FINAL, b"of a newer release")
    storage.write_new(checkpoint_key(LONG - 1, Digest.of(data).hex()), data)


def ahead_of_the_log(storage: MemoryStorage) -> None:
    """As after restoring the log, or losing its end, but not the checkpoints."""
    state = decode_checkpoint(storage.read(keys(storage)[0]), where="here")
    fields = {name: getattr(state, name) for name in State.__struct_fields__}
    write_checkpoint(storage, State(**fields | {"number": LONG + 50}))


def of_another_history(storage: MemoryStorage) -> None:
    (key,) = keys(storage)
    state = decode_checkpoint(storage.read(key), where="here")
    storage.delete(key)
    fields = {name: getattr(state, name) for name in State.__struct_fields__}
    write_checkpoint(storage, State(**fields | {"hash": b"x" * 32, "refs": {"model": b"wrong"}}))


def under_another_s_name(storage: MemoryStorage) -> None:
    (key,) = keys(storage)
    state = decode_checkpoint(storage.read(key), where="here")
    fields = {name: getattr(state, name) for name in State.__struct_fields__}
    storage.write_hint(key, encode_checkpoint(State(**fields | {"refs": {"model": b"wrong"}})))


def write_checkpoint(storage: MemoryStorage, state: State) -> None:
    storage.delete(CHECKPOINT_LAST_KEY)
    data = encode_checkpoint(state)
    storage.write_new(checkpoint_key(state.number, Digest.of(data).hex()), data)


@pytest.mark.parametrize(
    "trouble",
    [
        delete_all,
        delete_last,
        damage_last,
        dangling_last,
        damage_checkpoint,
        cut_checkpoint,
        empty_checkpoint,
        strange_files,
        newer_format,
        ahead_of_the_log,
        of_another_history,
        under_another_s_name,
    ],
)
def test_trouble_with_checkpoints_changes_only_speed(
    make: Any, storage: MemoryStorage, grown: Log, trouble: Callable[[MemoryStorage], None]
) -> None:
    trouble(storage)

    log = make.log(storage)

    assert log.state == grown.state
    assert log.state_at(LONG - 5) == grown.state_at(LONG - 5)
    log.append(lambda state: make.ref("model", b"2", old=b"1"))
    assert grown.refresh() == log.state


def test_a_log_shorter_than_its_checkpoint_is_continued_without_a_hole(
    make: Any, storage: MemoryStorage, grown: Log
) -> None:
    for number in range(100, LONG):
        storage.delete(log_key(number))

    log = make.log(storage)
    commit = log.append(lambda state: Draft())

    assert commit is not None
    assert commit.number == 100
    assert make.log(storage).state.length == 101


def test_a_last_that_is_far_behind_is_not_followed(
    make: Any, storage: MemoryStorage, faulty: Any, grown: Log
) -> None:
    old_last = storage.read(CHECKPOINT_LAST_KEY)
    grow(grown, 3 * FAR_BEHIND)
    storage.write_hint(CHECKPOINT_LAST_KEY, old_last)

    log = make.log(faulty)

    assert log.state == grown.state
    newest = number_of(keys(storage)[-1])
    assert newest is not None
    read = [key for verb, key in faulty.calls if verb == "read_range"]
    assert log_key(newest - 1) not in read
    assert log_key(newest + 1) in read


def test_a_storage_that_cannot_list_is_opened_all_the_same(make: Any, faulty: Any, grown: Log) -> None:
    def refuse(prefix: str) -> None:
        raise StorageError("listing is not offered here")

    faulty.list = refuse
    faulty.inner.delete(CHECKPOINT_LAST_KEY)

    assert make.log(faulty).state == grown.state


def test_no_checkpoint_is_written_for_few_commits(make: Any, storage: MemoryStorage) -> None:
    grow(make.log(storage), COMMITS_MIN)

    assert keys(storage) == []


def test_a_large_state_waits_for_a_long_tail(make: Any, storage: MemoryStorage) -> None:
    log = make.log(storage)
    for number in range(5):
        names = [f"{number} {i}" for i in range(3000)]
        log.append(
            lambda state, names=names: Draft(
                refs=sum((make.ref(n, Digest.of(n.encode())).refs for n in names), ())
            )
        )
    grow(log, COMMITS_MIN)
    size = storage.size(keys(storage)[0])

    grow(log, COMMITS_MIN + 50)

    assert size > 4 * (COMMITS_MIN + 50) * 250
    assert len(keys(storage)) == 1


def test_a_second_writer_does_not_write_its_own(make: Any, storage: MemoryStorage) -> None:
    logs = [make.log(storage, writer=1), make.log(storage, writer=2)]
    for _ in range(COMMITS_MIN + 5):
        grow(logs[0], 1)
        grow(logs[1], 1)

    assert len(keys(storage)) == 2


def test_a_checkpoint_that_cannot_be_written_fails_no_commit(make: Any, faulty: Any) -> None:
    def write_new(key: str, data: bytes) -> None:
        if key.startswith(CHECKPOINT_PREFIX):
            raise StorageError("no room for extras")
        faulty.inner.write_new(key, data)

    faulty.on_write_new = write_new
    log = make.log(faulty)

    grow(log, LONG)

    assert log.state.length == LONG
    assert len([key for _, key in faulty.calls if key.startswith(CHECKPOINT_PREFIX + "0")]) == 1


def test_a_reader_writes_no_checkpoint(make: Any, storage: MemoryStorage, grown: Log) -> None:
    delete_all(storage)

    make.log(MemoryStorage(storage.location, writable=False)).refresh()
    make.log(storage).refresh()

    assert keys(storage) == []


def test_a_flipped_byte_anywhere_in_a_checkpoint_is_corruption(make: Any) -> None:
    data = encode_checkpoint(make.fold(make.inline("a"), make.ref("model", b"1")))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(CorruptionError):
            decode_checkpoint(bytes(damaged), where="here")


def test_a_state_longer_than_a_frame_is_cut_and_joined(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepstone.history.checkpoint.PIECE_BYTES", 100)
    state = make.fold(Draft(refs=sum((make.ref(f"name {i}", b"value").refs for i in range(50)), ())))

    data = encode_checkpoint(state)

    assert data.count(b"KPST") > 5
    assert PIECE_BYTES > 100
    assert decode_checkpoint(data, where="here") == state
    with pytest.raises(CorruptionError):
        decode_checkpoint(data[: data.rindex(b"KPST")], where="here")
