"""Leaves: the rows of a snapshot, cut where their keys say; what is no leaf is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone import MalformedError
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import LEAF_BYTES_MAX, LEAF_KEYS_MAX, Form
from keepstone.repository.leaves import Leaf, LeafRow, cut_leaves, decode_leaf, encode_leaf


def rows_of(keys: set[str]) -> list[LeafRow]:
    return [LeafRow(key, Digest.of(key.encode()), Form.JSON) for key in sorted(keys)]


@given(st.integers(0, 3_000), st.integers(0, 3_500), st.text(max_size=5))
@settings(max_examples=6, deadline=None)
def test_one_key_changes_one_leaf_or_two(count: int, at: int, tail: str) -> None:
    keys = {f"key {i:05d}" for i in range(count)}
    new = f"key {at:05d}{tail}"
    before = {encode_leaf(leaf) for leaf in cut_leaves(rows_of(keys - {new}))}
    after = [encode_leaf(leaf) for leaf in cut_leaves(rows_of(keys | {new}))]

    assert len(set(after) - before) <= 2
    assert [row for raw in after for row in decode_leaf(raw, where="it").rows()] == rows_of(keys | {new})


def test_leaves_stay_within_their_limits() -> None:
    long = [LeafRow(f"{i:04d}" + "é" * 2_046, Digest.of(b""), Form.JSON) for i in range(600)]
    sizes = [len(encode_leaf(leaf)) for leaf in cut_leaves(long)]
    assert max(sizes) <= LEAF_BYTES_MAX
    assert len(sizes) < 15
    never = (LeafRow(key, Digest.of(b""), Form.JSON) for key in sorted(_uncut(LEAF_KEYS_MAX + 5)))
    assert [len(leaf.keys) for leaf in cut_leaves(never)] == [LEAF_KEYS_MAX, 5]


def _uncut(count: int) -> list[str]:
    """Return keys behind which no leaf ends."""
    from blake3 import blake3

    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        if int.from_bytes(blake3(str(number).encode()).digest(4), "little") % 1024:
            found.append(str(number))
    return found


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf((), b"", b""),
        Leaf(("b", "a"), bytes(64), b"\3\3"),
        Leaf(("a", "a"), bytes(64), b"\3\3"),
        Leaf(("a",), bytes(31), b"\3"),
        Leaf(("a",), bytes(32), b"\3\3"),
        Leaf(("a",), bytes(32), b"\7"),
        Leaf(("x" * 5_000,), bytes(32), b"\3"),
        Leaf(tuple(f"{i:05d}" for i in range(8_193)), bytes(32 * 8_193), b"\3" * 8_193),
    ],
)
def test_what_is_no_leaf_is_refused(leaf: Leaf) -> None:
    with pytest.raises(MalformedError, match="leaf"):
        decode_leaf(encode_leaf(leaf), where="answers@v1")


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_bytes_at_random_are_no_leaf_or_a_sound_one(data: bytes) -> None:
    try:
        leaf = decode_leaf(data, where="it")
    except MalformedError:
        return
    assert list(leaf.rows())
