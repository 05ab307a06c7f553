"""What is handed on, to fuzz: locks, bundles, snapshots and their leaves."""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
import weakref
import zlib
from pathlib import Path

from tests.faults.fuzz_mutations import restructured
from tests.faults.fuzz_target import Target, restructured_input

import keepstone
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import Form, Kind
from keepstone.foundation.frame import decode_frame, encode_frame
from keepstone.objects.manifest import decode_manifest, encode_manifest
from keepstone.operations.bundle import Bundle
from keepstone.operations.lock import parse_lock
from keepstone.operations.verify import verify_bundle
from keepstone.repository.leaves import LeafRow, cut_leaves, decode_leaf, decode_root, encode_leaf


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
    """Return the decoders of locks, bundles and snapshots."""
    _, lock, bundle, snapshot = _files()
    return [
        Target("lock", [lock], _read_lock),
        Target("bundle", [bundle], _read_bundle),
        Target("bundle, sealed", [bundle], _read_bundle, _changed_table),
        Target("snapshot, restructured", [snapshot], _read_snapshot, restructured_input),
        Target("leaf", [_leaf()], _read_leaf),
        Target("leaf, restructured", [_leaf()], _read_leaf, restructured_input),
    ]
