"""Recipes: pieces that add up, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.blobs.recipe import Piece, cut, decode_recipe, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import CHUNK_BYTES

pieces = st.builds(
    Piece, st.binary(min_size=32, max_size=32).map(Digest), st.integers(min_value=0, max_value=2**32 - 1)
)


@given(rows=st.lists(pieces, max_size=30))
def test_pieces_come_back_in_order(rows: list[Piece]) -> None:
    assert decode_recipe(encode_recipe(rows), where="recipe") == rows


@given(rows=st.lists(pieces, min_size=1, max_size=5), data=st.data())
def test_a_recipe_that_is_cut_is_refused(rows: list[Piece], data: st.DataObject) -> None:
    payload = encode_recipe([*rows, Piece(Digest.of(b"last"), 1)])
    size = data.draw(st.integers(0, len(payload) - 1))

    with pytest.raises(MalformedError):
        decode_recipe(payload[:size], where="recipe")


def test_sizes_that_do_not_add_up_are_refused() -> None:
    payload = bytearray(encode_recipe([Piece(Digest.of(b"a"), 5)]))
    payload[0] ^= 1

    with pytest.raises(MalformedError, match="add up"):
        decode_recipe(bytes(payload), where="recipe")


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("step", [70_000, CHUNK_BYTES, 5 * CHUNK_BYTES])
def test_content_is_cut_alike_however_it_arrives(size: int, step: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]

    got = list(cut(content[i : i + step] for i in range(0, size, step)))

    assert b"".join(got) == content
    assert all(len(piece) == CHUNK_BYTES for piece in got[:-1])
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in got)
