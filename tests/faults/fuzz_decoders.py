"""Every decoder of stored bytes, fed with what `fuzz_mutations` makes of valid bytes.

Runs in a process of its own, which may take only so much memory: `python -m tests.faults.fuzz_decoders SEED COUNT`.
What comes out is a value or an error of ours; anything else is told as a crash, with the input that made it.
"""

from __future__ import annotations

import functools
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tests.faults.fuzz_mutations import bomb, mutated, noise, restructured
from tests.peak import peak_bytes

import keepstone
from keepstone.blobs import pack_frame
from keepstone.blobs.blobstore import BlobStore, PackPlace
from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import Entry, PackIndex
from keepstone.blobs.journal import JournalFile, encode_entry
from keepstone.blobs.journal_header import JournalHeader, encode_journal_header, read_journal_header
from keepstone.blobs.pack import PackBuilder, footer_size, read_index, scan_blobs
from keepstone.blobs.recipe import Piece, decode_recipe, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import encode
from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.format import Codec, Form, Kind, Origin
from keepstone.foundation.frame import (
    HEADER_BYTES,
    compress_frame,
    decode_frame,
    encode_frame,
    encode_header,
    peek_header,
    read_header,
    read_payload,
)
from keepstone.history.checkpoint import decode_checkpoint, encode_checkpoint
from keepstone.history.commit import (
    Commit,
    PackName,
    PackRecord,
    RefChange,
    decode_commit,
    encode_commit,
    header_size_of,
)
from keepstone.history.state import LivePack, State
from keepstone.history.validate import read_features
from keepstone.objects.manifest import Manifest, Part, decode_manifest, encode_manifest
from keepstone.objects.plain import decode_value
from keepstone.operations.bundle import Bundle
from keepstone.operations.lock import parse_lock
from keepstone.operations.verify import verify_bundle
from keepstone.repository.identity import create_identity, read_identity
from keepstone.repository.leaves import LeafRow, cut_leaves, decode_leaf, decode_root, encode_leaf
from keepstone.repository.refs import AliasRef, NameRef, read_alias_ref, read_name_ref, text_of
from keepstone.storage.calls import Calls
from keepstone.storage.memory import MemoryStorage

MEMORY_BYTES = 640 * 1024 * 1024
"""On top of what the process has when it begins: twice the largest size that one footer may have, and some."""
SECONDS_MAX = 5.0
"""One input that takes longer counts as a crash."""
_STORE = bytes(16)
_ID = bytes(range(16))


class Target(NamedTuple):
    """One decoder, valid input for it, and how input is made."""

    name: str
    seeds: list[bytes]
    decode: Callable[[bytes], object]
    make: Callable[[random.Random, bytes, list[bytes]], bytes] = mutated


def _sealed(kind: Kind, raw: bytes) -> bytes:
    return encode_frame(kind, raw)


# ---- packs -------------------------------------------------------------------------------------------------


def _pack(*, dictionary: bool = False) -> bytes:
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
    import zstandard

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
    make = random.choice((_restructured, _lying_columns))
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


# ---- frames ------------------------------------------------------------------------------------------------


def _read_frame(data: bytes) -> object:
    peek_header(data, 0)
    header = read_header(data, where="object")
    return read_payload(header, data[HEADER_BYTES : HEADER_BYTES + header.stored_size], where="object")


def _resealed_frame(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A frame whose header check and payload check are sound, and whose content or sizes are not."""
    import struct

    payload = random.choice((bomb(random), data[HEADER_BYTES:], mutated(random, data[HEADER_BYTES:], others)))
    raw_size = random.choice((len(payload), 0, 1, 10**6, 2**26, 2**26 + 1, 2**40, 2**64 - 1))
    codec = random.choice((Codec.RAW, Codec.ZSTD, 2, 3, 9))
    fields = struct.pack(
        "<4sBBBBHHIQQ8s32s",
        *(b"KPST", 1, random.choice((*Kind, 77)), codec, 0, 0, 0, zlib.crc32(payload), len(payload)),
        *(raw_size, bytes(8), bytes(32)),
    )
    return fields + zlib.crc32(fields).to_bytes(4, "little") + payload


def _restructured(random: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return restructured(random, data)


def _or_bytes(
    random: random.Random,
    data: bytes,
    others: list[bytes],
    *,
    kind: Kind,
    open_payload: Callable[[bytes], bytes],
    squeeze: bool = False,
) -> bytes:
    """Change the payload of a frame, as values or as bytes, and seal it again."""
    payload = open_payload(data)
    changed = restructured(random, payload) if random.random() < 0.8 else mutated(random, payload, others)
    return compress_frame(kind, changed) if squeeze else encode_frame(kind, changed)


def _payload(kind: Kind, data: bytes) -> bytes:
    return decode_frame(data, 0, kind=kind, where="seed")[0]


# ---- the log -----------------------------------------------------------------------------------------------


def _record(size: int = 200) -> PackRecord:
    return PackRecord(PackName(0, bytes(range(32))), size, 100, 3, ("answers",), 10**18, int(Origin.JOURNAL))


def _commit() -> Commit:
    return Commit(
        store=_STORE,
        writer=bytes(8),
        time=10**18,
        message="made",
        add=(_record(),),
        refs=(RefChange("model", None, NameRef("artifact", 1, 1, bytes(32)).encoded()),),
        seals=(_ID,),
        number=0,
        parent=bytes(32),
        txn=_ID,
    )


def _read_commit(data: bytes) -> object:
    size = header_size_of(data, where="commit")
    commit = decode_commit(data, where="commit")
    state = State().advance([commit])
    return size, encode_checkpoint(state)


def _changed_body(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    header: list[Any] = msgspec.msgpack.decode(_payload(Kind.COMMIT, data))
    header[-1] = restructured(random, header[-1])
    return _sealed(Kind.COMMIT, msgspec.msgpack.encode(header))


def _checkpoint() -> bytes:
    name = PackName(0, bytes(range(32)))
    state = State(
        number=3,
        hash=bytes(range(32)),
        time=10**18,
        packs={name: LivePack(_record())},  # pyright: ignore[reportArgumentType]
        refs={"model": NameRef("artifact", 1, 1, bytes(32)).encoded()},  # pyright: ignore[reportArgumentType]
        floor=1,
        sealed={_ID: 2},  # pyright: ignore[reportArgumentType]
        log_bytes=5_000,
    )
    return encode_checkpoint(state)


def _read_checkpoint(data: bytes) -> object:
    state = decode_checkpoint(data, where="checkpoint")
    return state.length, [pack.key for pack in state.packs.values()]


# ---- journals ----------------------------------------------------------------------------------------------


class _InMemory(Calls):
    """One file, in memory: all that reading a journal needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self, fd: int) -> None:
        return None


def _journal_parts(keys: int = 12) -> list[bytes]:
    header = JournalHeader(_STORE, "/store", "host", _ID, bytes(8), -1, bytes(32), 10**18)
    parts = [encode_journal_header(header)]
    end = len(parts[0])
    for n in range(keys):
        value = f"value {n} ".encode() * (n + 1)
        digest = Digest.of(value)
        parts.append(encode_header(int(Kind.BLOB), value, digest) + value)
        end += len(parts[-1])
        removed = n % 5 == 4
        parts.append(
            encode_entry(
                _ID[:8], end, 10**18 + n, 0, None if removed else digest, 1, b"items", f"k{n}".encode()
            )
        )
        end += len(parts[-1])
    parts.append(encode_frame(Kind.FINAL, b""))
    return parts


def _journal() -> bytes:
    return b"".join(_journal_parts())


def _lying_journal(random: random.Random, _: bytes, others: list[bytes]) -> bytes:
    """A journal whose frames are sound, but repeated, left out, in another order, or lying in what they say."""
    parts = _journal_parts()
    for _ in range(random.choice((1, 2, 5))):
        place = random.randrange(1, len(parts))
        action = random.random()
        if action < 0.25:
            del parts[place]
        elif action < 0.5:
            parts.insert(place, parts[random.randrange(len(parts))])
        elif action < 0.75:
            parts[place] = mutated(random, parts[place], others)
        else:
            numbers = [
                random.choice((0, 10**18, 2**63, 2**64 - 1, sum(map(len, parts[:place])))) for _ in "abc"
            ]
            parts[place] = encode_entry(
                _ID[:8], *numbers, random.choice((None, bytes(32))), 9, random.randbytes(3), b"k\xff"
            )
    return b"".join(parts)


def _read_journal(data: bytes) -> object:
    calls = _InMemory(data)
    header, end = read_journal_header("journal", 3, calls)
    journal = JournalFile("journal", 3, header, end, calls, keep_history=True)
    journal.poll_to_end()
    for _, row in journal.all_rows():
        if row.offset >= 0:
            try:
                journal.read_value(row)
            except KeepstoneError:
                continue
    return list(journal.values()), journal.damage


# ---- names and values --------------------------------------------------------------------------------------


def _manifest() -> bytes:
    parts = (Part("a.txt", bytes(32), 5, 0), Part("sub/b", bytes(range(32)), 7, 1))
    return encode_manifest(
        Manifest(
            serializer="folder",
            serializer_version=1,
            type_name="folder",
            parts=parts,
            metadata={"accuracy": 0.5, "list": [1, {"x": None}]},
            parents=(str(Digest(bytes(32))),),
            packages={"numpy": "2.0"},
            detail={"kind": "x"},
        )
    )


def _read_identity(data: bytes) -> object:
    storage = MemoryStorage()
    storage.write_new("store.json", data)
    return read_identity(storage).id_bytes


def _identity() -> bytes:
    storage = MemoryStorage()
    create_identity(storage, locks="local")
    return storage.read("store.json")


def _read_ref(data: bytes) -> object:
    try:
        text_of(read_name_ref(data, "model").digest)
    except KeepstoneError:
        return read_alias_ref(data, "model@prod")
    return None


def _read_values(data: bytes) -> object:
    found = 0
    for form in (Form.BYTES, Form.TEXT, Form.JSON, Form.MANIFEST):
        for kind in (None, list[int]):
            try:
                decode_value(form, data, kind)
                found += 1
            except KeepstoneError:
                continue
    return found


# ---- locks, bundles, snapshots -----------------------------------------------------------------------------


@functools.cache
def _files() -> tuple[Path, bytes, bytes, bytes]:
    """A folder, and in it what a small store with a snapshot gives: its lock, its bundle, its snapshot's manifest."""
    folder = Path(tempfile.mkdtemp(prefix="keepstone-fuzz-"))
    weakref.finalize(Target, shutil.rmtree, folder, ignore_errors=True)
    with keepstone.open("memory://fuzz") as store:
        store.save("model", {"accuracy": 0.5})
        store.save("prompts/reader", "text " * 50)
        items = store.collection("answers")
        items.update({f"q{n}": n for n in range(20)})
        manifest = encode_manifest(store.repository.manifest(items.snapshot().digest_bytes))
        store.pin(["model", "prompts/reader"], folder / "lock", remotes=["https://example.org/store"])
        store.bundle(folder / "lock", folder / "bundle")
    return folder, (folder / "lock").read_bytes(), (folder / "bundle").read_bytes(), manifest


def _read_lock(data: bytes) -> object:
    lock = parse_lock(data, where="lock")
    return [lock.find(line.selector) for line in lock.names]


def _read_bundle(data: bytes) -> object:
    path = _files()[0] / "damaged"
    path.write_bytes(data)
    with Bundle(path) as bundle:
        bundle.check()
    return verify_bundle(path).ok


def _changed_table(random: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """A bundle whose trailer and table frame are sound, and whose table lies."""
    size = int.from_bytes(data[-20:-12], "little")
    start = len(data) - 20 - size
    payload, _ = decode_frame(data, start, kind=Kind.BUNDLE, where="seed")
    frame = encode_frame(Kind.BUNDLE, restructured(random, payload))
    length = len(frame).to_bytes(8, "little")
    return b"".join((data[:start], frame, length, zlib.crc32(length).to_bytes(4, "little"), data[-8:]))


def _read_snapshot(data: bytes) -> object:
    manifest = decode_manifest(data)
    return decode_root(manifest.detail, len(manifest.parts), where="snapshot").count


def _leaf() -> bytes:
    rows = [LeafRow(f"k{n:03}", Digest.of(bytes([n])), int(Form.JSON)) for n in range(30)]
    return encode_leaf(next(cut_leaves(rows)))


def _read_leaf(data: bytes) -> object:
    return list(decode_leaf(data, where="snapshot").rows())


def targets() -> list[Target]:
    """Return every decoder."""
    pack = _pack()
    with_dictionary = _pack(dictionary=True)
    footer = _footer_payload(pack)
    first_frame = pack[: 16 + pack_frame.read_header(pack, 0, where="seed").stored_size]
    commit = encode_commit(_commit())
    inline = encode_commit(
        msgspec.structs.replace(
            _commit(),
            add=(),
            inline=msgspec.structs.replace(
                _record(len(first_frame)), name=PackName(0, bytes(Digest.of(first_frame)))
            ),
        ),
        first_frame,
    )
    checkpoint = _checkpoint()
    frames = [encode_frame(Kind.COMMIT, b"payload" * 9), compress_frame(Kind.CHECKPOINT, b"payload" * 900)]
    journal = _journal()
    json_text = b'{"a": [1, 2.5, "text", null, {"b": true}], "n": 123456789012345678901234567890}'
    commit_frame = partial(_or_bytes, kind=Kind.COMMIT, open_payload=partial(_payload, Kind.COMMIT))
    checkpoint_frame = partial(
        _or_bytes, kind=Kind.CHECKPOINT, open_payload=partial(_payload, Kind.CHECKPOINT), squeeze=True
    )
    header_frame = partial(_or_bytes, kind=Kind.JOURNAL, open_payload=partial(_payload, Kind.JOURNAL))
    refs = [NameRef("artifact", 2, 2, bytes(32)).encoded(), AliasRef(1, bytes(32)).encoded()]
    features = encode({"read": ["x"], "write": []})
    _, lock, bundle, snapshot = _files()
    recipe = encode_recipe([Piece(Digest(bytes(32)), 1_000), Piece(Digest(bytes(range(32))), 7)])
    return [
        Target("frame", frames, _read_frame),
        Target("frame, sealed", frames, _read_frame, _resealed_frame),
        Target("pack frame", [first_frame], _read_pack_frame),
        Target("pack frame, sealed", [first_frame], _read_pack_frame, _frame_with_lies),
        Target("footer", [footer], _use_footer),
        Target("footer, sealed", [footer], _use_footer, _restructured),
        Target("columns", [footer], _use_footer, _lying_columns),
        Target("trailer", [_tail(pack)], lambda data: _use_index(read_index(data, where="pack"))),
        Target("pack", [pack, with_dictionary], _read_pack, _whole_pack),
        Target("scan", [pack, with_dictionary], lambda data: list(scan_blobs(data, where="pack"))),
        Target("commit", [commit, inline], _read_commit),
        Target("commit, sealed", [commit], _read_commit, commit_frame),
        Target("commit body, sealed", [commit], _read_commit, _changed_body),
        Target("checkpoint", [checkpoint], _read_checkpoint),
        Target("checkpoint, sealed", [checkpoint], _read_checkpoint, checkpoint_frame),
        Target("features", [features], lambda data: read_features(data, where="store"), _restructured),
        Target("manifest", [_manifest()], decode_manifest),
        Target("manifest, restructured", [_manifest()], decode_manifest, _restructured),
        Target("recipe", [recipe], lambda data: decode_recipe(data, where="recipe")),
        Target("journal", [journal], _read_journal),
        Target("journal header, sealed", [journal], _read_journal, header_frame),
        Target("journal, sealed frames", [journal], _read_journal, _lying_journal),
        Target("identity", [_identity()], _read_identity),
        Target("refs", refs, _read_ref),
        Target("refs, restructured", refs, _read_ref, _restructured),
        Target("lock", [lock], _read_lock),
        Target("bundle", [bundle], _read_bundle),
        Target("bundle, sealed", [bundle], _read_bundle, _changed_table),
        Target("snapshot, restructured", [snapshot], _read_snapshot, _restructured),
        Target("leaf", [_leaf()], _read_leaf),
        Target("leaf, restructured", [_leaf()], _read_leaf, _restructured),
        Target("values", [json_text, b"text", b"[[[[1]]]]" * 40], _read_values),
    ]


# ---- running -----------------------------------------------------------------------------------------------


class Crash(NamedTuple):
    """What must not come out of a decoder."""

    target: str
    error: str
    input: str
    """In hex, its beginning."""


def inputs(target: Target, seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` inputs for a decoder: the valid ones, noise, and above all mutations."""
    chance = random.Random(f"{target.name} {seed}")
    yield from target.seeds
    yield b""
    for _ in range(count - len(target.seeds) - 1):
        share = chance.random()
        if share < 0.03:
            yield noise(chance)
        elif share < 0.05:
            yield bomb(chance)
        else:
            yield target.make(chance, chance.choice(target.seeds), target.seeds)


def fuzz(target: Target, seed: int, count: int) -> tuple[int, int, list[Crash]]:
    """Return how many inputs were decoded, how many refused, and what else happened."""
    decoded = refused = 0
    crashes: list[Crash] = []
    for data in inputs(target, seed, count):
        begun = time.process_time()
        try:
            target.decode(data)
            decoded += 1
        except KeepstoneError:
            refused += 1
        except BaseException as error:
            crashes.append(Crash(target.name, f"{type(error).__name__}: {error}"[:200], data[:4_000].hex()))
        if time.process_time() - begun > SECONDS_MAX:
            crashes.append(Crash(target.name, "took too long", data[:4_000].hex()))
        if len(crashes) >= 20:
            break
    return decoded, refused, crashes


def main(seed: int, count: int, names: list[str]) -> None:
    """Fuzz every decoder (or those of `names`) `count` times, and print what happened as JSON."""
    chosen = [target for target in targets() if not names or target.name in names]
    with open("/proc/self/statm") as file:
        begun = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (begun + MEMORY_BYTES, begun + MEMORY_BYTES))
    results: dict[str, Any] = {}
    crashes: list[Crash] = []
    for target in chosen:
        decoded, refused, found = fuzz(target, seed, count)
        results[target.name] = {"decoded": decoded, "refused": refused, "peak_bytes": peak_bytes()}
        crashes += found
    report = {
        "targets": results,
        "executions": sum(counts["decoded"] + counts["refused"] for counts in results.values())
        + len(crashes),
        "crashes": [crash._asdict() for crash in crashes],
        "peak_bytes": peak_bytes(),
        "cpu_seconds": time.process_time(),
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
