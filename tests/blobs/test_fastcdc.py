"""Choppers: the frozen cuts, their bounds, and that an edit changes only what lies around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.blobs.cut_inputs import KIB, MIB, noise

from keepstone.blobs import fastcdc
from keepstone.blobs.fastcdc import (
    COARSE_BYTES,
    FINE_BYTES,
    Chopper,
    FastCdcChopper,
    FixedChopper,
    new_chopper,
)
from keepstone.foundation.format import CHUNK_BYTES

CONTENT = noise("choppers", 2 * MIB)


def chop(chopper: Chopper, content: bytes, step: int = MIB) -> list[bytes]:
    pieces = [p for at in range(0, len(content), step) for p in chopper.feed(content[at : at + step])]
    return pieces + list(chopper.finish())


def small(monkeypatch: pytest.MonkeyPatch) -> FastCdcChopper:
    monkeypatch.setattr(fastcdc, "FINE_BYTES", (64, 256, 1024))
    monkeypatch.setattr(fastcdc, "COARSE_BYTES", (512, 1024, 4096))
    chopper = new_chopper()
    assert isinstance(chopper, FastCdcChopper)
    return chopper


@given(sizes=st.lists(st.integers(0, 700 * KIB), min_size=1, max_size=8), fixed=st.booleans())
def test_pieces_are_the_content_in_bounds_and_do_not_depend_on_how_it_arrives(
    sizes: list[int], fixed: bool
) -> None:
    chopper = FixedChopper() if fixed else new_chopper()
    content, pieces, at = CONTENT[: sum(sizes)], [], 0
    for size in sizes:
        pieces += chopper.feed(content[at : at + size])
        at += size
    pieces += chopper.finish()

    assert b"".join(pieces) == content
    assert pieces == chop(FixedChopper() if fixed else new_chopper(), content, 3 * MIB)
    least, greatest = (CHUNK_BYTES, CHUNK_BYTES) if fixed else (FINE_BYTES[0], FINE_BYTES[2])
    assert all(least <= len(piece) <= greatest for piece in pieces[:-1])
    assert all(0 < len(piece) <= greatest for piece in pieces[-1:])


@pytest.mark.parametrize("at", [100, 800_000, 2 * MIB - 100])
def test_an_insertion_changes_two_pieces_at_most(at: int) -> None:
    before = set(chop(new_chopper(), CONTENT))
    after = chop(new_chopper(), CONTENT[:at] + b"inserted" + CONTENT[at:])

    assert len([piece for piece in after if piece not in before]) <= 2


def test_what_lies_far_behind_is_cut_in_coarse_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastcdc, "COARSE_FROM_BYTES", 20_000)
    content = CONTENT[:60_000]
    pieces = chop(small(monkeypatch), content, 60_000)

    assert b"".join(pieces) == content
    assert pieces == chop(small(monkeypatch), content, 777)
    ends = [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]
    fine = [len(piece) for piece, end in zip(pieces, ends, strict=True) if end - len(piece) < 20_000]
    coarse = [len(piece) for piece, end in zip(pieces, ends, strict=True) if end - len(piece) >= 20_000]
    assert max(fine) <= 1024 < max(coarse)
    assert min(coarse[:-1]) >= 512


def test_no_piece_is_larger_than_what_is_stored_as_one_blob() -> None:
    assert max(FINE_BYTES + COARSE_BYTES) <= CHUNK_BYTES


def test_pyfastcdc_in_python_cuts_alike() -> None:
    # Not used, but it says what the compiled one does.
    from pyfastcdc.py import FastCDC

    content = CONTENT[: 600 * KIB]

    assert chop(FastCdcChopper(FastCDC), content) == chop(new_chopper(), content)
