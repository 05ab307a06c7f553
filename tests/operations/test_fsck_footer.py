"""The check of footers: whatever does not add up is found, though every digest is right."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.blobs.footer import TOMBSTONE, Entry, PackIndex, pack_column
from keepstone.blobs.pack import PackBuilder, read_index
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError, UnsupportedFormatError
from keepstone.foundation.format import Form, Origin
from keepstone.history.commit import PackName, PackRecord
from keepstone.operations.fsck_footer import check_footer

WRITER = b"writer-1"


def made(positions: list[int | None]) -> tuple[PackIndex, PackRecord]:
    """A pack of five blobs, and entries that name those at `positions`; 5 stands in another pack, None for none."""
    raws = [bytes([i]) * (i + 1) for i in range(6)]
    builder = PackBuilder(Origin.SAVE)
    for raw in raws[:5]:
        builder.add(Digest.of(raw), raw)
    for i, position in enumerate(positions):
        digest = None if position is None else Digest.of(raws[position])
        builder.add_entry("answers", Entry(f"k{i}", 1000 + i, WRITER, digest, Form.BYTES))
    pack = builder.finish()
    record = PackRecord(
        PackName(0, pack.digest),
        len(pack.data),
        pack.footer_size,
        pack.entries,
        pack.collections,
        pack.stamp_max,
        pack.origin,
    )
    return read_index(pack.data[-pack.footer_size :], where="the pack"), record


def changed(index: PackIndex, **columns: Any) -> PackIndex:
    """The same footer with other values in its section, or in itself; no writers at all where that is empty."""
    footer = index.footer
    own = {name: columns.pop(name) for name in ("dictionaries", "origin") if name in columns}
    if columns.get("writers") == ():
        own["writers"] = columns.pop("writers")
    (section,) = footer.sections
    sections = (msgspec.structs.replace(section, **columns),)
    return PackIndex(msgspec.structs.replace(footer, sections=sections, **own), where=index.where)


@given(st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=20))
def test_what_the_builder_writes_adds_up(positions: list[int | None]) -> None:
    check_footer(*made(positions))


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"stamps": pack_column("q", [0, 5, -4, 1, 0])}, "do not add up"),
        ({"stamps": pack_column("q", [0, 1, 1, 1, 9])}, "do not add up"),
        ({"blobs": pack_column("q", [0, 1, 1, 1, 2])}, "not there"),
        ({"blobs": pack_column("q", [1, 1, 1, 1, 1])}, "not there"),
        ({"blobs": pack_column("q", [-1, 1, 1, 1, 1])}, "not there"),
        ({"blobs": pack_column("q", [0, 1, 1, 1, TOMBSTONE - 3])}, "tombstones"),
        ({"tombstones": 1}, "tombstones"),
        ({"writers": pack_column("H", [0, 0, 0, 0, 1])}, "writer"),
        ({"writers": ()}, "writer"),
        ({"dictionaries": ((bytes(8), 0),)}, "dictionary"),
        ({"count": 4}, "says"),
        ({"stamp_max": 2000}, "says"),
        ({"collection": "other"}, "says"),
        ({"origin": Origin.REPACK}, "says"),
    ],
)
def test_columns_that_contradict_each_other_are_found(columns: dict[str, Any], error: str) -> None:
    index, record = made([0, 1, 2, 3, 4])

    with pytest.raises(MalformedError, match=error):
        check_footer(changed(index, **columns), record)


def test_frames_that_do_not_fill_the_pack_are_found() -> None:
    index, record = made([0])

    with pytest.raises(MalformedError, match="frames end"):
        check_footer(index, msgspec.structs.replace(record, size=record.size + 1))


def test_a_form_of_a_newer_release_is_unsupported_not_damaged() -> None:
    index, record = made([0, 1])

    with pytest.raises(UnsupportedFormatError, match="form of a value 9"):
        check_footer(changed(index, forms=pack_column("B", [1, 9])), record)
