"""Frames and series of pandas and polars load as what was saved, or are refused by name."""

from __future__ import annotations

import datetime
import decimal
import math
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objects.conftest import BERLIN, round_trip
from tests.objects.saving import damaged, load, save

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.standard import standard_registry

pa = pytest.importorskip("pyarrow")

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


def test_a_pandas_frame_that_changes_while_it_is_saved_is_refused(pd: Any) -> None:
    frame = pd.DataFrame({"a": [0.0] * 200_000, "b": [0.0] * 200_000})
    source = standard_registry().dump(frame)[1].parts[0].source
    chunks = source.chunks(1024 * 1024)
    next(chunks)
    frame.loc[:, "a"] = 1.0

    with pytest.raises(SerializerError, match="it changed while it was being saved") as caught:
        list(chunks)
    assert "save a copy" in caught.value.hint


@pytest.mark.parametrize("names", [["key"], ["key", None]])
def test_an_index_of_objects_is_kept_beside_the_columns(pd: Any, names: list[Any]) -> None:
    levels = [pd.Index([b"x", b"y"], dtype=object), pd.Index([2, 1])][: len(names)]
    index = pd.MultiIndex.from_arrays(levels, names=names) if names[1:] else levels[0].rename("key")
    frame = pd.DataFrame({"a": [1, 2], "b": ["p", "q"]}, index=index)

    pd.testing.assert_frame_equal(round_trip(frame), frame)


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


@pytest.mark.parametrize("rows", [0, 2])
def test_polars_columns_may_have_no_name(pl: Any, rows: int) -> None:
    series = pl.Series([1, 2], dtype=pl.Int64).head(rows)
    frame = pl.DataFrame({"": [1.5, 2.5], "column_0": ["a", "b"]}).head(rows)

    assert round_trip(series).equals(series, check_names=True)
    assert round_trip(frame).equals(frame)
    assert round_trip(frame).columns == ["", "column_0"]


def test_a_lazy_frame_is_to_be_collected_first(pl: Any) -> None:
    with pytest.raises(SerializerError, match="a LazyFrame is a plan") as caught:
        save(standard_registry(), pl.DataFrame({"a": [1]}).lazy())
    assert "collect()" in caught.value.hint


def test_polars_columns_that_arrow_has_not_are_refused(pl: Any) -> None:
    with pytest.raises(SerializerError, match="column 'a' holds Python objects"):
        save(standard_registry(), pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}))
    with pytest.raises(SerializerError, match="Arrow cannot hold this DataFrame"):
        save(standard_registry(), pl.DataFrame({"a": pl.Series([1], dtype=pl.Int128)}))


# ---- what is not installed ---------------------------------------------------------------------


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


@pytest.mark.parametrize("needed", ["pyarrow", "polars alone"])
def test_any_damaged_polars_frame_is_a_frame_or_an_error_of_ours(
    pl: Any, monkeypatch: pytest.MonkeyPatch, needed: str
) -> None:
    if needed != "pyarrow":
        hide(monkeypatch, "pyarrow")
    registry = standard_registry()
    saved = save(registry, polars_frame(pl))
    refused = 0
    for at in range(0, saved.manifest.parts[0].size, 7):
        flipped = damaged(saved, lambda data, at=at: data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            assert type(load(registry, flipped)) is pl.DataFrame
        except (SerializerError, MalformedError):
            refused += 1

    assert refused > 50
