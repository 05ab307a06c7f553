"""Whatever bytes lie on the disk: a value or an error of ours comes out, within bounded memory and time."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from tests.faults.fuzz_decoders import targets

from keepstone.blobs import pack_frame
from keepstone.blobs.blobstore import BlobStore, PackPlace
from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import PackIndex
from keepstone.blobs.pack import PackBuilder, footer_size, read_index
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import CorruptionError, MalformedError
from keepstone.foundation.format import Codec, Kind, Origin
from keepstone.foundation.frame import NO_DICTIONARY, decompress
from keepstone.storage.memory import MemoryStorage

EVERYDAY_COUNT, THOROUGH_COUNT, LONG_COUNT = 400, 800, 80_000
"""Inputs for each decoder."""
PEAK_BYTES_MAX = 256 * 1024 * 1024
"""Of the whole process: one frame may hold 64 MiB, and be there compressed and raw."""
TOLERANT = {"pack frame", "pack frame, sealed", "scan", "values"}
"""They go on behind what they cannot read."""
CLAIMING = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 2**40) + b"\x01\0\0"
"""zstd whose own header claims a tebibyte."""


@pytest.mark.timeout(3_600)
def test_no_bytes_make_a_decoder_fail_in_a_way_of_its_own(
    is_thorough: bool, request: pytest.FixtureRequest
) -> None:
    count = THOROUGH_COUNT if is_thorough else EVERYDAY_COUNT
    if request.config.getoption("--long"):
        count = LONG_COUNT
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz_decoders", "1", str(count)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2_000:]
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["crashes"] == []
    assert report["executions"] == count * len(targets())
    assert report["peak_bytes"] < PEAK_BYTES_MAX
    for name, counts in report["targets"].items():
        # A fuzzer that only ever makes what the first check refuses tests nothing.
        assert counts["decoded"] > 0, name
        assert counts["refused"] > 0 or name in TOLERANT, name


def test_a_frame_that_claims_too_much_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(MalformedError, match="claims 1,099,511,627,776 bytes"):
        decompress(CLAIMING, 100, where="checkpoint")


def test_a_blob_that_claims_too_much_is_refused_before_anything_is_allocated() -> None:
    data = pack_frame.encode_header(Kind.BLOB, Codec.ZSTD, CLAIMING, 100) + CLAIMING
    decompressor = Decompressor()

    def read() -> bytes:
        return pack_frame.read_raw(data, decompressor, NO_DICTIONARY, bytes, where="pack", offset=0)

    with pytest.raises(MalformedError, match="claims 1,099,511,627,776 bytes"):
        read()
    # A context is at hand now.
    assert decompressor.at_hand(NO_DICTIONARY) is not None
    assert pack_frame.quick_raw(data, decompressor, NO_DICTIONARY) is None


def test_what_is_written_is_read_the_quick_way() -> None:
    texts = [f"some text {n} ".encode() * 20 for n in range(20)]
    builder = PackBuilder(Origin.JOURNAL)
    builder.add_many([(Digest.of(text), text) for text in texts])
    pack = builder.finish().data
    index = read_index(pack[-footer_size(pack, where="pack") :], where="pack")
    decompressor = Decompressor()

    for position, row in enumerate(index.rows):
        frame = pack[row.offset : row.offset + pack_frame.PACK_FRAME_HEADER_BYTES + row.stored_size]
        pack_frame.read_raw(frame, decompressor, NO_DICTIONARY, bytes, where="pack", offset=0)
        assert row.codec == Codec.ZSTD
        assert pack_frame.quick_raw(frame, decompressor, NO_DICTIONARY) == texts[position]


@pytest.mark.parametrize("position", [-1, 3, 2**62])
def test_a_dictionary_that_is_not_there_is_refused(position: int) -> None:
    with pytest.raises(MalformedError, match="names a dictionary it does not have"):
        PackIndex.decode(_footer_with_dictionary(position), where="pack")


def test_a_dictionary_that_needs_itself_is_refused() -> None:
    texts = [f"text {n}".encode() for n in range(3)]
    stored = [zstandard.ZstdCompressor(write_content_size=False).compress(text) for text in texts]
    builder = PackBuilder(Origin.JOURNAL)
    builder._dictionaries[Digest.of(texts[0])[:8]] = 0  # pyright: ignore[reportPrivateUsage]
    for text, content in zip(texts, stored, strict=True):
        builder.add_stored(
            Digest.of(text), Kind.BLOB, Codec.ZSTD_DICTIONARY, content, len(text), Digest.of(texts[0])[:8]
        )
    storage = MemoryStorage()
    data = builder.finish().data
    storage.write_new("packs/ab/x", data)
    place = PackPlace("packs/ab/x", 0, len(data), footer_size(data, where="pack"))
    blobs = BlobStore(storage)

    with pytest.raises(CorruptionError):
        blobs.read(blobs.place(place, 0), Digest.of(texts[0]))


def _footer_with_dictionary(position: int) -> bytes:
    builder = PackBuilder(Origin.JOURNAL)
    builder.add_many([(Digest.of(bytes([n])), bytes([n])) for n in range(3)])
    data = builder.finish().data
    footer = msgspec.msgpack.decode(
        msgspec.msgpack.encode(read_index(data[-footer_size(data, where="") :], where="").footer)
    )
    footer[4] = [[b"12345678", position]]
    return msgspec.msgpack.encode(footer)
