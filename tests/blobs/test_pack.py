"""Packs: whatever goes in comes out, with the footer and without it, and damage costs what it hits."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone.blobs.blobstore import BlobStore, PackPlace
from keepstone.blobs.footer import Entry
from keepstone.blobs.pack import TRAILER_BYTES, Pack, PackBuilder, footer_size, read_index
from keepstone.blobs.pack_scan import scan_blobs
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import KeepstoneError, MalformedError
from keepstone.foundation.format import Codec, Kind, Origin
from keepstone.storage.memory import MemoryStorage

blob_lists = st.lists(st.binary(max_size=400), max_size=12)


def build(blobs: list[bytes], *, at_once: bool = True) -> Pack:
    builder = PackBuilder(Origin.JOURNAL)
    rows = [(Digest.of(raw), raw) for raw in blobs]
    if at_once:
        builder.add_many(rows)
    else:
        for digest, raw in rows:
            builder.add(digest, raw)
    for i, (digest, _) in enumerate(rows):
        builder.add_entry("answers", Entry(f"q{i}", i, b"w" * 8, digest, 1))
    return builder.finish()


def opened(data: bytes, pack: Pack) -> tuple[BlobStore, PackPlace]:
    storage = MemoryStorage()
    storage.write_new("packs/x", data)
    return BlobStore(storage), PackPlace("packs/x", 0, len(pack.data), pack.footer_size)


def records(count: int) -> list[bytes]:
    return [b'{"question": "what is %d times %d?", "answer": %d}' % (i, i, i * i) * 30 for i in range(count)]


@given(blobs=blob_lists, at_once=st.booleans())
def test_any_blobs_come_back(blobs: list[bytes], at_once: bool) -> None:
    pack = build(blobs, at_once=at_once)
    store, where = opened(pack.data, pack)

    for raw in blobs:
        place = store.find(where, Digest.of(raw))
        assert place is not None
        assert store.read(place, Digest.of(raw)) == raw
    assert pack.digest == Digest.of(pack.data)
    assert store.index(where).blob_count == len(set(blobs))


@given(blobs=blob_lists)
def test_a_scan_without_the_footer_finds_every_blob(blobs: list[bytes]) -> None:
    pack = build(blobs)
    frames = pack.data[: -pack.footer_size]

    found = list(scan_blobs(frames, where="pack"))

    index = read_index(pack.data, where="pack")
    assert [blob.digest for blob in found] == [index.digest(i) for i in range(index.blob_count)]
    assert [blob.offset for blob in found] == [row.offset for row in index.rows]
    assert [blob.kind for blob in found] == [row.kind for row in index.rows]
    assert sum(blob.size for blob in found) == len(frames)


def test_a_scan_finds_blobs_that_need_a_dictionary() -> None:
    blobs = records(600)
    pack = build(blobs)
    assert any(row.codec == Codec.ZSTD_DICTIONARY for row in read_index(pack.data, where="pack").rows)

    found = {blob.digest for blob in scan_blobs(pack.data, where="pack") if blob.kind == Kind.BLOB}

    assert found == {Digest.of(raw) for raw in blobs}


@settings(max_examples=15)
@given(blobs=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), bit=st.integers(0, 7))
def test_one_flipped_byte_gives_the_right_bytes_or_an_error(blobs: list[bytes], bit: int) -> None:
    pack = build(blobs)
    for i in range(len(pack.data)):
        data = bytearray(pack.data)
        data[i] ^= 1 << bit
        store, where = opened(bytes(data), pack)
        for raw in blobs:
            try:
                place = store.find(where, Digest.of(raw))
                assert place is not None
                assert store.read(place, Digest.of(raw)) == raw
            except KeepstoneError:
                continue


@settings(max_examples=15)
@given(blobs=st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=5, unique=True))
def test_a_scan_behind_a_damaged_payload_finds_all_other_blobs(blobs: list[bytes]) -> None:
    pack = build(blobs)
    index = read_index(pack.data, where="pack")
    for position, row in enumerate(index.rows):
        data = bytearray(pack.data)
        data[row.offset + 16] ^= 0x40
        found = {blob.digest for blob in scan_blobs(bytes(data), where="pack")}
        others = {index.digest(i) for i in range(index.blob_count) if i != position}
        assert others <= found
        assert index.digest(position) not in found


def test_a_scan_steps_over_a_damaged_codec() -> None:
    pack = build([b"first", b"second"])
    data = bytearray(pack.data)
    data[3] = Codec.BYTE_PLANES

    assert Digest.of(b"second") in {blob.digest for blob in scan_blobs(bytes(data), where="pack")}


def test_equal_blobs_are_stored_once() -> None:
    once, twice = build([b"same" * 50]), build([b"same" * 50, b"same" * 50])

    assert read_index(twice.data, where="pack").blob_count == 1
    assert len(twice.data) - twice.footer_size == len(once.data) - once.footer_size


def test_incompressible_blobs_are_stored_as_they_are() -> None:
    raw = bytes(Digest.of(b"noise"))
    pack = build([raw], at_once=False)

    (row,) = read_index(pack.data, where="pack").rows
    assert (row.codec, row.stored_size, row.raw_size) == (Codec.RAW, 32, 32)


def test_equal_content_gives_equal_packs() -> None:
    assert build(records(40)).digest == build(records(40)).digest


def test_a_copy_of_a_builder_goes_its_own_way() -> None:
    first = PackBuilder(Origin.SAVE)
    first.add(Digest.of(b"shared"), b"shared")
    second = first.copy()
    second.add(Digest.of(b"more"), b"more")
    second.add_entry("answers", Entry("q", 1, b"w" * 8, Digest.of(b"more"), 1))

    assert Digest.of(b"more") not in first
    assert read_index(first.finish().data, where="pack").blob_count == 1
    assert read_index(second.finish().data, where="pack").blob_count == 2


def test_a_recipe_keeps_its_kind() -> None:
    builder = PackBuilder(Origin.SAVE)
    builder.add(Digest.of(b"whole"), b"the pieces", Kind.RECIPE)

    (row,) = read_index(builder.finish().data, where="pack").rows
    assert row.kind == Kind.RECIPE


def test_the_footer_is_found_from_the_last_bytes() -> None:
    pack = build([b"a", b"b"])

    assert footer_size(pack.data, where="pack") == pack.footer_size
    assert read_index(pack.data[-pack.footer_size :], where="pack").blob_count == 2


@pytest.mark.parametrize("size", [0, 1, TRAILER_BYTES - 1, TRAILER_BYTES, 60])
def test_a_tail_that_is_too_short_is_refused(size: int) -> None:
    pack = build([b"a", b"b"])

    with pytest.raises(MalformedError):
        read_index(pack.data[len(pack.data) - size :], where="pack")


def test_large_parts_are_handed_on_as_they_are_and_small_ones_joined() -> None:
    large = [os.urandom(100_000) for _ in range(3)]
    builder = PackBuilder(Origin.SAVE)
    for raw in [*large, *(os.urandom(40) for _ in range(300))]:
        builder.add(Digest.of(raw), raw)
    pack = builder.finish()

    chunks = list(pack.chunks())

    assert [chunk for chunk in chunks if len(chunk) == 100_000] == large
    # A header before each large part, and all that is small behind them in one.
    assert len(chunks) == 7
    assert Digest.of(b"".join(chunks)) == pack.digest
