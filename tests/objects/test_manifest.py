"""Manifests: canonical bytes, bounded decoding, and no path that leaves its folder."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import encode
from keepstone.foundation.errors import (
    InvalidInputError,
    KeepstoneError,
    MalformedError,
    SerializerError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import METADATA_BYTES_MAX
from keepstone.objects.manifest import Manifest, Part, PartMode, decode_manifest, encode_manifest

DIGEST = Digest.of(b"x")


def part(path: str = "", digest: bytes = DIGEST, size: int = 1, mode: int = PartMode.FILE) -> Part:
    return Part(path, digest, size, mode)


def manifest(*parts: Part, metadata: dict[str, Any] | None = None, **other: Any) -> Manifest:
    facts = {"serializer": "folder", "serializer_version": 1, "type_name": "folder", **other}
    return Manifest(parts=parts, metadata=metadata or {}, **facts)


def test_a_manifest_decodes_to_what_was_encoded() -> None:
    given_one = manifest(
        part("a/b", mode=PartMode.EXECUTABLE),
        part("a/c", mode=PartMode.SYMLINK),
        metadata={"accuracy": 0.87, "tags": ["x", None, True]},
        parents=(str(DIGEST),),
        packages={"numpy": "2.0"},
        detail={"k": [1]},
    )

    assert decode_manifest(encode_manifest(given_one)) == given_one


def test_equal_content_gives_equal_bytes_whatever_the_order() -> None:
    first = manifest(part("a"), part("b"), metadata={"x": 1, "y": {"p": 1, "q": 2}})
    second = manifest(part("b"), part("a"), metadata={"y": {"q": 2, "p": 1}, "x": 1})

    assert encode_manifest(first) == encode_manifest(second)


def test_the_bytes_of_format_1_are_a_map_in_field_order() -> None:
    text = {name: bytes([0xA0 + len(name)]) + name.encode() for name in Manifest.__struct_fields__}
    one_part = b"\x91\x94\xa1a\xc4\x20" + DIGEST + b"\x01\x00"
    expected = b"\x8a" + b"".join(
        [
            text["format"] + b"\x01",
            text["serializer"] + b"\xa6folder",
            text["serializer_version"] + b"\x01",
            text["type_name"] + b"\xa6folder",
            text["parts"] + one_part,
            text["metadata"] + b"\x82\xa1m\x02\xa1n\x01",
            text["parents"] + b"\x90",
            text["packages"] + b"\x80",
            text["references"] + b"\x90",
            text["detail"] + b"\x80",
        ]
    )

    assert encode_manifest(manifest(part("a"), metadata={"n": 1, "m": 2})) == expected


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "a//b", "./a", "a/.", "..", "a/", "nul\0", "\ud800", "x" * 5000],
)
def test_paths_that_could_escape_are_refused_on_both_ways(path: str) -> None:
    bad = manifest(part(path), part("z"))

    with pytest.raises(InvalidInputError):
        encode_manifest(bad)
    if path != "\ud800":
        with pytest.raises(MalformedError, match="part"):
            decode_manifest(encode(by_hand(bad)))


def by_hand(bad: Manifest) -> dict[str, Any]:
    parts = [[p.path, bytes(p.digest), p.size, p.mode] for p in bad.parts]
    return {**msgspec.structs.asdict(bad), "parts": parts}


@pytest.mark.parametrize(
    "bad",
    [
        manifest(part("a", mode=PartMode.SYMLINK), part("a/b")),
        manifest(part("a"), part("a.b"), part("a/b/c")),
        manifest(part("a"), part("a")),
        manifest(part("b"), part("a"), serializer_version=0),
        manifest(part(""), part("a")),
        manifest(part("a", digest=b"short")),
        manifest(part("a", size=-1)),
        manifest(part("a", mode=9)),
        manifest(part("a"), serializer="Bad Id"),
        manifest(part("a"), format=0),
    ],
)
def test_broken_rules_are_refused_on_both_ways(bad: Manifest) -> None:
    with pytest.raises(InvalidInputError):
        encode_manifest(bad)
    with pytest.raises(MalformedError):
        decode_manifest(encode(by_hand(bad)))


def test_parts_out_of_order_are_not_canonical() -> None:
    with pytest.raises(MalformedError, match="out of order"):
        decode_manifest(encode(by_hand(manifest(part("b"), part("a")))))


def test_a_newer_format_is_unsupported_not_malformed() -> None:
    newer = encode({"format": 2, "unheard": "of"})

    with pytest.raises(UnsupportedFormatError) as caught:
        decode_manifest(newer)
    assert caught.value.found == "manifest format 2"


def test_references_are_refused_until_a_release_defines_them() -> None:
    named = {**by_hand(manifest(part("a"))), "references": [["s3://b/x"]]}

    with pytest.raises(UnsupportedFormatError, match="not copied"):
        decode_manifest(encode(named))
    with pytest.raises(InvalidInputError, match="reserved"):
        encode_manifest(manifest(part("a"), references=("s3://b/x",)))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(MalformedError):
        decode_manifest(encode({**by_hand(manifest(part("a"))), "surprise": 1}))


@pytest.mark.parametrize("metadata", [{"x": math.nan}, {"x": {1: 2}}, {"x": {1}}, {"x": b"y"}])
def test_metadata_is_json_like(metadata: dict[str, Any]) -> None:
    with pytest.raises(SerializerError, match=r"at \$\.x"):
        encode_manifest(manifest(part("a"), metadata=metadata))


def test_metadata_is_bounded() -> None:
    with pytest.raises(InvalidInputError, match="metadata takes"):
        encode_manifest(manifest(part("a"), metadata={"x": "y" * METADATA_BYTES_MAX}))
    with pytest.raises(InvalidInputError, match="cannot be described"):
        encode_manifest(manifest(part("a"), metadata={"x": 2**70}))


@given(st.binary(max_size=300))
def test_garbage_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(KeepstoneError):
        decode_manifest(data)


WHOLE = encode_manifest(manifest(part("a/b"), part("c", mode=PartMode.SYMLINK), metadata={"k": [1, "x"]}))


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_flipped_byte_is_an_error_or_another_valid_manifest(position: int, byte: int) -> None:
    changed = WHOLE[:position] + bytes([byte]) + WHOLE[position + 1 :]
    try:
        decoded = decode_manifest(changed)
    except KeepstoneError:
        return
    assert decode_manifest(encode_manifest(decoded)) == decoded


@pytest.mark.parametrize("data", [b"\x93" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b""])
def test_hostile_sizes_and_nesting_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_manifest(data)
    with pytest.raises(MalformedError):
        decode_manifest(b"\x82\xa6format\x01\xa8metadata" + data)
