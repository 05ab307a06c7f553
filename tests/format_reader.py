"""A reader of stores written from docs/format.md alone, without any of Keepstone's code."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from blake3 import blake3

TOMBSTONE = 0xFFFF_FFFF


def digest_of(data: bytes) -> bytes:
    return blake3(data).digest()


def unpacked(data: bytes) -> Any:
    return msgspec.msgpack.decode(data)


# ---- §1 ------------------------------------------------------------------------------------------------------------


@dataclass
class Frame:
    kind: int
    digest: bytes
    raw: bytes
    start: int
    end: int


def read_frame(data: bytes, start: int = 0) -> Frame:
    header = data[start : start + 76]
    magic, version, kind, codec, flags, slot, reserved, check, stored, raw_size, dictionary, digest = (
        struct.unpack("<4sBBBBHHIQQ8s32s", header[:72])
    )
    assert (magic, version, flags, slot, reserved, dictionary) == (b"KPST", 1, 0, 0, 0, bytes(8))
    assert struct.unpack("<I", header[72:])[0] == zlib.crc32(header[:72])
    payload = data[start + 76 : start + 76 + stored]
    assert len(payload) == stored
    assert zlib.crc32(payload) == check
    raw = payload if codec == 0 else inflate(payload, raw_size)
    assert len(raw) == raw_size
    if kind != 3:
        assert digest_of(raw) == digest
    return Frame(kind, digest, raw, start, start + 76 + stored)


def inflate(data: bytes, size: int, dictionary: bytes = b"") -> bytes:
    known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdDecompressor(dict_data=known).decompress(data, max_output_size=size)


# ---- §3, §4 --------------------------------------------------------------------------------------------------------


def column(code: str, data: bytes, count: int) -> list[int]:
    raw = inflate(data, struct.calcsize(f"<{count}{code}"))
    return list(struct.unpack(f"<{count}{code}", raw))


@dataclass
class Store:
    folder: Path
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    recipes: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[tuple[str, str], tuple[int, bytes, bytes | None, int]] = field(default_factory=dict)
    refs: dict[str, bytes] = field(default_factory=dict)
    sealed: set[bytes] = field(default_factory=set)
    hashes: dict[int, bytes] = field(default_factory=dict)
    codecs: set[int] = field(default_factory=set)

    def note(
        self, collection: str, key: str, stamp: int, writer: bytes, digest: bytes | None, form: int
    ) -> None:
        known = self.entries.get((collection, key))
        if known is None or (stamp, writer) > known[:2]:
            self.entries[collection, key] = (stamp, writer, digest, form)

    def value(self, digest: bytes) -> bytes:
        if digest in self.blobs:
            return self.blobs[digest]
        payload = self.recipes[digest]
        pieces = [struct.unpack_from("<32sI", payload, at) for at in range(8, len(payload), 36)]
        assert struct.unpack_from("<Q", payload)[0] == sum(size for _, size in pieces)
        whole = b"".join(self.blobs[piece] for piece, _ in pieces)
        assert digest_of(whole) == digest
        return whole

    def collection(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (collection, key), (_, _, digest, form) in self.entries.items():
            if collection == name and digest is not None:
                raw = self.value(digest)
                found[key] = {1: bytes, 2: lambda data: data.decode(), 3: json.loads}[form](raw)
        return found


def read_pack(store: Store, data: bytes) -> None:
    size, check, magic = struct.unpack("<QI8s", data[-20:])
    assert magic == b"KPSTPACK"
    assert zlib.crc32(data[-20:-12]) == check
    frame = read_frame(data, len(data) - 20 - size)
    assert frame.kind == 5
    _, count, digests, frames, dictionaries, writers, externals, sections = unpacked(frame.raw)
    names = [digests[32 * i : 32 * i + 32] for i in range(count)]
    table = inflate(frames, 11 * count)
    stored = struct.unpack(f"<{count}I", table[: 4 * count])
    raw_sizes = struct.unpack(f"<{count}I", table[4 * count : 8 * count])
    kinds, codecs, uses = (table[(8 + i) * count : (9 + i) * count] for i in range(3))
    offset = 0
    for i in range(count):
        magic, kind, codec, size, raw_size, check = struct.unpack_from("<2sBBIII", data, offset)
        assert (magic, kind, codec, size, raw_size) == (b"Kf", kinds[i], codecs[i], stored[i], raw_sizes[i])
        content = data[offset + 16 : offset + 16 + size]
        assert zlib.crc32(content) == check
        dictionary = store.blobs[names[dictionaries[uses[i] - 1][1]]] if uses[i] else b""
        raw = content if codec == 0 else inflate(content, raw_size, dictionary)
        store.codecs.add(codec)
        if kind == 7:
            store.recipes[names[i]] = raw
        else:
            assert digest_of(raw) == names[i]
            store.blobs[names[i]] = raw
        offset += 16 + size
    others = [externals[at : at + 32] for at in range(0, len(externals), 32)]
    for section in sections:
        read_section(store, section, [*names, *others], writers)


def read_section(store: Store, section: list[Any], names: list[bytes], writers: list[bytes]) -> None:
    collection, count, tombstones, stamp_min, stamp_max, keys, stamps, who, blobs, forms = section
    key_texts = unpacked(zstandard.ZstdDecompressor().decompress(keys))
    times = list(accumulate(column("q", stamps, count), initial=stamp_min))[1:]
    authors = column("H", who, count) if who else [0] * count
    places = list(accumulate(column("q", blobs, count)))
    rows = list(zip(key_texts, times, authors, places, column("B", forms, count), strict=True))
    assert max(times) == stamp_max
    assert sum(place == TOMBSTONE for place in places) == tombstones
    assert [(row[1], writers[row[2]]) for row in rows] == sorted((row[1], writers[row[2]]) for row in rows)
    for key, stamp, author, place, form in rows:
        digest = None if place == TOMBSTONE else names[place]
        store.note(collection, key, stamp, writers[author], digest, form)


# ---- §5 ------------------------------------------------------------------------------------------------------------


def read_journal(store: Store, data: bytes) -> None:
    frame = read_frame(data)
    assert frame.kind == 1
    store_id, _, _, journal_id, writer, tip, tip_hash, _ = unpacked(frame.raw)
    assert store_id.hex() == json.loads((store.folder / "store.json").read_text())["store_id"]
    assert tip < 0 or store.hashes[tip] == tip_hash
    if journal_id in store.sealed:
        return
    blob: Frame | None = None
    while frame.end < len(data):
        frame = read_frame(data, frame.end)
        if frame.kind == 2:
            blob = frame
            continue
        if frame.kind == 4:
            assert frame.end == len(data)
            return
        assert frame.kind == 3
        tag, offset, stamp, _, form, flags, collection_size, key_size = struct.unpack_from(
            "<8sQQQBBHH", frame.raw
        )
        assert (tag, offset) == (journal_id[:8], frame.start)
        assert len(frame.raw) == 38 + collection_size + key_size
        collection = frame.raw[38 : 38 + collection_size].decode()
        key = frame.raw[38 + collection_size :].decode()
        if blob is not None and blob.digest == frame.digest:
            store.blobs[blob.digest] = blob.raw
        store.note(collection, key, stamp, writer, None if flags & 1 else frame.digest, form)
        blob = None


# ---- §7 ------------------------------------------------------------------------------------------------------------


def read_store(folder: Path) -> Store:
    store = Store(folder)
    packs: dict[str, bytes] = {}
    parent = bytes(32)
    for number, path in enumerate(sorted((folder / "log").iterdir())):
        assert path.name == f"{number:020d}"
        data = path.read_bytes()
        frame = read_frame(data)
        assert frame.kind == 8
        stated, before, _, body = unpacked(frame.raw)
        assert (stated, before) == (number, parent)
        parent = store.hashes[number] = digest_of(data[: frame.end])
        _, add, inline, drop, replace, _, refs, _, seals, _, _, _ = unpacked(body)
        for record in add:
            name = f"{record[0][0]:020d}-{record[0][1].hex()}"
            packs[name] = (folder / "packs" / record[0][1].hex()[:2] / name).read_bytes()
            assert digest_of(packs[name]) == record[0][1]
        if inline is not None:
            packs[f"{inline[0][0]:020d}-{inline[0][1].hex()}"] = data[frame.end :]
            assert digest_of(data[frame.end :]) == inline[0][1]
        for base, digest in [*drop, *(old for group in replace for old in group[0])]:
            del packs[f"{base:020d}-{digest.hex()}"]
        for ref, old, new in refs:
            assert store.refs.get(ref) == old
            if new is None:
                store.refs.pop(ref, None)
            else:
                store.refs[ref] = new
        store.sealed.update(seals)
    for data in packs.values():
        read_pack(store, data)
    for path in sorted((folder / "journals").glob("[!.]*")):
        read_journal(store, path.read_bytes())
    return store
