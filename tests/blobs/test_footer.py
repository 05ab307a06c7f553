"""Footers: columns that say of every row what was put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.blobs.footer import Entry, pack_column, unpack_column
from keepstone.blobs.pack import PackBuilder, read_index
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import CorruptionError, MalformedError
from keepstone.foundation.format import Origin

VALUES = [b"zero", b"one", b"two", b"three"]
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
entries = st.builds(
    lambda key, stamp, writer, value, form: Entry(
        key, stamp, bytes([writer]) * 8, None if value is None else Digest.of(VALUES[value]), form
    ),
    keys,
    st.integers(0, 2**63 - 1),
    st.integers(0, 3),
    st.sampled_from([None, 0, 1, 2, 3]),
    st.integers(0, 3),
)


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_a_column_of_any_integers_comes_back(values: list[int]) -> None:
    assert list(unpack_column("q", pack_column("q", values), len(values), where="pack")) == values


@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=50), more=st.integers(1, 10))
def test_a_column_of_another_length_is_refused(values: list[int], more: int) -> None:
    stored = pack_column("B", values)

    for count in (len(values) + more, max(0, len(values) - more)):
        with pytest.raises(MalformedError):
            unpack_column("B", stored, count, where="pack")


@given(
    sections=st.dictionaries(
        st.sampled_from(["a", "b", ":versions"]), st.lists(entries, min_size=1, max_size=12)
    ),
    held=st.integers(0, 4),
)
def test_entries_come_back_in_the_order_of_their_stamps(sections: dict[str, list[Entry]], held: int) -> None:
    builder = PackBuilder(Origin.JOURNAL)
    builder.add_many([(Digest.of(value), value) for value in VALUES[:held]])
    for name, rows in sections.items():
        for row in rows:
            builder.add_entry(name, row)
    pack = builder.finish()

    index = read_index(pack.data[-pack.footer_size :], where="pack")

    assert set(index.sections) == set(sections) == set(pack.collections)
    for name, rows in sections.items():
        expected = sorted(rows, key=lambda e: (e.stamp, e.writer))
        got = index.entries(name)
        assert [entry for entry, _ in got] == expected
        assert index.keys(name) == [entry.key for entry in expected]
        assert index.sections[name].tombstones == sum(e.digest is None for e in rows)
        for entry, position in got:
            inside = entry.digest is not None and entry.digest in builder
            assert (position >= 0) == inside
            assert not inside or index.digest(position) == entry.digest
    assert pack.entries == sum(map(len, sections.values()))
    assert pack.stamp_max == max((e.stamp for rows in sections.values() for e in rows), default=0)


def test_a_collection_that_is_not_there_has_no_keys() -> None:
    pack = PackBuilder(Origin.SAVE).finish()
    index = read_index(pack.data, where="pack")

    assert index.keys("answers") == []
    assert index.entries("answers") == []
    assert index.find(Digest.of(b"")) is None


def test_a_flipped_byte_in_a_footer_is_an_error() -> None:
    builder = PackBuilder(Origin.JOURNAL)
    builder.add_many([(Digest.of(value), value) for value in VALUES])
    for i, value in enumerate(VALUES):
        builder.add_entry("answers", Entry(f"q{i}", i, b"w" * 8, Digest.of(value), 1))
    pack = builder.finish()
    tail = pack.data[-pack.footer_size :]
    for i in range(len(tail)):
        damaged = bytearray(tail)
        damaged[i] ^= 0x20
        with pytest.raises(CorruptionError):
            read_index(bytes(damaged), where="pack")
