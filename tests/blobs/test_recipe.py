"""Recipes: pieces that add up, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.blobs.recipe import Piece, decode_recipe, encode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError

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
