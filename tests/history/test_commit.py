"""Commits: what is written is read again, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.foundation import frame
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    CorruptionError,
    InvalidInputError,
    MalformedError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import (
    COMMIT_BYTES_MAX,
    INLINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    REF_NAME_BYTES_MAX,
    REF_VALUE_BYTES_MAX,
    Codec,
    Kind,
    pack_key,
)
from keepstone.history.commit import (
    NO_PARENT,
    Commit,
    PackName,
    PackRecord,
    RefChange,
    Replacement,
    decode_commit,
    encode_commit,
    identify,
    trimmed,
)

numbers = st.integers(0, 2**63 - 1)
pack_names = st.builds(PackName, numbers, st.binary(min_size=32, max_size=32))
records = st.builds(
    PackRecord,
    pack_names,
    numbers,
    numbers,
    numbers,
    st.lists(st.text("abc/ü", min_size=1, max_size=9), max_size=3).map(tuple),
    numbers,
    st.integers(0, 255),
)
values = st.none() | st.binary(max_size=70)
commits = st.builds(
    Commit,
    number=numbers,
    parent=st.binary(min_size=32, max_size=32),
    txn=st.binary(min_size=16, max_size=16),
    store=st.binary(min_size=1, max_size=64),
    writer=st.binary(min_size=8, max_size=8),
    time=numbers,
    message=st.text(st.characters(codec="utf-8"), max_size=40),
    add=st.lists(records, max_size=3).map(tuple),
    drop=st.lists(pack_names, max_size=3).map(tuple),
    replace=st.lists(
        st.builds(Replacement, st.tuples(pack_names), st.lists(pack_names, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    needs=st.lists(pack_names, max_size=3).map(tuple),
    refs=st.lists(
        st.builds(RefChange, st.text("abc:/", min_size=1, max_size=9), values, values), max_size=3
    ).map(tuple),
    floor=st.none() | numbers,
    seals=st.lists(st.binary(min_size=16, max_size=16), max_size=2).map(tuple),
)
CONTENT = b"a small pack"


def plain(**fields: Any) -> Commit:
    given: dict[str, Any] = {
        "number": 3,
        "parent": NO_PARENT,
        "txn": b"t" * 16,
        "store": b"s" * 16,
        "writer": b"w" * 8,
        "time": 5,
    }
    return Commit(**(given | fields))


def with_inline(content: bytes = CONTENT) -> Commit:
    return plain(inline=PackRecord(PackName(2, Digest.of(content)), len(content), 0, 1, (), 7, 1))


@given(commits, st.none() | st.binary(min_size=1, max_size=300))
def test_a_commit_reads_as_it_was_written(commit: Commit, content: bytes | None) -> None:
    if content is not None:
        record = PackRecord(PackName(0, Digest.of(content)), len(content), 0, 1, (), 7, 1)
        commit = msgspec.structs.replace(commit, inline=record)

    data = encode_commit(commit, content or b"")

    found = decode_commit(data, where="here")
    assert found == identify(commit, data, len(content or b""))
    assert found.hash == Digest.of(data[: found.header_size])
    assert data[found.header_size :] == (content or b"")
    assert encode_commit(found, content or b"") == data


def test_digests_are_taken_wherever_bytes_are() -> None:
    digest = Digest.of(b"value")
    commit = plain(parent=digest, refs=(RefChange("name", None, digest),), add=(with_inline().inline,))

    found = decode_commit(encode_commit(commit), where="here")

    assert found.parent == digest
    assert found.refs[0].new == bytes(digest)


def test_a_pack_name_is_written_as_base_and_hex_and_orders_by_base() -> None:
    name = PackName(7, Digest.of(b"x"))

    assert str(name) == f"{7:020d}-{Digest.of(b'x').hex()}"
    assert name.key == pack_key(7, Digest.of(b"x").hex())
    assert name < PackName(8, bytes(32))
    assert len({name, PackName(7, bytes(Digest.of(b"x")))}) == 1


def test_only_number_parent_and_txn_stand_beside_the_body() -> None:
    data = encode_commit(plain(message="hidden"))

    payload, _ = frame.decode_frame(data, kind=Kind.COMMIT, where="here")
    number, parent, txn, body = msgspec.msgpack.decode(payload)

    assert (number, parent, txn) == (3, NO_PARENT, b"t" * 16)
    assert msgspec.msgpack.decode(body)[0] == "hidden"


def test_a_trimmed_slot_keeps_its_commit_and_hash() -> None:
    data = encode_commit(with_inline(), CONTENT)

    short = trimmed(data, where="here")

    assert len(short) == len(data) - len(CONTENT)
    assert decode_commit(short, where="here") == decode_commit(data, where="here")


def test_a_flipped_bit_anywhere_in_a_slot_is_corruption() -> None:
    data = encode_commit(with_inline(), CONTENT)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(CorruptionError):
            decode_commit(bytes(damaged), where="here")


def test_a_slot_cut_anywhere_but_behind_its_header_is_corruption() -> None:
    data = encode_commit(with_inline(), CONTENT)
    header_size = len(data) - len(CONTENT)
    for size in set(range(len(data))) - {header_size}:
        with pytest.raises(CorruptionError):
            decode_commit(data[:size], where="here")


def test_bytes_behind_a_commit_without_inline_pack_are_corruption() -> None:
    with pytest.raises(MalformedError, match="1 bytes behind its header, not 0"):
        decode_commit(encode_commit(plain()) + b"x", where="here")


def test_another_inline_pack_of_the_same_size_is_corruption() -> None:
    data = encode_commit(with_inline(), CONTENT)

    with pytest.raises(CorruptionError, match="inline pack"):
        decode_commit(data[: -len(CONTENT)] + bytes(len(CONTENT)), where="here")


def test_a_newer_format_is_refused_not_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(frame, "FORMAT_VERSION", 2)
        data = encode_frame_of(encode_commit(plain()))

    with pytest.raises(UnsupportedFormatError) as caught:
        decode_commit(data, where="commit 3")

    assert "format 2" in caught.value.found
    assert "upgrade" in caught.value.hint


def encode_frame_of(data: bytes) -> bytes:
    """The payload of `data` in a frame of the present version."""
    return frame.encode_frame(Kind.COMMIT, data[frame.HEADER_BYTES :])


def test_a_frame_of_another_kind_or_codec_is_no_commit() -> None:
    payload = encode_commit(plain(message="x" * 200))[frame.HEADER_BYTES :]

    with pytest.raises(MalformedError, match="kind 9"):
        decode_commit(frame.encode_frame(Kind.CHECKPOINT, payload), where="here")
    with pytest.raises(MalformedError, match=f"codec {Codec.ZSTD.value}"):
        decode_commit(frame.compress_frame(Kind.COMMIT, payload), where="here")


@pytest.mark.parametrize(
    "fields",
    [
        {"message": "x" * (MESSAGE_BYTES_MAX + 1)},
        {"message": "\ud800"},
        {"refs": (RefChange("", None, b""),)},
        {"refs": (RefChange("n" * (REF_NAME_BYTES_MAX + 1), None, b""),)},
        {"refs": (RefChange("n", None, b"v" * (REF_VALUE_BYTES_MAX + 1)),)},
        {"refs": (RefChange("n", b"v" * (REF_VALUE_BYTES_MAX + 1), None),)},
        {"txn": b"short"},
        {"parent": b"short"},
        {"writer": b"short"},
        {"store": b""},
        {"seals": (b"short",)},
        {"number": -1},
        {"floor": -1},
        {"time": 2**63},
        {"needs": (PackName(0, b"short"),)},
        {"add": (PackRecord(PackName(0, bytes(32)), 1, 1, 1, ("c" * 513,), 1, 1),)},
        {"add": (PackRecord(PackName(0, bytes(32)), 1, 1, 1, (), 1, 256),)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_field_above_its_limit_is_refused_by_writer_and_reader(fields: dict[str, Any]) -> None:
    commit = plain(**fields)
    with pytest.raises(InvalidInputError):
        encode_commit(commit)

    body = msgspec.msgpack.Encoder()
    if "\ud800" in commit.message:
        return
    names = [
        n for n in Commit.__struct_fields__ if n not in ("number", "parent", "txn", "hash", "header_size")
    ]
    payload = body.encode(
        [commit.number, commit.parent, commit.txn, body.encode([getattr(commit, n) for n in names])]
    )
    with pytest.raises(MalformedError):
        decode_commit(frame.encode_frame(Kind.COMMIT, payload), where="here")


def test_a_commit_above_the_limit_is_refused() -> None:
    names = tuple(
        PackName(number, Digest.of(str(number).encode())) for number in range(COMMIT_BYTES_MAX // 34)
    )

    with pytest.raises(InvalidInputError, match="4,194,304"):
        encode_commit(plain(needs=names))


def test_an_inline_pack_above_the_limit_is_refused() -> None:
    content = bytes(INLINE_BYTES_MAX + 1)

    with pytest.raises(InvalidInputError, match="inline pack"):
        encode_commit(with_inline(content), content)


def test_inline_bytes_that_are_not_the_stated_pack_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        encode_commit(with_inline(), b"another pack")
    with pytest.raises(InvalidInputError):
        encode_commit(plain(), CONTENT)
