"""The slim frame of a pack: 16 bytes, then the stored bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.blobs.compression import Decompressor, new_compressor
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, encode_header, read_header, read_raw
from keepstone.foundation.errors import (
    CorruptionError,
    MalformedError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import Codec, Kind
from keepstone.foundation.frame import NO_DICTIONARY


def no_dictionary(identity: bytes) -> bytes:
    raise MalformedError(f"no dictionary {identity.hex()}")


def read(frame: bytes) -> bytes:
    return read_raw(frame, Decompressor(), NO_DICTIONARY, no_dictionary, where="pack", offset=0)


def test_the_header_takes_sixteen_bytes_with_magic_first() -> None:
    header = encode_header(Kind.BLOB, Codec.RAW, b"content", 7)

    assert len(header) == PACK_FRAME_HEADER_BYTES == 16
    assert header[:2] == b"Kf"
    assert header[2:4] == bytes([Kind.BLOB, Codec.RAW])


@given(
    raw=st.binary(min_size=1, max_size=2000), kind=st.sampled_from([Kind.BLOB, Kind.RECIPE, Kind.DICTIONARY])
)
def test_what_is_framed_comes_back(raw: bytes, kind: Kind) -> None:
    stored = new_compressor(3).compress(raw)

    assert read(encode_header(kind, Codec.RAW, raw, len(raw)) + raw) == raw
    frame = encode_header(kind, Codec.ZSTD, stored, len(raw)) + stored
    assert read(frame) == raw
    header = read_header(frame, 0, where="pack")
    assert (header.kind, header.stored_size, header.raw_size) == (kind, len(stored), len(raw))


def test_a_flipped_byte_gives_the_content_or_an_error() -> None:
    raw = b"the content of a blob " * 4
    stored = new_compressor(3).compress(raw)
    frame = encode_header(Kind.BLOB, Codec.ZSTD, stored, len(raw)) + stored
    for i in range(len(frame)):
        for bit in (1, 128):
            damaged = bytearray(frame)
            damaged[i] ^= bit
            try:
                got = read(bytes(damaged))
            except (CorruptionError, UnsupportedFormatError):
                continue
            # A header has no check of its own: the digest, which the caller compares, decides.
            assert got == raw or i < PACK_FRAME_HEADER_BYTES


@pytest.mark.parametrize("size", range(40))
def test_a_frame_that_is_cut_is_refused(size: int) -> None:
    frame = encode_header(Kind.BLOB, Codec.RAW, b"x" * 24, 24) + b"x" * 24

    with pytest.raises(MalformedError):
        read(frame[:size])


def test_a_codec_of_a_newer_release_says_upgrade() -> None:
    with pytest.raises(UnsupportedFormatError) as caught:
        read(encode_header(Kind.BLOB, Codec.BYTE_PLANES, b"x", 1) + b"x")
    assert caught.value.hint == "upgrade keepstone"
