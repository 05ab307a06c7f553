"""Compression: what goes in comes out, in no more than the bytes that were announced."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.blobs.compression import (
    DICTIONARY_BYTES_MAX,
    DICTIONARY_RAW_BYTES_MIN,
    Decompressor,
    Dictionary,
    compress_many,
    new_compressor,
    train,
)
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import FRAME_RAW_BYTES_MAX
from keepstone.foundation.frame import NO_DICTIONARY


def record(i: int) -> bytes:
    return b'{"question": "what is %d times %d", "answer": "%d", "model": "reader"}' % (i, i + 1, i * i) * 12


RECORDS = [record(i) for i in range(1000)]


def no_dictionary(identity: bytes) -> bytes:
    raise AssertionError(identity)


def decompressed(stored: bytes, raw_size: int, dictionary: Dictionary | None = None) -> bytes:
    content = dictionary.content if dictionary else b""
    return Decompressor().decompress(
        stored,
        raw_size,
        dictionary.id if dictionary else NO_DICTIONARY,
        lambda identity: content,
        where="pack",
        offset=0,
    )


@given(raw=st.binary(min_size=1, max_size=5000), level=st.sampled_from([1, 3, 12]))
def test_any_bytes_come_back(raw: bytes, level: int) -> None:
    assert decompressed(new_compressor(level).compress(raw), len(raw)) == raw


@given(blobs=st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_blobs_compressed_together_come_back_one_by_one(blobs: list[bytes]) -> None:
    stored = compress_many(blobs, 3, None)

    assert [decompressed(s, len(raw)) for s, raw in zip(stored, blobs, strict=True)] == blobs


def test_a_dictionary_makes_small_texts_much_smaller() -> None:
    dictionary = train(RECORDS, sum(map(len, RECORDS)))
    assert dictionary is not None
    assert len(dictionary.content) <= DICTIONARY_BYTES_MAX

    shared = compress_many(RECORDS, 3, dictionary)

    assert sum(map(len, shared)) < 0.6 * sum(map(len, compress_many(RECORDS, 3, None)))
    assert [decompressed(s, len(r), dictionary) for s, r in zip(shared, RECORDS, strict=True)] == RECORDS


@pytest.mark.parametrize(
    ("blobs", "raw_bytes"),
    [(RECORDS, DICTIONARY_RAW_BYTES_MIN - 1), (RECORDS[:15], 10**7), ([b""] * 100, 10**7)],
    ids=["too little content", "too few samples", "nothing to learn"],
)
def test_no_dictionary_where_it_would_not_pay(blobs: list[bytes], raw_bytes: int) -> None:
    assert train(blobs, raw_bytes) is None


def test_more_bytes_than_announced_are_refused() -> None:
    with pytest.raises(MalformedError):
        decompressed(new_compressor(3).compress(b"a" * 1000), 999)


def test_an_announced_size_above_the_limit_allocates_nothing() -> None:
    with pytest.raises(MalformedError, match="claims"):
        decompressed(new_compressor(3).compress(b"a"), FRAME_RAW_BYTES_MAX + 1)


def test_bytes_that_are_no_zstd_are_refused() -> None:
    with pytest.raises(MalformedError) as caught:
        decompressed(b"not compressed", 100)
    assert caught.value.where == "pack"


def test_a_text_is_not_read_with_another_dictionary() -> None:
    right = train(RECORDS, sum(map(len, RECORDS)))
    other_texts = [bytes(reversed(raw)) for raw in RECORDS]
    wrong = train(other_texts, sum(map(len, other_texts)))
    assert right
    assert wrong
    (stored,) = compress_many(RECORDS[:1], 3, right)

    with pytest.raises(MalformedError):
        decompressed(stored, len(RECORDS[0]), wrong)


def test_many_threads_share_one_decompressor() -> None:
    stored = compress_many(RECORDS, 3, None)
    decompressor = Decompressor()
    wrong: list[int] = []

    def read() -> None:
        for i, raw in enumerate(RECORDS):
            got = decompressor.decompress(
                stored[i], len(raw), NO_DICTIONARY, no_dictionary, where="pack", offset=0
            )
            if got != raw:
                wrong.append(i)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_dictionaries_are_loaded_once_and_forgotten_one_by_one() -> None:
    loaded: list[bytes] = []
    decompressor = Decompressor()
    stored = new_compressor(3).compress(b"plain")

    def load(identity: bytes) -> bytes:
        loaded.append(identity)
        return b"some raw content to refer to" * 10

    for i in range(200):
        identity = i.to_bytes(8, "little")
        for _ in range(2):
            if i:
                decompressor.decompress(stored, 5, identity, load, where="pack", offset=0)

    assert len(loaded) == len(set(loaded)) == 199
