"""The bytes of each structure are those of vectors.json, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
import zstandard
from tests.compat import vectors
from tests.format_reader import Store, digest_of, read_frame, read_pack

from keepstone.blobs.pack_scan import scan_blobs
from keepstone.blobs.recipe import decode_recipe
from keepstone.foundation.format import Kind
from keepstone.foundation.frame import decode_frame
from keepstone.history.checkpoint import decode_checkpoint
from keepstone.history.commit import decode_commit
from keepstone.history.state import State
from keepstone.objects.manifest import decode_manifest
from keepstone.objects.plain import decode_value, encode_value

GOLDEN: dict[str, Any] = json.loads(vectors.PATH.read_text())
PLAIN = {name: bytes.fromhex(data) for name, data in GOLDEN["plain"].items()}
COMPRESSED = {name: bytes.fromhex(data) for name, data in GOLDEN["compressed"].items()}
SAME_ZSTD = GOLDEN["zstd"] == ".".join(map(str, zstandard.ZSTD_VERSION))


@pytest.mark.parametrize("name", vectors.plain())
def test_what_is_not_compressed_is_written_byte_for_byte(name: str) -> None:
    assert vectors.plain()[name].hex() == PLAIN[name].hex()


@pytest.mark.skipif(
    not SAME_ZSTD, reason=f"made with zstd {GOLDEN['zstd']}; another one compresses otherwise"
)
@pytest.mark.parametrize("name", vectors.compressed())
def test_what_is_compressed_is_written_byte_for_byte_by_the_same_library(name: str) -> None:
    assert vectors.compressed()[name].hex() == COMPRESSED[name].hex()


def test_nothing_in_the_file_is_left_out() -> None:
    assert PLAIN.keys() == vectors.plain().keys()
    assert COMPRESSED.keys() == vectors.compressed().keys()


def test_values_are_read() -> None:
    for name, value in vectors.VALUES.items():
        encoded = encode_value(value)
        assert encoded is not None
        assert decode_value(encoded[0], PLAIN[f"value {name}"]) == value


def test_commits_and_the_checkpoint_are_read_and_add_up() -> None:
    slots = [COMPRESSED["commit with a pack"], PLAIN["commit without a pack"]]

    read = [decode_commit(slot, where="vector") for slot in slots]

    assert [commit.hash.hex() for commit in read] == GOLDEN["hashes"]
    assert [digest_of(slot[: read_frame(slot).end]).hex() for slot in slots] == GOLDEN["hashes"]
    if SAME_ZSTD:
        assert read == [commit for commit, _ in vectors.commits()]
    assert decode_checkpoint(COMPRESSED["checkpoint"], where="vector") == State().advance(read)


def test_the_pack_is_read_by_the_code_and_by_the_page(tmp_path: Any) -> None:
    scanned = {blob.digest for blob in scan_blobs(COMPRESSED["pack"], where="vector")}
    by_page = Store(tmp_path)
    read_pack(by_page, COMPRESSED["pack"])

    contents = {digest_of(content): content for content in vectors.CONTENTS}
    assert contents.keys() <= scanned
    assert contents.items() <= by_page.blobs.items()
    assert {key: by_page.entries[key][2] for key in by_page.entries} == {
        ("answers", "b"): digest_of(b"one"),
        ("answers", "a/ü"): bytes(vectors.digest_of(1)),
        ("answers", ""): None,
        (":versions", "m@v1"): digest_of(b""),
    }


def test_manifest_recipe_and_frames_are_read() -> None:
    assert decode_manifest(PLAIN["manifest"]) == vectors.manifest()
    assert [piece.size for piece in decode_recipe(PLAIN["recipe"], where="vector")] == [1 << 20, 5]
    raw, _ = decode_frame(COMPRESSED["compressed frame"], kind=Kind.CHECKPOINT, where="vector")
    assert raw == vectors.CONTENTS[2]
    assert read_frame(PLAIN["frame"]).raw == b"one"
