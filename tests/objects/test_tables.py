"""Tables load as what was saved, whichever library made them, or are refused by name."""

from __future__ import annotations

import datetime
import decimal
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objects.saving import Saved, damaged, load, save

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects import tables
from keepstone.objects.standard import standard_registry

pa = pytest.importorskip("pyarrow")
SRC = Path(tables.__file__).parents[2]
BERLIN = "Europe/Berlin"


@pytest.fixture(scope="module")
def pd() -> Any:
    return pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def pl() -> Any:
    return pytest.importorskip("polars")


def round_trip(value: object, type: Any = None) -> Any:  # noqa: A002
    registry = standard_registry()
    saved = save(registry, value)
    assert saved[0].serializer == "arrow"
    return load(registry, saved, type)


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


# ---- pandas ------------------------------------------------------------------------------------


def pandas_frames(pd: Any) -> list[Any]:
    attributed = pd.DataFrame({"a": [1]})
    attributed.attrs = {"source": "here"}
    return [
        pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, math.nan]}),
        pd.DataFrame({"a": pd.Series([1, 2], dtype="int8"), "b": pd.Series([1, 2], dtype="float32")}),
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}),
        pd.DataFrame({"a": pd.array([1, None], dtype="int32[pyarrow]")}),
        pd.DataFrame({"a": pd.Categorical(["x", None], categories=["z", "x"], ordered=True)}),
        pd.DataFrame({"a": pd.to_datetime(["2026-01-02", None]).tz_localize(BERLIN)}),
        pd.DataFrame({"a": pd.to_datetime(["2026-01-02"]).as_unit("s"), "b": pd.to_timedelta([1], unit="s")}),
        pd.DataFrame({"a": pd.period_range("2026", periods=2, freq="M"), "b": pd.interval_range(0, 2)}),
        pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
        pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(10, 14, 2)),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "q")], names=["i", None])),
        pd.DataFrame({("a", "b"): [1], ("a", "c"): [2]}),
        pd.DataFrame({0: [1.0], 1: [2.0]}),
        pd.DataFrame({"a": []}),
        pd.DataFrame(),
        pd.DataFrame({"a": pd.Series([[1, 2], [], None], dtype=object)}),
        pd.DataFrame({"a": pd.Series([{"k": 1}, {"k": None}], dtype=object)}),
        pd.DataFrame({"a": pd.Series([1, 2], dtype=object), "b": pd.Series(["x", math.nan], dtype=object)}),
        pd.DataFrame({"a": pd.Series([b"x", None], dtype=object)}),
        pd.DataFrame({"a": pd.Series([decimal.Decimal("1.5"), datetime.date], dtype=object)}).iloc[:1],
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(index=range(2)),
        attributed,
    ]


@pytest.mark.parametrize("number", range(23))
def test_pandas_frames_load_as_they_were(pd: Any, number: int) -> None:
    frame = pandas_frames(pd)[number]
    loaded = round_trip(frame)

    pd.testing.assert_frame_equal(loaded, frame, check_freq=False, check_column_type="equiv")
    assert loaded.attrs == frame.attrs
    for name in frame.columns:
        if frame[name].dtype == object:
            assert [(type(v), repr(v)) for v in loaded[name]] == [(type(v), repr(v)) for v in frame[name]]


def test_every_pandas_frame_of_the_list_is_tried(pd: Any) -> None:
    assert len(pandas_frames(pd)) == 23


CELLS = st.none() | st.integers(-(2**40), 2**40) | st.floats() | st.text("añ", max_size=3) | st.booleans()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_pandas_column_loads_as_it_was_or_is_refused(pd: Any, data: st.DataObject) -> None:
    cells = data.draw(
        st.lists(CELLS, max_size=6)
        | st.lists(st.integers(-5, 5) | st.none(), max_size=6)
        | st.lists(st.lists(CELLS, max_size=2), max_size=4)
    )
    kind = data.draw(st.sampled_from([object, None]))
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=kind)})
    try:
        saved = save(standard_registry(), frame)
    except SerializerError:
        return
    loaded = load(standard_registry(), saved)
    pd.testing.assert_frame_equal(loaded, frame)
    if kind is object:
        assert list(map(repr, loaded["a"])) == list(map(repr, cells))


@pytest.mark.parametrize("name", ["x", None, 7])
def test_a_pandas_series_keeps_its_name_and_index(pd: Any, name: Any) -> None:
    series = pd.Series([1, 2], index=["a", "b"], name=name)

    pd.testing.assert_series_equal(round_trip(series), series)


def refused_frames(pd: Any) -> dict[str, Any]:
    class Derived(pd.DataFrame):
        pass

    return {
        "column 'a' is there twice": pd.DataFrame([[1, 2]], columns=["a", "a"]),
        "Conversion failed for column a": pd.DataFrame({"a": [1, "x"]}),
        "column a with type complex128": pd.DataFrame({"a": [1j]}),
        "(1,) in row 0 of column 'a'": pd.DataFrame({"a": pd.Series([{"k": (1,)}, {"z": 1}], dtype=object)}),
        "Sparse pandas data (column a) not supported": pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
        "is derived from pandas.DataFrame": Derived({"a": [1]}),
    }


@pytest.mark.parametrize("number", range(6))
def test_pandas_frames_that_would_change_are_refused(pd: Any, number: int) -> None:
    message, frame = list(refused_frames(pd).items())[number]
    if message.startswith("(1,)"):
        message = "in row 0 of column 'a' would load as"
    with pytest.raises(SerializerError) as caught:
        save(standard_registry(), frame)

    assert message in str(caught.value)
    assert caught.value.hint


# ---- polars ------------------------------------------------------------------------------------


def polars_frame(pl: Any) -> Any:
    return pl.DataFrame(
        {
            "s": ["a" * 30, None],
            "l": [["x"], []],
            "c": pl.Series(["u", None], dtype=pl.Categorical),
            "e": pl.Series(["b", "a"], dtype=pl.Enum(["a", "b", "c"])),
            "t": [datetime.time(1), None],
            "d": [decimal.Decimal("1.5"), None],
            "arr": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int8, 2)),
            "n": [None, None],
            "st": [{"a": "x"}, {"a": None}],
            "du": [datetime.timedelta(1)] * 2,
            "b": [b"x", None],
            "tz": pl.Series([datetime.datetime(2026, 1, 1)] * 2).dt.replace_time_zone(BERLIN),
            "f": [1.5, math.nan],
        }
    )


def test_polars_frames_load_with_their_types(pl: Any) -> None:
    frame = polars_frame(pl)

    for value in (frame, frame.head(0), pl.DataFrame()):
        loaded = round_trip(value)
        assert type(loaded) is pl.DataFrame
        assert loaded.schema == value.schema
        assert loaded.equals(value)


def test_a_polars_series_loads_as_one(pl: Any) -> None:
    series = pl.Series("x", [1, None, 3])
    loaded = round_trip(series)

    assert loaded.name == "x"
    assert loaded.equals(series)


def test_a_lazy_frame_is_to_be_collected_first(pl: Any) -> None:
    with pytest.raises(SerializerError, match="a LazyFrame is a plan") as caught:
        save(standard_registry(), pl.DataFrame({"a": [1]}).lazy())
    assert "collect()" in caught.value.hint


def test_polars_columns_that_arrow_has_not_are_refused(pl: Any) -> None:
    with pytest.raises(SerializerError, match="column 'a' holds Python objects"):
        save(standard_registry(), pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}))
    with pytest.raises(SerializerError, match="Arrow cannot hold this DataFrame"):
        save(standard_registry(), pl.DataFrame({"a": pl.Series([1], dtype=pl.Int128)}))


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
        # pyarrow itself looks for pandas when it makes a table.
        "import pyarrow\ntable = pyarrow.table({'a': [1]})\nbefore = names & set(sys.modules)\n"
        "registry.find(table).dump(table)\nassert names & set(sys.modules) == before\n"
    )
    subprocess.run(
        [sys.executable, str(tmp_path / "t.py")], env=os.environ | {"PYTHONPATH": str(SRC)}, check=True
    )


def hide(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let `name` be missing, as on a machine without it."""
    monkeypatch.setitem(sys.modules, name, None)  # pyright: ignore[reportArgumentType]


def test_what_is_not_installed_is_named_with_what_to_install(
    pd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = standard_registry()
    saved = save(registry, pd.DataFrame({"a": [1]}))
    hide(monkeypatch, "pandas")

    with pytest.raises(SerializerError, match=r"pandas is not installed: .* saved with pandas==") as caught:
        load(registry, saved)
    assert "pip install pandas" in caught.value.hint
    assert load(registry, saved, dict) == {"a": [1]}


def test_polars_needs_no_pyarrow(pl: Any) -> None:
    registry = standard_registry()
    frame = polars_frame(pl)
    with_arrow = save(registry, frame)
    series = pl.Series("x", [1, None])
    with pytest.MonkeyPatch.context() as patch:
        hide(patch, "pyarrow")
        assert load(registry, with_arrow).equals(frame)
        alone = save(registry, frame)
        assert alone[0].packages.keys() == {"polars"}
        assert load(registry, alone).equals(frame)
        assert load(registry, save(registry, series)).equals(series)
        with pytest.raises(MalformedError):
            load(registry, damaged(alone, lambda data: data[:100]))

    assert load(registry, alone).equals(frame)
    assert load(registry, alone, pa.Table).num_rows == 2
