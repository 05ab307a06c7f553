"""Packs to fuzz: their frames, footers, columns and trailers."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

import msgspec
import zstandard
from tests.faults.fuzz_mutations import bomb
from tests.faults.fuzz_target import Target, restructured_input

from keepstone.blobs import pack_frame
from keepstone.blobs.blobstore import BlobStore, PackPlace
from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import Entry, PackIndex
from keepstone.blobs.pack import PackBuilder, footer_size, read_index
from keepstone.blobs.pack_scan import scan_blobs
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.format import Form, Kind, Origin
from keepstone.foundation.frame import decode_frame, encode_frame
from keepstone.storage.memory import MemoryStorage


def sample_pack(*, dictionary: bool = False) -> bytes:
    builder = PackBuilder(Origin.JOURNAL)
    rows = 40
    texts = [json.dumps({"question": f"q{i}", "answer": "word " * 30, "n": i}).encode() for i in range(rows)]
    if dictionary:
        texts = [text * 120 for text in texts]
    builder.add_many([(Digest.of(text), text) for text in texts])
    for i, text in enumerate(texts):
        builder.add_entry("answers", Entry(f"k{i}", 10**18 + i, bytes(8), Digest.of(text), Form.JSON))
    builder.add_entry("answers", Entry("k1", 10**18 + 99, b"writer-2", None, Form.BYTES))
    builder.add_entry(":versions", Entry("m@v1", 10**18, bytes(8), Digest.of(b"elsewhere"), Form.MANIFEST))
    return builder.finish().data


def _tail(pack: bytes) -> bytes:
    return pack[len(pack) - footer_size(pack, where="seed") :]


def _footer_payload(pack: bytes) -> bytes:
    tail = _tail(pack)
    return decode_frame(tail, 0, kind=Kind.FOOTER, where="seed")[0]


def first_frame(pack: bytes) -> bytes:
    return pack[: 16 + pack_frame.read_header(pack, 0, where="seed").stored_size]


def _use_index(index: PackIndex) -> object:
    """Ask an index everything that readers ask."""
    found: list[object] = [index.digest(i) for i in range(min(index.blob_count, 50))]
    found.append(index.find(bytes(32)))
    found += index.rows[:50]
    for collection in list(index.sections)[:20]:
        index.keys(collection)
        found += index.entries(collection)[:50]
    return found


def _use_footer(payload: bytes) -> object:
    return _use_index(PackIndex.decode(payload, where="pack"))


def _lying_columns(random: random.Random, payload: bytes, _: list[bytes]) -> bytes:
    """A footer whose columns are sound zstd, and hold anything."""
    footer: list[Any] = msgspec.msgpack.decode(payload)
    section = random.choice(footer[-1])
    place = random.choice((5, 6, 7, 8, 9, -1))
    column = (
        random.randbytes(8) * max(1, abs(int(section[1])) % 100) if random.random() < 0.5 else bytes(8 * 41)
    )
    stored = zstandard.ZstdCompressor().compress(column)
    if place < 0:
        footer[3] = stored
    else:
        section[place] = stored
    if random.random() < 0.3:
        section[random.choice((1, 2, 3, 4))] = random.choice((-1, 0, 2**31, 2**40, 2**62, 2**64 - 1))
    return msgspec.msgpack.encode(footer)


def _whole_pack(random: random.Random, pack: bytes, others: list[bytes]) -> bytes:
    """A pack whose footer frame and trailer are sound, and whose footer lies."""
    tail = _tail(pack)
    make = random.choice((restructured_input, _lying_columns))
    frame = encode_frame(Kind.FOOTER, make(random, _footer_payload(pack), others))
    size = len(frame).to_bytes(8, "little")
    return b"".join(
        (pack[: len(pack) - len(tail)], frame, size, zlib.crc32(size).to_bytes(4, "little"), pack[-8:])
    )


def _read_pack(data: bytes) -> object:
    """Read all blobs of a pack as a store does."""
    storage = MemoryStorage()
    storage.write_new("packs/ab/x", data)
    place = PackPlace("packs/ab/x", 0, len(data), footer_size(data, where="pack"))
    blobs = BlobStore(storage)
    index = blobs.index(place)
    found = 0
    for position in range(min(index.blob_count, 45)):
        try:
            digest = index.digest(position)
            where = blobs.place(place, position)
            found += len(blobs.read(where, digest))
            blobs.find(place, digest)
        except KeepstoneError:
            continue
    return found


def _frame_with_lies(random: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    """A frame of a pack whose check is sound, and whose sizes, codec or content are not."""
    header = pack_frame.read_header(frame, 0, where="seed")
    content = random.choice((bomb(random), frame[16:], random.randbytes(40), b""))
    raw_size = random.choice((header.raw_size, 0, 1, 2**16, 2**26, 2**26 + 1, 2**32 - 1))
    codec = random.choice((0, 1, 2, 3, 255, header.codec))
    return pack_frame.encode_header(header.kind, codec, content, raw_size) + content


def _read_pack_frame(data: bytes) -> object:
    decompressor = Decompressor()
    load = lambda _: b"dictionary " * 20  # noqa: E731
    results: list[object] = []
    for dictionary in (bytes(8), b"12345678"):
        try:
            raw = pack_frame.read_raw(data, decompressor, dictionary, load, where="pack", offset=0)
            results.append(len(raw))
        except KeepstoneError:
            pass
        # Contexts are at hand now, so this decompresses what nobody checked.
        results.append(pack_frame.quick_raw(data, decompressor, dictionary))
    return len(results)


def targets() -> list[Target]:
    """Return the decoders of packs."""
    pack = sample_pack()
    with_dictionary = sample_pack(dictionary=True)
    footer = _footer_payload(pack)
    return [
        Target("pack frame", [first_frame(pack)], _read_pack_frame),
        Target("pack frame, sealed", [first_frame(pack)], _read_pack_frame, _frame_with_lies),
        Target("footer", [footer], _use_footer),
        Target("footer, sealed", [footer], _use_footer, restructured_input),
        Target("columns", [footer], _use_footer, _lying_columns),
        Target("trailer", [_tail(pack)], lambda data: _use_index(read_index(data, where="pack"))),
        Target("pack", [pack, with_dictionary], _read_pack, _whole_pack),
        Target("scan", [pack, with_dictionary], lambda data: list(scan_blobs(data, where="pack"))),
    ]
