"""Rows of docs/values.md: tables, figures and images. Each skips where its library is not installed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from tests.values.row import Kind, Row

from keepstone.api import Store
from keepstone.objects.figures import Picture

NUMBERS = st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=5)
COLUMNS = NUMBERS.flatmap(
    lambda numbers: st.fixed_dictionaries(
        {
            "n": st.just(numbers),
            "x": st.lists(
                st.floats(allow_nan=False) | st.none(), min_size=len(numbers), max_size=len(numbers)
            ),
            "s": st.lists(
                st.none() | st.text("aü", max_size=3), min_size=len(numbers), max_size=len(numbers)
            ),
        }
    )
)


def lib(name: str) -> Any:
    return pytest.importorskip(name)


# ---- tables ------------------------------------------------------------------------------------


def arrow_table(columns: dict[str, list[Any]]) -> Any:
    pa = lib("pyarrow")
    kinds = {"n": pa.int64(), "x": pa.float64(), "s": pa.string()}
    return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})


def pandas_frame(columns: dict[str, list[Any]]) -> Any:
    pd = lib("pandas")
    frame = pd.DataFrame({"n": pd.array(columns["n"], dtype="Int64"), "c": pd.Categorical(columns["s"])})
    frame["x"] = pd.Series(columns["x"], dtype="float64")
    frame.index = pd.Index([f"row {number}" for number in range(len(frame))], name="key", dtype="str")
    return frame


def polars_frame(columns: dict[str, list[Any]]) -> Any:
    pl = lib("polars")
    kinds = {"n": pl.Int64, "x": pl.Float64, "s": pl.Categorical}
    return pl.DataFrame({name: pl.Series(values, dtype=kinds[name]) for name, values in columns.items()})


def equals(given: Any, loaded: Any) -> bool:
    if type(given) is not type(loaded):
        return False
    types = [str(getattr(value, "dtypes", getattr(value, "schema", ""))) for value in (given, loaded)]
    return types[0] == types[1] and given.equals(loaded)


def tables(make: Callable[[Any], Any], values: st.SearchStrategy[Any], *needed: str) -> Row:
    def row(folder: Path) -> Kind:
        for name in ("pyarrow", *needed):
            lib(name)

        def same_typed(given: Any, loaded: Any) -> bool:
            return type(loaded) is dict and all(len(column) == len(given) for column in loaded.values())

        return Kind(values.map(make), equals, type=dict, same_typed=same_typed)

    return row


def readers(folder: Path) -> Kind:
    pa = lib("pyarrow")
    given = COLUMNS.map(lambda columns: arrow_table(columns).to_reader())
    return Kind(given, lambda given, loaded: type(loaded) is pa.Table and given.schema == loaded.schema)


# ---- pictures ----------------------------------------------------------------------------------


def drawings(folder: Path) -> Kind:
    figures = lib("matplotlib.figure")

    def draw(points: list[int]) -> Any:
        figure = figures.Figure(figsize=(1, 1), dpi=30)
        figure.subplots().plot(points)
        return figure

    def same(given: Any, loaded: Any) -> bool:
        return type(loaded) is Picture and loaded.png.startswith(b"\x89PNG") and "<svg" in loaded.svg

    return Kind(
        st.lists(st.integers(0, 9), max_size=4).map(draw),
        same,
        type=str,
        same_typed=lambda given, loaded: "<svg" in loaded,
    )


def plots(folder: Path) -> Kind:
    graphs = lib("plotly.graph_objects")
    return Kind(
        st.lists(st.integers(0, 9), max_size=4).map(lambda points: graphs.Figure(graphs.Scatter(y=points))),
        type=dict,
        same_typed=lambda given, loaded: set(loaded) == {"data", "layout"},
    )


def images(folder: Path) -> Kind:
    lib("PIL")
    import PIL.Image

    values = st.binary(min_size=12, max_size=12).map(lambda raw: PIL.Image.frombytes("RGB", (2, 2), raw))
    return Kind(
        values,
        lambda given, loaded: (given.mode, given.tobytes()) == (loaded.mode, loaded.tobytes()),
        type=bytes,
        same_typed=lambda given, loaded: loaded.startswith(b"\x89PNG"),
    )


FRAME_ROWS: Final[dict[str, Row]] = {
    "pandas DataFrame": tables(pandas_frame, COLUMNS, "pandas"),
    "pandas Series": tables(lambda columns: pandas_frame(columns)["n"], COLUMNS, "pandas"),
    "polars DataFrame": tables(polars_frame, COLUMNS, "polars"),
    "polars Series": tables(lambda columns: polars_frame(columns)["s"], COLUMNS, "polars"),
    "pyarrow Table": tables(arrow_table, COLUMNS),
    "pyarrow RecordBatch": tables(
        lambda columns: (arrow_table(columns).to_batches() or arrow_table({"n": [1]}).to_batches())[0],
        COLUMNS,
    ),
    "pyarrow RecordBatchReader, and whatever else has `__arrow_c_stream__`": readers,
    "matplotlib Figure": drawings,
    "plotly Figure": plots,
    "Pillow Image": images,
}


# ---- what is refused ---------------------------------------------------------------------------


def pandas_column(*values: Any) -> Any:
    pd = lib("pandas")
    lib("pyarrow")
    return pd.DataFrame({"a": pd.Series(values, dtype=object)})


def saved_table(store: Store, type: Any) -> object:  # noqa: A002
    store.save("table", arrow_table({"n": [1], "x": [math.pi]}))
    return store.load("table", type=type)


def derived(store: Store) -> object:
    class Derived(lib("pandas").DataFrame):  # pyright: ignore[reportUntypedBaseClass]
        pass

    return store.save("x", Derived({"a": [1]}))


def cmyk(store: Store) -> object:
    lib("PIL")
    import PIL.Image

    return store.save("x", PIL.Image.new("CMYK", (1, 1)))


def figure_as_dict(store: Store) -> object:
    store.save("figure", lib("matplotlib.figure").Figure(figsize=(1, 1)))
    return store.load("figure", type=dict)


def of_objects(store: Store) -> object:
    pl = lib("polars")
    lib("pyarrow")
    return store.save("x", pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}))


def twice(store: Store) -> object:
    lib("pyarrow")
    return store.save("x", lib("pandas").DataFrame([[1, 2]], columns=["a", "a"]))


FRAME_REFUSED: Final[dict[str, Callable[[Store], object]]] = {
    "a polars LazyFrame": lambda store: store.save("x", lib("polars").DataFrame({"a": [1]}).lazy()),
    "a pandas column of two types": lambda store: store.save("x", pandas_column(1, "x")),
    "a pandas column of integers and floats as objects": lambda store: store.save("x", pandas_column(1, 1.5)),
    "a pandas frame with a column twice": twice,
    "a polars column of Python objects": of_objects,
    "a class derived from DataFrame": derived,
    "loading a table as a number": lambda store: saved_table(store, int),
    "loading a table of two columns as a Series": lambda store: saved_table(store, lib("pandas").Series),
    "an image of a kind that PNG has not": cmyk,
    "loading a figure as a dict": figure_as_dict,
}
