"""Media that say of an object that it exists, and it is not there: removed in between, or a wrong answer."""

from __future__ import annotations

import pytest

from keepstone.blobs.pack import PackBuilder
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ObjectExistsError, StorageBusyError, StorageError
from keepstone.foundation.format import Origin
from keepstone.repository.identity import create_identity, read_identity
from keepstone.repository.pack_writing import put_pack, record_of
from keepstone.storage.memory import MemoryStorage


class Mistaken(MemoryStorage):
    """Says so often that a key is taken."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def write_new(self, key: str, data: bytes) -> None:
        if self.times:
            self.times -= 1
            raise ObjectExistsError(f"{key} exists", key=key)
        super().write_new(key, data)


def test_a_pack_that_is_said_to_exist_and_does_not_is_put_again() -> None:
    pack = small_pack()
    storage = Mistaken(2)

    put_pack(storage, record_of(pack, 0), pack.chunks)

    assert [storage.read(info.key) for info in storage.list("")] == [pack.data]


def test_a_medium_that_goes_on_saying_so_is_an_error_that_says_it() -> None:
    pack = small_pack()

    with pytest.raises(StorageError, match="said to exist, but reading finds nothing") as caught:
        put_pack(Mistaken(99), record_of(pack, 0), pack.chunks)
    assert caught.value.path
    assert caught.value.hint
    assert not caught.value.landed


def test_a_store_that_is_said_to_exist_and_does_not_is_made() -> None:
    storage = Mistaken(1)

    assert create_identity(storage, locks="local") == read_identity(storage)

    with pytest.raises(StorageBusyError, match="said to exist, and is not there"):
        create_identity(Mistaken(99), locks="local")


def small_pack():  # type: ignore[no-untyped-def]
    builder = PackBuilder(Origin.SAVE)
    builder.add_many([(Digest.of(b"a"), b"a")])
    return builder.finish()
