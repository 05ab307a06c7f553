from __future__ import annotations

import gc
import pickle

import pytest
from tests.storage.contract import StorageContract

from keepstone.foundation.errors import InvalidInputError, ObjectNotFoundError, StoragePermissionError
from keepstone.storage.base import Storage
from keepstone.storage.memory import MemoryStorage


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()


def test_storages_of_one_location_share_their_objects() -> None:
    MemoryStorage("memory://shared/a").write_new("log/1", b"x")
    gc.collect()

    assert MemoryStorage("memory://shared/a").read("log/1") == b"x"
    assert list(MemoryStorage("memory://shared/b").list("")) == []


def test_a_storage_without_name_is_a_new_one_that_its_location_finds() -> None:
    first, second = MemoryStorage(), MemoryStorage("memory://")
    first.write_new("log/1", b"x")

    assert list(second.list("")) == []
    assert MemoryStorage(first.location).read("log/1") == b"x"


def test_the_copy_of_a_pickle_shares_the_objects() -> None:
    storage = MemoryStorage("memory://pickled", writable=True)
    copy = pickle.loads(pickle.dumps(storage))
    copy.write_hint("hint", b"x")

    assert storage.read("hint") == b"x"


def test_later_changes_of_a_buffer_do_not_reach_the_object() -> None:
    storage = MemoryStorage()
    buffer = bytearray(b"before")
    storage.write_new("log/1", buffer)  # type: ignore[arg-type]
    buffer[:] = b"after!"

    assert storage.read("log/1") == b"before"


def test_a_read_only_storage_refuses_every_change() -> None:
    storage = MemoryStorage("memory://read-only", writable=False)

    assert not storage.writable
    for change in (
        lambda: storage.write_new("a", b""),
        lambda: storage.write_hint("a", b""),
        lambda: storage.delete("a"),
    ):
        with pytest.raises(StoragePermissionError, match="reading only"):
            change()
    with pytest.raises(ObjectNotFoundError):
        storage.read("a")


def test_another_scheme_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not a location in memory"):
        MemoryStorage("s3://bucket")
