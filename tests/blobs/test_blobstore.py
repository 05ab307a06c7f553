"""Reading out of packs: verified against the digest that was asked for, always."""

from __future__ import annotations

import threading

import pytest

from keepstone.blobs.blobstore import BlobStore, PackPlace, is_recipe
from keepstone.blobs.pack import Pack, PackBuilder
from keepstone.blobs.recipe import Piece, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    CorruptionError,
    DigestMismatchError,
    MalformedError,
)
from keepstone.foundation.format import Kind, Origin
from keepstone.storage.memory import MemoryStorage


def pack_of(*blobs: bytes) -> Pack:
    builder = PackBuilder(Origin.SAVE)
    for raw in blobs:
        builder.add(Digest.of(raw), raw)
    return builder.finish()


def put(storage: MemoryStorage, key: str, pack: Pack, before: bytes = b"") -> PackPlace:
    storage.write_new(key, before + pack.data)
    return PackPlace(key, len(before), len(pack.data), pack.footer_size)


def test_a_pack_behind_other_bytes_reads_alike() -> None:
    storage = MemoryStorage()
    where = put(storage, "log/0", pack_of(b"one", b"two" * 100), before=b"a commit's header")
    store = BlobStore(storage)

    for raw in (b"one", b"two" * 100):
        place = store.find(where, Digest.of(raw))
        assert place is not None
        assert store.read(place, Digest.of(raw)) == raw
    assert store.find(where, Digest.of(b"absent")) is None


def test_swapped_footers_never_give_another_s_bytes() -> None:
    first, second = pack_of(b"first value"), pack_of(b"other value")
    assert len(first.data) == len(second.data)
    mixed = first.data[: -first.footer_size] + second.data[-second.footer_size :]
    storage = MemoryStorage()
    storage.write_new("packs/x", mixed)
    store = BlobStore(storage)
    place = store.find(PackPlace("packs/x", 0, len(mixed), second.footer_size), Digest.of(b"other value"))
    assert place is not None

    with pytest.raises(DigestMismatchError) as caught:
        store.read(place, Digest.of(b"other value"))
    assert caught.value.actual == str(Digest.of(b"first value"))


def test_a_frame_copied_over_another_is_noticed() -> None:
    storage = MemoryStorage()
    pack = pack_of(b"first value", b"other value")
    store = BlobStore(MemoryStorage())
    index_place = PackPlace("packs/x", 0, len(pack.data), pack.footer_size)
    storage.write_new("packs/x", pack.data)
    store = BlobStore(storage)
    first, second = (store.place(index_place, i) for i in (0, 1))
    size = second.offset
    data = bytearray(pack.data)
    data[second.offset : second.offset + size] = data[first.offset : first.offset + size]
    storage.write_hint("packs/x", bytes(data))

    with pytest.raises(DigestMismatchError):
        store.read(second, Digest.of(b"other value"))
    assert store.read(first, Digest.of(b"first value")) == b"first value"


def test_a_pack_that_is_gone_says_so() -> None:
    storage = MemoryStorage()
    where = put(storage, "packs/x", pack_of(b"one"))
    store = BlobStore(storage)
    place = store.find(where, Digest.of(b"one"))
    assert place is not None
    storage.delete("packs/x")

    with pytest.raises(BlobNotFoundError):
        store.read(place, Digest.of(b"one"))
    with pytest.raises(BlobNotFoundError):
        BlobStore(storage).index(where)


def test_a_footer_is_read_once() -> None:
    storage = MemoryStorage()
    where = put(storage, "packs/x", pack_of(b"one"))
    store = BlobStore(storage)

    assert store.index(where) is store.index(where)
    storage.delete("packs/x")
    assert store.index(where).blob_count == 1


def test_a_dictionary_that_is_damaged_makes_no_wrong_bytes() -> None:
    records = [b'{"question": "what is %d?", "answer": %d}' % (i, i * i) * 40 for i in range(600)]
    builder = PackBuilder(Origin.JOURNAL)
    builder.add_many([(Digest.of(raw), raw) for raw in records])
    pack = builder.finish()
    data = bytearray(pack.data)
    data[1000] ^= 1
    storage = MemoryStorage()
    storage.write_new("packs/x", bytes(data))
    store = BlobStore(storage)
    where = PackPlace("packs/x", 0, len(data), pack.footer_size)
    assert store.index(where).footer.dictionaries

    for raw in records[:20]:
        place = store.find(where, Digest.of(raw))
        assert place is not None
        with pytest.raises(CorruptionError):
            store.read(place, Digest.of(raw))


def test_the_pieces_of_a_large_blob_come_in_order() -> None:
    pieces = [Piece(Digest.of(raw), len(raw)) for raw in (b"one", b"two", b"one")]
    whole = Digest.of(b"onetwoone")
    builder = PackBuilder(Origin.SAVE)
    builder.add(whole, encode_recipe(pieces), Kind.RECIPE)
    storage = MemoryStorage()
    store = BlobStore(storage)
    place = store.find(put(storage, "packs/x", builder.finish()), whole)
    assert place is not None

    assert is_recipe(place)
    assert store.read_pieces(place, whole) == pieces
    with pytest.raises(DigestMismatchError):
        store.read(place, whole)


def test_many_threads_read_at_once() -> None:
    blobs = [bytes([i]) * 500 for i in range(100)]
    storage = MemoryStorage()
    where = put(storage, "packs/x", pack_of(*blobs))
    store = BlobStore(storage)
    read: list[bytes] = []

    def work() -> None:
        for raw in blobs:
            place = store.find(where, Digest.of(raw))
            if place is not None:
                read.append(store.read(place, Digest.of(raw)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(read) == sorted(blobs * 4)


def test_as_many_footers_are_kept_as_fit_and_no_fewer() -> None:
    storage = MemoryStorage()
    packs = [put(storage, f"packs/{i}", pack_of(bytes([i]) * 50)) for i in range(40)]
    size = packs[0].footer_size
    store = BlobStore(storage, index_bytes_max=10 * size)
    for where in packs:
        store.index(where)

    kept = [where for where in packs if store.index(where) is store.index(where)]
    for where in packs[-10:]:
        storage.delete(where.key)

    assert len(kept) == len(packs)
    assert [store.index(where).blob_count for where in packs[-10:]] == [1] * 10


def test_another_pack_in_its_place_is_refused_though_it_is_sound() -> None:
    storage = MemoryStorage()
    where = put(storage, "packs/x", pack_of(b"one"))

    assert BlobStore(storage).index(where._replace(stamp_max=0)).blob_count == 1
    with pytest.raises(MalformedError, match="another pack"):
        BlobStore(storage).index(where._replace(stamp_max=5))
