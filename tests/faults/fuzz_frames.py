"""Frames to fuzz: what stands around commits, checkpoints, footers and journals."""

from __future__ import annotations

import random
import struct
import zlib

from tests.faults.fuzz_mutations import bomb, mutated
from tests.faults.fuzz_target import Target

from keepstone.foundation.format import Codec, Kind
from keepstone.foundation.frame import (
    HEADER_BYTES,
    compress_frame,
    encode_frame,
    peek_header,
    read_header,
    read_payload,
)


def _read_frame(data: bytes) -> object:
    peek_header(data, 0)
    header = read_header(data, where="object")
    return read_payload(header, data[HEADER_BYTES : HEADER_BYTES + header.stored_size], where="object")


def _resealed_frame(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A frame whose header check and payload check are sound, and whose content or sizes are not."""
    payload = random.choice((bomb(random), data[HEADER_BYTES:], mutated(random, data[HEADER_BYTES:], others)))
    raw_size = random.choice((len(payload), 0, 1, 10**6, 2**26, 2**26 + 1, 2**40, 2**64 - 1))
    codec = random.choice((Codec.RAW, Codec.ZSTD, 2, 3, 9))
    fields = struct.pack(
        "<4sBBBBHHIQQ8s32s",
        *(b"KPST", 1, random.choice((*Kind, 77)), codec, 0, 0, 0, zlib.crc32(payload), len(payload)),
        *(raw_size, bytes(8), bytes(32)),
    )
    return fields + zlib.crc32(fields).to_bytes(4, "little") + payload


def targets() -> list[Target]:
    """Return the decoder of frames."""
    frames = [encode_frame(Kind.COMMIT, b"payload" * 9), compress_frame(Kind.CHECKPOINT, b"payload" * 900)]
    return [
        Target("frame", frames, _read_frame),
        Target("frame, sealed", frames, _read_frame, _resealed_frame),
    ]
