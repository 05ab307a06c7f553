"""Inputs of the frozen cuts, made without any library whose output could change but BLAKE3."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Final

from blake3 import blake3

KIB: Final = 1024
MIB: Final = 1024 * 1024


def noise(seed: str, size: int) -> bytes:
    """Return `size` bytes that look random, the same for the same seed."""
    return blake3(seed.encode()).digest(length=size)


def rows(count: int) -> bytes:
    """Return lines of JSON."""
    return b"".join(b'{"id": %d, "answer": "%s"}\n' % (i, b"la " * (i % 40)) for i in range(count))


def safetensors(tensors: Mapping[str, bytes], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file as its own library lays it out."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + b"".join(tensors.values())


def npy(data: bytes, descr: str = "|u1") -> bytes:
    """Return an npy file of version 1."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({len(data)},), }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zip_of(members: Mapping[str, bytes], *, size_follows: bool, align: int = 1, long: bool = False) -> bytes:
    """Return the members of a zip file, stored, without its directory.

    As PyTorch writes them where `size_follows`: their sizes stand behind them; as numpy does where not.
    """
    made = bytearray()
    for name, data in members.items():
        raw = name.encode()
        size = 0 if size_follows else 0xFFFFFFFF if long else len(data)
        extra = struct.pack("<HHQQ", 1, 16, len(data), len(data)) if long and not size_follows else b""
        room = -(len(made) + 30 + len(raw) + len(extra) + 4) % align if align > 1 else 0
        extra += struct.pack("<HH", 0x4246, room) + b"Z" * room if align > 1 else b""
        flags = 8 if size_follows else 0
        made += struct.pack(
            "<4sHHHHHIIIHH", b"PK\3\4", 45, flags, 0, 0, 0, 0, size, size, len(raw), len(extra)
        )
        made += raw + extra + data
        if size_follows:
            made += struct.pack("<4sIQQ" if long else "<4sIII", b"PK\7\x08", 0, len(data), len(data))
    return bytes(made) + b"PK\1\2" + bytes(60)


TENSORS: Final = {
    "embedding": noise("embedding", 2 * MIB + 500 * KIB),
    "norm": noise("norm", 3 * KIB),
    "layer": noise("layer", MIB),
    "bias": noise("bias", 100 * KIB),
}
INPUTS: Final[dict[str, bytes]] = {
    "noise": noise("noise", 3 * MIB),
    "zeros": bytes(2 * MIB),
    "rows": rows(30_000),
    "safetensors": safetensors(TENSORS),
    "npy": npy(noise("npy", 2 * MIB)),
    "npz": zip_of(
        {f"{name}.npy": npy(data) for name, data in TENSORS.items()}, size_follows=False, long=True
    ),
    "torch": zip_of(
        {"m/data.pkl": b"pickle", **{f"m/data/{i}": data for i, data in enumerate(TENSORS.values())}},
        size_follows=True,
        align=64,
    ),
}
