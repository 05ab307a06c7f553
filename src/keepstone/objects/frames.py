"""pandas and polars frames to Arrow tables and back, refusing what would load as something else.

Layer: objects. Types are compared on a table without rows; columns of Python objects, which have no type of their
own, value by value.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Generator
from typing import Any, cast

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.libraries import import_library, root_of, versions_of
from keepstone.objects.manifest import Manifest
from keepstone.objects.models import type_name
from keepstone.objects.roundtrip import ascii_repr, first_difference
from keepstone.objects.serializer import Dumped, PartSource, Source


def _refused(what: str, hint: str) -> SerializerError:
    return SerializerError(f"cannot save value: {what}", hint=hint)


# ---- pandas --------------------------------------------------------------------------------------


def table_of_pandas(arrow: Any, value: Any) -> tuple[Any, dict[str, Any]]:
    """Return a DataFrame or Series as a table, and what the manifest must say to build it again.

    Raises:
        SerializerError: it would load as another one; names the column.
    """
    detail: dict[str, Any] = {}
    frame = value
    if type(value).__name__ == "Series":
        detail = {"unnamed": True} if value.name is None else {}
        frame = value.to_frame()
    if not frame.columns.is_unique:
        again = frame.columns[frame.columns.duplicated()][0]
        raise _refused(f"column {ascii_repr(again)} is there twice", "rename one of them")
    table = arrow.Table.from_pandas(frame)
    if table.num_rows != len(frame):
        raise _refused("a frame of rows without columns", "save the index as a column: frame.reset_index()")
    _check_types(frame, table)
    objects = [[number, _check_objects(frame, table, number)] for number in _object_columns(frame)]
    if objects:
        detail["objects"] = objects
    return table, detail


def _object_columns(frame: Any) -> list[int]:
    return [number for number, dtype in enumerate(frame.dtypes) if str(dtype) == "object"]


def _check_types(frame: Any, table: Any) -> None:
    built = table.slice(0, 0).to_pandas()
    if list(built.columns) != list(frame.columns) or built.columns.names != frame.columns.names:
        raise _refused(
            f"columns {_shown(frame.columns)} would load as {_shown(built.columns)}",
            "name the columns with text: frame.columns = frame.columns.map(str)",
        )
    objects = set(_object_columns(frame))
    for number, (was, now) in enumerate(zip(frame.dtypes, built.dtypes, strict=True)):
        if number not in objects and was != now:
            raise _refused(
                f"column {ascii_repr(frame.columns[number])} of type {was} would load as {now}",
                f"convert it: frame.astype({{{ascii_repr(frame.columns[number])}: ...}})",
            )
    if built.attrs != frame.attrs:
        raise _refused(
            "its attrs would be lost", "keep text, numbers, lists and dicts in attrs, or metadata="
        )
    _check_index(frame, table, built)


def _check_index(frame: Any, table: Any, built: Any) -> None:
    index = frame.index
    # How far a range goes stands in the table's own metadata; here there are no rows.
    if type(index).__name__ == "RangeIndex":
        return
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    rebuilt = built.index
    if any(str(level.dtype) == "object" for level in levels):
        stored = [name for name in table.schema.pandas_metadata["index_columns"] if isinstance(name, str)]
        rebuilt = table.select(stored).to_pandas().index
    dtypes = [rebuilt.get_level_values(level).dtype for level in range(rebuilt.nlevels)]
    same = rebuilt.names == index.names and dtypes == [level.dtype for level in levels]
    if not same or (len(rebuilt) == len(index) and not rebuilt.equals(index)):
        raise _refused(
            "its index would load as another one",
            "give the index one type, or make it a column: reset_index()",
        )


def _shown(labels: Any) -> str:
    return ascii_repr(list(labels[:5]))


def _check_objects(frame: Any, table: Any, number: int) -> str:
    """Return "nan" where what is missing in this column of objects is nan, "" where it is None.

    Raises:
        SerializerError: a value would load as another one.
    """
    given = frame.iloc[:, number].tolist()
    loaded = table.column(number).to_pylist()
    holes = [was for was, now in zip(given, loaded, strict=True) if now is None]
    # Only nan differs from itself.
    missing = "nan" if holes and all(type(was) is float and was != was for was in holes) else ""
    for row, (was, now) in enumerate(zip(given, loaded, strict=True)):
        if now is None and missing:
            continue
        # Both ways: a whole number may stand for a float, not the other way round.
        if first_difference(was, now) is not None or first_difference(now, was) is not None:
            raise _refused(
                f"{ascii_repr(was)[:80]} in row {row:,} of column {ascii_repr(frame.columns[number])} "
                f"would load as {ascii_repr(now)[:80]}",
                "give the column one type: frame.convert_dtypes(), or astype",
            )
    return missing


def pandas_of_table(table: Any, wanted: str, detail: dict[str, Any]) -> Any:
    """Return `table` as a pandas DataFrame or Series; `detail` is the manifest's."""
    pandas = import_library("pandas", "a pandas frame is asked for")
    frame = table.to_pandas()
    for number, missing in detail.get("objects", ()):
        values = table.column(number).to_pylist()
        if missing:
            values = [math.nan if value is None else value for value in values]
        frame.isetitem(number, pandas.Series(values, index=frame.index, dtype=object))
    if wanted == "pandas.DataFrame":
        return frame
    series = _single(frame)
    return series.rename(None) if detail.get("unnamed") else series


def _single(frame: Any) -> Any:
    if frame.shape[1] != 1:
        raise SerializerError(
            f"a table of {frame.shape[1]:,} columns is no Series",
            hint="load it without type=, or as a DataFrame",
        )
    return frame.iloc[:, 0] if root_of(type(cast(object, frame))) == "pandas" else frame.to_series()


# ---- polars --------------------------------------------------------------------------------------


def _polars_frame(value: Any) -> Any:
    frame = value.to_frame() if type(value).__name__ == "Series" else value
    polars = import_library("polars", "a value of it was given")
    for name, dtype in frame.schema.items():
        if dtype == polars.Object:
            raise _refused(f"column {name!r} holds Python objects", "give the column a type that polars has")
    return frame


def table_of_polars(arrow: Any, value: Any) -> tuple[Any, dict[str, Any]]:
    """Return a DataFrame or Series as a table.

    Raises:
        SerializerError: a type of it would load as another.
    """
    polars = import_library("polars", "a value of it was given")
    frame = _polars_frame(value)
    table = arrow.RecordBatchReader.from_stream(frame).read_all()
    built = _frame_of_arrow(polars, table.slice(0, 0))
    for name, dtype in frame.schema.items():
        if built.schema[name] != dtype:
            raise _refused(f"column {name!r} of type {dtype} would load as {built.schema[name]}", "cast it")
    return table, {}


@contextlib.contextmanager
def _panic_as_error(polars: Any) -> Generator[None]:
    """What polars cannot read it may panic over, which is no Exception, and passes by whoever handles those."""
    try:
        yield
    except polars.exceptions.PanicException as error:
        raise ValueError(f"polars panicked: {error}") from error


def polars_of_table(table: Any, wanted: str) -> Any:
    """Return `table` as a polars DataFrame or Series."""
    polars = import_library("polars", "a polars frame is asked for")
    frame = _frame_of_arrow(polars, table)
    return frame if wanted == "polars.DataFrame" else _single(frame)


def _frame_of_arrow(polars: Any, table: Any) -> Any:
    # polars gives columns names of its own that have none, even where another one has that name.
    names = cast("list[str]", table.column_names)
    with _panic_as_error(polars):
        frame = polars.from_arrow(table.rename_columns([str(number) for number in range(len(names))]))
        frame.columns = names
    return frame


def dump_polars_alone(value: Any, holds: str) -> Dumped:
    """Take a polars frame apart where pyarrow is not installed: polars writes the same format."""
    frame = _polars_frame(value)
    file = io.BytesIO()
    polars = import_library("polars", "a value of it was given")
    frame.write_ipc(file, compression="uncompressed", compat_level=polars.CompatLevel.oldest())
    detail = {"holds": holds, "rows": frame.height}
    part = PartSource("", Source.of_bytes(file.getvalue()))
    return Dumped((part,), type_name(type(cast(object, value))), versions_of("polars"), detail)


def load_polars_alone(manifest: Manifest, data: bytes, wanted: str) -> Any:
    """Build a polars frame where pyarrow is not installed."""
    polars = import_library("polars", f"this is a {manifest.detail.get('holds')}")
    try:
        with _panic_as_error(polars):
            frame = polars.read_ipc(io.BytesIO(data))
    except Exception as error:
        raise MalformedError(f"a stored table cannot be read: {error}", where="table") from error
    return frame if wanted == "polars.DataFrame" else _single(frame)
