"""Arrow tables load as what was saved, and a table of any library as that of any other."""

from __future__ import annotations

import datetime
import decimal
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objects.conftest import BERLIN, round_trip
from tests.objects.saving import Saved, damaged, load, save

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects import tables
from keepstone.objects.standard import standard_registry

pa = pytest.importorskip("pyarrow")
SRC = Path(tables.__file__).parents[2]


def content(saved: Saved) -> bytes:
    return b"".join(saved[1].values())


# ---- Arrow -------------------------------------------------------------------------------------

KINDS: dict[Any, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    pa.string_view(): st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    pa.large_binary(): st.binary(max_size=8),
    pa.date32(): st.dates(),
    pa.time32("s"): st.integers(0, 86399).map(lambda s: datetime.time(s // 3600, s // 60 % 60, s % 60)),
    pa.timestamp("s", BERLIN): st.integers(-(2**33), 2**33),
    pa.duration("s"): st.integers(-(2**31), 2**31).map(lambda s: datetime.timedelta(seconds=s)),
    pa.decimal128(10, 2): st.integers(-(10**9), 10**9).map(lambda n: decimal.Decimal(n).scaleb(-2)),
    pa.list_(pa.int16()): st.lists(st.integers(-5, 5), max_size=3),
    pa.list_(pa.string_view()): st.lists(st.text("ab", max_size=15), max_size=3),
    pa.struct([("a", pa.int8()), ("b", pa.string())]): st.fixed_dictionaries(
        {"a": st.none() | st.integers(-5, 5), "b": st.text("ab")}
    ),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["x", "y", "z"]),
    pa.null(): st.none(),
}


@st.composite
def arrow_tables(draw: st.DrawFn) -> Any:
    rows = draw(st.integers(0, 12))
    columns = []
    fields = []
    for kind in draw(st.lists(st.sampled_from(list(KINDS)), max_size=4)):
        values = draw(st.lists(st.none() | KINDS[kind], min_size=rows, max_size=rows))
        columns.append(pa.array(values, kind))
        # Names twice are legal in Arrow.
        fields.append(pa.field(draw(st.text("ab", max_size=2)), kind, metadata={"unit": "m"}))
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata={"made": "by us"}))
    if rows and columns and draw(st.booleans()):
        cut = draw(st.integers(0, rows))
        table = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    return table


@given(arrow_tables())
@settings(max_examples=60, deadline=None)
def test_arrow_tables_load_with_their_types_and_metadata(table: Any) -> None:
    loaded = round_trip(table)

    assert type(loaded) is pa.Table
    assert loaded.schema.equals(table.schema, check_metadata=True)
    assert loaded.equals(table)


def test_what_parquet_would_change_loads_as_it_was() -> None:
    table = pa.table(
        {
            "unused": pa.DictionaryArray.from_arrays(
                pa.array([2, 0], pa.int8()), pa.array(["c", "b", "a"]), ordered=True
            ),
            "numbers": pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array([5, 4])),
            "date64": pa.array([datetime.date(2020, 1, 1), None], pa.date64()),
            "seconds": pa.array([1, 2], pa.timestamp("s", BERLIN)),
            "runs": pa.RunEndEncodedArray.from_arrays([2], ["a"]),
            "interval": pa.array([pa.MonthDayNano([1, 2, 3])] * 2),
            "empty": pa.array([{}, {}], pa.struct([])),
            "half": pa.array([1, 2], pa.float16()),
        }
    )
    loaded = round_trip(table)

    assert loaded.schema.equals(table.schema, check_metadata=True)
    assert loaded.to_pydict() == table.to_pydict()
    assert loaded["unused"].chunk(0).dictionary.to_pylist() == ["c", "b", "a"]


def test_equal_tables_are_equal_bytes_however_they_are_chunked() -> None:
    registry = standard_registry()
    table = pa.table({"a": range(1000), "s": pa.array([str(n) for n in range(1000)]).dictionary_encode()})
    parts = pa.concat_tables([table.slice(0, 3), table.slice(3, 500), table.slice(503)])

    assert save(registry, parts)[0] == save(registry, table)[0]


def test_chunks_with_dictionaries_of_their_own_become_one() -> None:
    table = pa.concat_tables([pa.table({"s": pa.array([word]).dictionary_encode()}) for word in "abc"])

    assert round_trip(table)["s"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("rows", [0, 1, tables.BATCH_ROWS, tables.BATCH_ROWS + 1])
def test_batches_end_where_rows_say(rows: int) -> None:
    saved = save(standard_registry(), pa.table({"a": pa.array(range(rows), pa.int32())}))

    reader = pa.ipc.open_file(pa.BufferReader(content(saved)))
    assert reader.num_record_batches == -(-rows // tables.BATCH_ROWS)
    assert saved[0].detail["rows"] == rows == reader.read_all().num_rows
    assert saved[0].detail["columns"] == [["a", "int32"]]


def test_wide_rows_make_batches_of_fewer() -> None:
    rows = 80
    table = pa.table({"a": pa.array([bytes(2**20)] * rows)})
    serializer = standard_registry().find(table)
    pieces = list(serializer.dump(table).parts[0].source.chunks(2**40))

    assert len(pieces) >= 4
    assert max(map(len, pieces)) < 2 * tables.BATCH_BYTES_MAX
    assert pa.ipc.open_file(pa.BufferReader(b"".join(pieces))).num_record_batches >= 4


def test_a_table_is_copied_a_small_piece_at_a_time() -> None:
    rows = 2 * tables.BATCH_ROWS
    column = pa.Array.from_buffers(pa.float64(), rows, [None, pa.py_buffer(bytes(8 * rows))])
    table = pa.table({f"c{number}": column for number in range(31)})
    source = standard_registry().dump(table)[1].parts[0].source
    tracemalloc.start()
    try:
        written = sum(map(len, source.chunks(4 * 1024 * 1024)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert written > table.nbytes > 60_000_000
    assert peak < 8 * 1024 * 1024


def test_a_changed_cell_changes_few_bytes_and_appended_rows_change_none_before() -> None:
    registry = standard_registry()
    numbers = list(range(300_000))
    first = content(save(registry, pa.table({"a": numbers, "b": numbers})))
    numbers[150_000] = -1
    changed = content(save(registry, pa.table({"a": numbers, "b": range(300_000)})))
    longer = content(save(registry, pa.table({"a": range(310_000), "b": range(310_000)})))

    assert len(first) == len(changed)
    assert sum(a != b for a, b in zip(first, changed, strict=True)) <= 8
    same = next(index for index, pair in enumerate(zip(first, longer, strict=False)) if pair[0] != pair[1])
    assert same > 2 * 2 * tables.BATCH_ROWS * 8


def test_views_of_long_text_are_not_stored_with_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 8)
    table = pa.table({"s": pa.array(["x" * 100 + str(n) for n in range(80)], pa.string_view())})
    saved = save(standard_registry(), table)

    assert len(content(saved)) < 20_000
    assert load(standard_registry(), saved).schema == table.schema


def test_a_record_batch_loads_as_one() -> None:
    batch = pa.record_batch({"a": [1, 2]})

    for value in (batch, batch.slice(0, 0)):
        loaded = round_trip(value)
        assert type(loaded) is pa.RecordBatch
        assert loaded.equals(value)


def test_a_reader_that_is_saved_twice_gives_its_rows_twice() -> None:
    registry = standard_registry()
    reader = pa.table({"a": [1, 2]}).to_reader()

    assert save(registry, reader) == save(registry, reader)
    assert load(registry, save(registry, reader)).to_pydict() == {"a": [1, 2]}


class Exporter:
    """Somebody else's table."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._stream.__arrow_c_stream__(requested_schema)


def test_whatever_exports_an_arrow_stream_is_saved_and_loads_as_an_arrow_table() -> None:
    loaded = round_trip(Exporter(pa.table({"a": [1]})))

    assert type(loaded) is pa.Table
    assert loaded.to_pydict() == {"a": [1]}


def test_a_stream_that_is_no_table_is_refused() -> None:
    with pytest.raises(SerializerError, match="Arrow cannot hold this Exporter"):
        save(standard_registry(), Exporter(pa.chunked_array([[1]])))


def test_of_a_table_in_chunks_one_batch_is_put_together_at_a_time() -> None:
    rows = 3 * tables.BATCH_ROWS
    column = pa.Array.from_buffers(pa.float64(), rows, [None, pa.py_buffer(bytes(8 * rows))])
    whole = pa.table({f"c{number}": column for number in range(31)})
    table = pa.concat_tables([whole.slice(start, 50_000) for start in range(0, rows, 50_000)])
    source = standard_registry().dump(table)[1].parts[0].source
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        for _ in source.chunks(4 * 1024 * 1024):
            pass
    finally:
        pa.set_memory_pool(before)

    assert 0.9 * tables.BATCH_BYTES_MAX < pool.max_memory() < 1.2 * tables.BATCH_BYTES_MAX


def test_a_column_that_is_there_twice_is_not_lost_in_a_dict() -> None:
    table = pa.table([[1, 2], [3, 4]], names=["a", "a"])

    assert round_trip(table).equals(table)
    for kind in (dict, list):
        with pytest.raises(SerializerError, match="column 'a' is there twice") as caught:
            round_trip(table, kind)
        assert "without type=" in caught.value.hint


CUTS: list[Callable[[bytes], bytes]] = [
    lambda data: data[:-1],
    lambda data: data[: len(data) // 2],
    lambda data: data[:4],
    lambda data: b"",
    lambda data: data[:-4] + b"PAR1",
    lambda data: data.replace(b"\x05\0\0\0\x06\0\0\0", b"\xff\xff\xff\x7f\x06\0\0\0"),
]


@pytest.mark.parametrize("cut", CUTS)
def test_a_damaged_table_is_malformed(cut: Callable[[bytes], bytes]) -> None:
    registry = standard_registry()
    saved = save(registry, pa.table({"s": ["aaaaa", "b"] * 3}))
    broken = damaged(saved, cut)
    assert content(broken) != content(saved)

    with pytest.raises(MalformedError, match="a stored table cannot be read"):
        load(registry, broken)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_flipped_byte_gives_a_table_or_an_error_of_ours(data: st.DataObject) -> None:
    registry = standard_registry()
    saved = save(registry, pa.table({"s": ["a", None, "bcd"], "l": [[1], [], None]}))
    at = data.draw(st.integers(0, len(content(saved)) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    try:
        loaded = load(registry, damaged(saved, lambda raw: raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :]))
    except MalformedError:
        return
    assert type(loaded) is pa.Table


# ---- from one to another -----------------------------------------------------------------------


def test_a_table_loads_as_any_other_kind(pd: Any, pl: Any) -> None:
    columns = {"a": [1, 2], "b": ["x", "y"]}
    for made in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        saved = save(standard_registry(), made)
        for kind in (pa.Table, pa.RecordBatch):
            assert round_trip(made, kind).to_pydict() == columns
        assert round_trip(made, pa.RecordBatchReader).read_all().to_pydict() == columns
        assert round_trip(made, pd.DataFrame).to_dict("list") == columns
        assert round_trip(made, pl.DataFrame).to_dict(as_series=False) == columns
        assert load(standard_registry(), saved, dict) == columns
        assert load(standard_registry(), saved, list) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
        with pytest.raises(SerializerError, match=r"is a table \(.*\), no int"):
            load(standard_registry(), saved, int)
        for kind in (pd.Series, pl.Series):
            with pytest.raises(SerializerError, match="a table of 2 columns is no Series"):
                load(standard_registry(), saved, kind)


def test_nothing_is_imported_that_was_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(
        "import sys\nfrom keepstone.objects.standard import standard_registry\n"
        "registry = standard_registry()\n"
        "for value in ({'a': 1}, 'x', b'x', 1.5, None):\n    registry.find(value).dump(value)\n"
        "names = {'pyarrow', 'pandas', 'polars', 'numpy', 'matplotlib', 'PIL', 'yaml', 'plotly', 'torch'}\n"
        "assert not names & set(sys.modules), names & set(sys.modules)\n"
        "assert 'keepstone.objects.standard' in sys.modules\n"
        "ours = {f'keepstone.objects.{name}' for name in ('arrays', 'tables', 'figures', 'stateful', 'tensors')}\n"
        "assert not ours & set(sys.modules), ours & set(sys.modules)\n"
        # pyarrow itself looks for pandas when it makes a table.
        "import pyarrow\ntable = pyarrow.table({'a': [1]})\nbefore = names & set(sys.modules)\n"
        "registry.find(table).dump(table)\nassert names & set(sys.modules) == before\n"
    )
    subprocess.run(
        [sys.executable, str(tmp_path / "t.py")], env=os.environ | {"PYTHONPATH": str(SRC)}, check=True
    )
