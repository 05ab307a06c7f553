"""The log to fuzz: commits, checkpoints, features."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import msgspec
from tests.faults.fuzz_mutations import restructured
from tests.faults.fuzz_packs import first_frame, sample_pack
from tests.faults.fuzz_target import ID, STORE, Target, payload_of, resealed, restructured_input

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import encode
from keepstone.foundation.format import Kind, Origin
from keepstone.foundation.frame import encode_frame
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
from keepstone.repository.refs import NameRef


def _record(size: int = 200) -> PackRecord:
    return PackRecord(PackName(0, bytes(range(32))), size, 100, 3, ("answers",), 10**18, int(Origin.JOURNAL))


def _commit() -> Commit:
    return Commit(
        store=STORE,
        writer=bytes(8),
        time=10**18,
        message="made",
        add=(_record(),),
        refs=(RefChange("model", None, NameRef("artifact", 1, 1, bytes(32)).encoded()),),
        seals=(ID,),
        number=0,
        parent=bytes(32),
        txn=ID,
    )


def _read_commit(data: bytes) -> object:
    size = header_size_of(data, where="commit")
    commit = decode_commit(data, where="commit")
    state = State().advance([commit])
    return size, encode_checkpoint(state)


def _changed_body(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    header: list[Any] = msgspec.msgpack.decode(payload_of(Kind.COMMIT, data))
    header[-1] = restructured(random, header[-1])
    return encode_frame(Kind.COMMIT, msgspec.msgpack.encode(header))


def _checkpoint() -> bytes:
    name = PackName(0, bytes(range(32)))
    state = State(
        number=3,
        hash=bytes(range(32)),
        time=10**18,
        packs={name: LivePack(_record())},  # pyright: ignore[reportArgumentType]
        refs={"model": NameRef("artifact", 1, 1, bytes(32)).encoded()},  # pyright: ignore[reportArgumentType]
        floor=1,
        sealed={ID: 2},  # pyright: ignore[reportArgumentType]
        log_bytes=5_000,
    )
    return encode_checkpoint(state)


def _read_checkpoint(data: bytes) -> object:
    state = decode_checkpoint(data, where="checkpoint")
    return state.length, [pack.key for pack in state.packs.values()]


def targets() -> list[Target]:
    """Return the decoders of the log."""
    commit = encode_commit(_commit())
    packed = first_frame(sample_pack())
    inline = encode_commit(
        msgspec.structs.replace(
            _commit(),
            add=(),
            inline=msgspec.structs.replace(_record(len(packed)), name=PackName(0, bytes(Digest.of(packed)))),
        ),
        packed,
    )
    checkpoint = _checkpoint()
    commit_frame = partial(resealed, kind=Kind.COMMIT, open_payload=partial(payload_of, Kind.COMMIT))
    checkpoint_frame = partial(
        resealed, kind=Kind.CHECKPOINT, open_payload=partial(payload_of, Kind.CHECKPOINT), squeeze=True
    )
    features = encode({"read": ["x"], "write": []})
    return [
        Target("commit", [commit, inline], _read_commit),
        Target("commit, sealed", [commit], _read_commit, commit_frame),
        Target("commit body, sealed", [commit], _read_commit, _changed_body),
        Target("checkpoint", [checkpoint], _read_checkpoint),
        Target("checkpoint, sealed", [checkpoint], _read_checkpoint, checkpoint_frame),
        Target("features", [features], lambda data: read_features(data, where="store"), restructured_input),
    ]
