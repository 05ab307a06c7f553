"""Following what is stored: what is read for it does not grow with what it has nothing to do with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import keepstone
from keepstone import Digest, MalformedError, Store
from keepstone.blobs.blobstore import BlobStore
from keepstone.blobs.pack import PackBuilder
from keepstone.blobs.recipe import Piece, encode_recipe
from keepstone.foundation.encoding import encode
from keepstone.foundation.format import Kind, Origin
from keepstone.foundation.frame import encode_frame
from keepstone.objects.manifest import Manifest, Part, encode_manifest
from keepstone.operations.bundle import BundledPack, BundleTable
from keepstone.operations.closure import blobs_of, contents
from keepstone.operations.lock import LockedName, format_lock, make_lock

MIB = 1024 * 1024


def reads_of(store: Store, act: Callable[[], object]) -> int:
    """Return how many reads an act needs."""
    calls = store.repository.session.calls
    real, count = calls.pread, [0]

    def pread(fd: int, size: int, offset: int) -> bytes:
        count[0] += 1
        return real(fd, size, offset)

    calls.pread = pread
    try:
        act()
    finally:
        calls.pread = real
    return count[0]


def test_collections_make_looking_for_artifacts_no_dearer(tmp_path: Path) -> None:
    reads: list[int] = []
    for count in (0, 8):
        lock = tmp_path / f"{count}.lock"
        with keepstone.open(tmp_path / f"{count}") as store:
            items = store.collection("items", durability="store")
            for number in range(count):
                items[str(number)] = number
            for number in range(3):
                store.save(f"a{number}", number)
            store.pin(["a0", "a1", "a2"], lock)
            reads.append(reads_of(store, lambda store=store, lock=lock: store.verify(lock)))

    assert reads[0] == reads[1]


def test_footers_are_not_read_again_for_each_leaf_of_a_snapshot(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        items = store.collection("items", durability="process")
        for part in range(4):
            items.update({f"{number:05d}/{part}": number * 4 + part for number in range(3_000)})
            store.flush()
        version = items.snapshot()
        assert len(version.parts) > 8
        line = LockedName("items", 1, version.digest_bytes, "collection")
        blobs = blobs_of(store.repository.session)
        # As where they are larger than what is held of them.
        blobs._blobs = BlobStore(store.repository.session.storage, index_bytes_max=1)  # pyright: ignore[reportPrivateUsage]
        found: list[Digest] = []
        reads = reads_of(store, lambda: found.extend(content.digest for content in contents(blobs, line)))

        assert len(set(found)) == 1 + len(version.parts) + 12_000
        assert reads < len(version.parts) + 30


def test_a_footer_that_is_not_kept_gives_the_same_places(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        versions = [store.save("a", str(number) * 5) for number in range(30)]
        blobs = blobs_of(store.repository.session)
        wanted = [version.digest_bytes for version in versions]
        expected = blobs.locate(wanted)
        blobs._kept = False  # pyright: ignore[reportPrivateUsage]

        assert blobs.locate(wanted) == expected
        assert {d: p for digest in wanted for d, p in blobs.locate([digest]).items()} == expected


def bytes_read(store: Store, act: Callable[[], object]) -> int:
    """Return how many bytes an act reads."""
    calls = store.repository.session.calls
    real, count = calls.pread, [0]

    def pread(fd: int, size: int, offset: int) -> bytes:
        data = real(fd, size, offset)
        count[0] += len(data)
        return data

    calls.pread = pread
    try:
        act()
    finally:
        calls.pread = real
    return count[0]


def test_of_packs_that_nobody_names_only_the_end_is_read(tmp_path: Path) -> None:
    lock = tmp_path / "keepstone.lock"
    with keepstone.open(tmp_path / "source") as source:
        source.save("a", 1)
        source.pin(["a"], lock)
        source.save("large", os.urandom(5 * MIB))
    (pack,) = (tmp_path / "source" / "packs").rglob("*-*")
    with keepstone.open(tmp_path / "store") as store:
        store.save("begun", 1)
        left = tmp_path / "store" / "packs" / pack.parent.name / f"{0:020d}-{pack.name[-64:]}"
        left.parent.mkdir(parents=True)
        shutil.copy(pack, left)

        assert bytes_read(store, lambda: store.restore(lock)) < MIB
        assert store.load("a") == 1

        (tmp_path / "store" / "log" / f"{0:020d}").write_bytes(b"damaged")
        assert bytes_read(store, store.fsck) < MIB


# ---- hostile content -------------------------------------------------------------------------------------------------


def hostile_bundle(path: Path, root: Digest, blobs: dict[Digest, tuple[bytes, Kind]]) -> None:
    """Write a bundle of one version, whole by every check sum, with this in it."""
    builder = PackBuilder(Origin.COPY)
    for digest, (raw, kind) in blobs.items():
        builder.add(digest, raw, kind)
    pack = builder.finish()
    lock = make_lock("0" * 32, "", (), [LockedName("a", 1, root, "artifact")])
    table = encode(
        BundleTable(
            format_lock(lock).encode(), (BundledPack(bytes(pack.digest), len(pack.data), pack.footer_size),)
        )
    )
    frame = encode_frame(Kind.BUNDLE, table)
    path.write_bytes(pack.data + frame + trailer(len(frame)))


def trailer(size: int) -> bytes:
    """Return the end of a bundle."""
    import struct
    import zlib

    return struct.pack("<QI8s", size, zlib.crc32(struct.pack("<Q", size)), b"KPSTBNDL")


VERIFIED = """
import sys
from keepstone.operations.verify import verify_bundle
from tests.peak import peak_bytes
before = peak_bytes()
report = verify_bundle(sys.argv[1])
print(report.damaged[0].problem, file=sys.stderr)
assert peak_bytes() - before < 100 * 2**20, peak_bytes() - before
"""


@pytest.mark.parametrize("stated", [MIB, 0])
def test_a_few_bytes_that_mean_a_huge_manifest_take_no_memory(tmp_path: Path, stated: int) -> None:
    zeros = bytes(MIB)
    piece, root = Digest.of(zeros), Digest.of(zeros * 400)
    recipe = encode_recipe([Piece(piece, stated)] * 400)
    hostile_bundle(tmp_path / "b", root, {piece: (zeros, Kind.BLOB), root: (recipe, Kind.RECIPE)})
    assert (tmp_path / "b").stat().st_size < 10_000
    done = subprocess.run(
        [sys.executable, "-c", VERIFIED, str(tmp_path / "b")], check=False, timeout=60, capture_output=True
    )

    assert done.returncode == 0, done.stderr.decode()
    assert b" bytes" in done.stderr


def test_pieces_of_another_size_than_the_recipe_says_are_an_error(tmp_path: Path) -> None:
    halves = [b"a" * MIB, b"b" * 10]
    whole, lie = Digest.of(b"".join(halves)), Piece(Digest.of(halves[0]), MIB - 1)
    recipe = encode_recipe([lie, Piece(Digest.of(halves[1]), 11)])
    manifest = encode_manifest(
        Manifest(
            serializer="bytes",
            serializer_version=1,
            type_name="bytes",
            parts=(Part("", whole, MIB + 10, 0),),
        )
    )
    blobs: dict[Digest, tuple[bytes, Kind]] = {
        Digest.of(raw): (raw, Kind.BLOB) for raw in (*halves, manifest)
    }
    hostile_bundle(tmp_path / "b", Digest.of(manifest), {**blobs, whole: (recipe, Kind.RECIPE)})
    with keepstone.open(tmp_path / "store") as store:
        with pytest.raises(MalformedError, match="bytes, not"):
            store.restore(tmp_path / "b")

        assert store.names() == []
