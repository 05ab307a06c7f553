"""Reading journals: every whole entry, nothing else, whatever happened to the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.blobs.conftest import item

from keepstone.blobs.journal import JournalFile
from keepstone.blobs.journal_header import read_journal_header
from keepstone.blobs.spool import Spool
from keepstone.foundation.errors import CorruptionError, MalformedError, UnsupportedFormatError
from keepstone.foundation.frame import HEADER_BYTES
from keepstone.storage.calls import Calls

MakeSpool = Callable[..., Spool]
PAIRS = [("a", b"alpha"), ("b", b"beta" * 5), ("c", None), ("a", b"second alpha"), ("d", b"")]


def opened(path: Path) -> JournalFile:
    calls = Calls()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        header, end = read_journal_header(path.name, descriptor, calls)
    except BaseException:
        os.close(descriptor)
        raise
    journal = JournalFile(path.name, descriptor, header, end, calls, keep_history=True)
    journal.poll()
    return journal


def written(
    spool: Spool, pairs: list[tuple[str, bytes | None]], *, finish: bool = False
) -> tuple[Path, list[int]]:
    """Append `pairs` one by one; return the journal's path and where each ends."""
    ends: list[int] = []
    for key, value in pairs:
        ticket = spool.append("answers", [item(key, value)])
        ends.append(ticket.offset)
    path = ticket.journal.path
    if finish:
        spool.finish()
    else:
        spool.let_go()
    return path, ends


def contents(journal: JournalFile) -> list[tuple[str, bytes | None]]:
    """What the journal says in order; values verified."""
    return [
        (row.key, journal.read_value(row) if row.digest is not None and row.offset >= 0 else None)
        for _, row in journal.history
    ]


def test_what_was_appended_is_read_in_order(make_spool: MakeSpool) -> None:
    path, _ = written(make_spool(), PAIRS, finish=True)

    journal = opened(path)

    assert contents(journal) == PAIRS
    assert journal.final
    assert journal.damage == []
    assert {row.key for _, row in journal.all_rows()} == {"a", "b", "c", "d"}
    assert journal.read_value(journal.rows["answers"]["a"]) == b"second alpha"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.none() | st.binary(max_size=60)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_keys_and_values_come_back(make_spool: MakeSpool, pairs: list[tuple[str, bytes | None]]) -> None:
    path, _ = written(make_spool(), pairs)

    assert contents(opened(path)) == pairs


def test_cut_at_every_length_every_whole_entry_is_found_and_nothing_else(
    make_spool: MakeSpool, tmp_path: Path
) -> None:
    path, ends = written(make_spool(), PAIRS, finish=True)
    data = path.read_bytes()
    header_end = len(data) - len(data)
    cut = tmp_path / "cut"
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        whole = [pair for pair, end in zip(PAIRS, ends, strict=True) if end <= size]
        try:
            journal = opened(cut)
        except CorruptionError:
            assert not whole
            header_end = size
            continue
        assert contents(journal) == whole
        assert journal.damage == []
        assert journal.final == (size == len(data))
    assert 0 < header_end < ends[0]


def test_one_flipped_byte_gives_right_values_or_none(make_spool: MakeSpool, tmp_path: Path) -> None:
    path, _ = written(make_spool(), PAIRS, finish=True)
    data = path.read_bytes()
    flipped = tmp_path / "flipped"
    allowed = set(PAIRS)
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 0x04
        flipped.write_bytes(damaged)
        try:
            journal = opened(flipped)
        except (CorruptionError, UnsupportedFormatError):
            continue
        found = [(row.key, row) for _, row in journal.history]
        for key, row in found:
            if row.digest is None or row.offset < 0:
                continue
            assert (key, journal.read_value(row)) in allowed
        # One flip costs at most the item that it hits.
        assert len(found) >= len(PAIRS) - 1


def test_a_value_damaged_after_it_was_indexed_is_an_error(make_spool: MakeSpool) -> None:
    path, _ = written(make_spool(), [("a", b"alpha" * 10)])
    journal = opened(path)
    row = journal.rows["answers"]["a"]
    with open(path, "r+b") as file:
        file.seek(row.offset)
        file.write(b"A")

    with pytest.raises(CorruptionError):
        journal.read_value(row)


# ---- a journal as a value ------------------------------------------------------------------------------------------


def with_embedded(make_spool: MakeSpool, tmp_path: Path) -> tuple[Path, bytes]:
    """A journal that holds a whole other journal as a value, and a last item behind it."""
    inner, _ = written(make_spool(folder=tmp_path / "inner"), [("inner", b"never")] * 3, finish=True)
    value = inner.read_bytes()
    path, _ = written(make_spool(), [("first", b"1"), ("journal", value), ("last", b"2")])
    return path, value


def test_a_journal_kept_as_a_value_is_a_value(make_spool: MakeSpool, tmp_path: Path) -> None:
    path, value = with_embedded(make_spool, tmp_path)

    assert contents(opened(path)) == [("first", b"1"), ("journal", value), ("last", b"2")]


@pytest.mark.parametrize("place", ["magic", "size", "check"])
def test_entries_of_a_journal_kept_as_a_value_never_count_behind_damage(
    make_spool: MakeSpool, tmp_path: Path, place: str
) -> None:
    path, value = with_embedded(make_spool, tmp_path)
    data = bytearray(path.read_bytes())
    header = data.index(value) - 76
    assert data[header : header + 4] == b"KPST"
    data[header + {"magic": 0, "size": 16, "check": 73}[place]] ^= 1
    path.write_bytes(data)

    journal = opened(path)

    assert "inner" not in {row.key for _, row in journal.history}
    assert ("first", b"1") in contents(journal)
    assert journal.damage


def test_the_end_of_a_journal_kept_as_a_value_does_not_end_the_journal(
    make_spool: MakeSpool, tmp_path: Path
) -> None:
    path, value = with_embedded(make_spool, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(value) - 76] ^= 1
    path.write_bytes(data)

    assert ("last", b"2") in contents(opened(path))


def test_a_write_that_is_under_way_is_waited_for(make_spool: MakeSpool) -> None:
    writer, reader = make_spool(), make_spool()
    first = writer.append("answers", [item("a", b"alpha")])
    writer.append("answers", [item("b", b"beta")])
    path = first.journal.path
    whole = path.read_bytes()
    value = first.offset + HEADER_BYTES
    # The size is there and the bytes are not: as between two steps of the kernel.
    path.write_bytes(whole[:value] + bytes(len(b"beta")))
    reader.refresh()
    path.write_bytes(whole)

    reader.refresh()

    row = reader.find("answers", "b")
    assert row is not None
    assert row.journal.read_value(row) == b"beta"


def test_a_half_written_value_that_holds_frames_is_read_when_it_is_whole(
    make_spool: MakeSpool, tmp_path: Path
) -> None:
    path, value = with_embedded(make_spool, tmp_path)
    data = path.read_bytes()
    half = data.index(value) + len(value) - 10
    path.write_bytes(data[:half])
    journal = opened(path)

    with open(path, "ab") as file:
        file.write(data[half:])
    journal.poll()

    assert contents(journal) == [("first", b"1"), ("journal", value), ("last", b"2")]


def test_an_entry_whose_value_is_damaged_does_not_count(make_spool: MakeSpool) -> None:
    path, _ = written(make_spool(), [("a", b"alpha"), ("b", b"beta"), ("c", b"gamma")])
    data = bytearray(path.read_bytes())
    data[data.index(b"beta")] ^= 1
    path.write_bytes(data)

    journal = opened(path)

    assert [row.key for _, row in journal.history] == ["a", "c"]
    assert len(journal.damage) == 1


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_damage_below_what_was_synced_is_told_from_what_power_loss_leaves(make_spool: MakeSpool) -> None:
    spool = make_spool()
    for key in ("a", "b"):
        ticket = spool.append("answers", [item(key, b"synced value of " + key.encode())])
    spool.sync(ticket)
    for key in ("c", "d", "e"):
        ticket = spool.append("answers", [item(key, b"loose value of " + key.encode())])
    spool.let_go()
    data = bytearray(ticket.journal.path.read_bytes())
    for value in (b"synced value of b", b"loose value of d"):
        data[data.index(value)] ^= 1
    ticket.journal.path.write_bytes(data)

    journal = opened(ticket.journal.path)

    assert [damage.covered for damage in sorted(journal.damage)] == [True, False]
    values = dict(contents(journal))
    assert values["a"] == b"synced value of a"
    assert values["e"] == b"loose value of e"


def test_a_hole_of_zeros_costs_what_lay_in_it(make_spool: MakeSpool) -> None:
    path, ends = written(make_spool(), [(str(i), bytes([i]) * 100) for i in range(1, 9)])
    data = bytearray(path.read_bytes())
    data[ends[2] : ends[5]] = bytes(ends[5] - ends[2])
    path.write_bytes(data)

    journal = opened(path)

    assert [row.key for _, row in journal.history] == ["1", "2", "3", "7", "8"]
    assert len(journal.damage) == 1


@pytest.mark.parametrize("data", [b"", b"KPST", b"something else entirely" * 10])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)

    with pytest.raises(MalformedError):
        opened(tmp_path / "x")
