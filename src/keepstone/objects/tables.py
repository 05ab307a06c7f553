"""Tables: whatever exports an Arrow C stream, kept as one Arrow IPC file, loaded as what it was.

Layer: objects. Format: docs/format.md §10; why Arrow IPC and not Parquet: docs/decisions/0028. Rows are written in
batches of a fixed number, so that a changed cell changes bytes near it and no others, and a table is in memory once.
No framework is imported here that the value does not come from, or that the caller or the artifact does not ask for.
"""

from __future__ import annotations

import base64
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, cast

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects import frames
from keepstone.objects.libraries import import_library, is_installed, root_of, versions_of
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.memory import Moment, fill
from keepstone.objects.models import shown_type, type_name
from keepstone.objects.serializer import Dumped, PartSource, Reader, Source

BATCH_ROWS: Final = 131_072
"""Rows of a batch; halved for wide rows. Source: docs/decisions/0028."""
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""About what one batch takes; above it the number of rows is halved."""
_BATCH_ROWS_MIN: Final = 8
_PIECE_BYTES: Final = 1024 * 1024
_COLUMNS_SHOWN_MAX: Final = 500
"""The manifest names the columns of tables that have no more."""
_FRAMES: Final = frozenset({"DataFrame", "Series"})
_SHAPED: Final = {"dict": "to_pydict", "list": "to_pylist"}
_CONVERTED: Final = frozenset(
    {
        "pandas.DataFrame",
        "pandas.Series",
        "polars.DataFrame",
        "polars.Series",
        "pyarrow.Table",
        "pyarrow.RecordBatch",
        "pyarrow.RecordBatchReader",
    }
)


def _kind_name(kind: object) -> str:
    return f"{root_of(kind)}.{getattr(kind, '__name__', '')}"


class TableSerializer:
    """pandas, polars, pyarrow, and everything else with `__arrow_c_stream__`."""

    id = "arrow"
    version = 1

    def __init__(self) -> None:
        self._drained: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        """Tables of readers that can be read once only: a save that is tried again must find the same rows."""

    def matches(self, value: object) -> bool:
        kind = type(value)
        if hasattr(kind, "__arrow_c_stream__"):
            return True
        root = root_of(kind)
        return (root in ("pandas", "polars") and kind.__name__ in _FRAMES) or _is_lazy(kind)

    def dump(self, value: object) -> Dumped:
        if not self.matches(value):
            raise SerializerError(
                f"cannot save value: serializer {self.id!r} does not save a {shown_type(type(value))}",
                hint="leave out serializer=",
            )
        if _is_lazy(type(value)):
            raise SerializerError(
                "cannot save value: a LazyFrame is a plan, not a table",
                hint="save frame.collect()",
            )
        holds = self._holds(value)
        if root_of(type(value)) == "polars" and not is_installed("pyarrow"):
            return frames.dump_polars_alone(value, holds)
        arrow = import_library("pyarrow", "tables are written with it")
        table, detail = self._table_of(arrow, value, holds)
        detail = {
            "holds": holds,
            "rows": table.num_rows,
            **_columns(table),
            **_kept_schema(arrow, table.schema, holds),
            **detail,
        }
        # pandas goes on writing to the memory that the table lies in; Arrow and polars write to none that was filled.
        if holds.startswith("pandas."):
            source = Moment().source(table.nbytes, lambda: _write(arrow, table))
        else:
            source = Source.of_maker(lambda: _write(arrow, table), table.nbytes)
        # The schema is what most often cannot be written: said before anything is stored.
        for _ in _write(arrow, table.slice(0, 0)):
            pass
        packages = versions_of("pyarrow", *({root_of(type(value))} & {"pandas", "polars"}))
        return Dumped((PartSource("", source),), type_name(type(value)), packages, detail)

    def _holds(self, value: object) -> str:
        kind = type(value)
        for base in kind.__mro__:
            if root_of(base) in ("pandas", "polars") and base.__name__ in _FRAMES:
                if base is kind:
                    return _kind_name(kind)
                raise SerializerError(
                    f"cannot save value: {type_name(kind)} is derived from {_kind_name(base)}, and would load as one",
                    hint="save a plain DataFrame made of it, or register a serializer",
                )
        return "pyarrow.RecordBatch" if _kind_name(kind) == "pyarrow.RecordBatch" else "pyarrow.Table"

    def _table_of(self, arrow: Any, value: Any, holds: str) -> tuple[Any, dict[str, Any]]:
        try:
            table, detail = self._exported(arrow, value, holds)
            return table.unify_dictionaries(), detail
        except SerializerError:
            raise
        except Exception as error:
            raise SerializerError(
                f"cannot save value: Arrow cannot hold this {shown_type(type(cast(object, value)))}: {_message(error)}",
                hint="give each column one type that Arrow has: numbers, text, bytes, dates, lists or structs of them",
            ) from error

    def _exported(self, arrow: Any, value: Any, holds: str) -> tuple[Any, dict[str, Any]]:
        if holds.startswith("pandas."):
            return frames.table_of_pandas(arrow, value)
        if holds.startswith("polars."):
            return frames.table_of_polars(arrow, value)
        if isinstance(value, arrow.RecordBatchReader):
            if value not in self._drained:
                self._drained[value] = value.read_all()
            return self._drained[value], {}
        if isinstance(value, arrow.Table):
            return value, {}
        if isinstance(value, arrow.RecordBatch):
            return arrow.Table.from_batches([value]), {}
        return arrow.RecordBatchReader.from_stream(value).read_all(), {}

    def load(self, manifest: Manifest, read: Reader, type: Any = None) -> Any:  # noqa: A002
        holds = str(manifest.detail.get("holds", "pyarrow.Table"))
        wanted = holds if type is None else _wanted(type, holds)
        needs = wanted.partition(".")[0]
        if needs == "polars" and not is_installed("pyarrow"):
            return frames.load_polars_alone(manifest, read(manifest.parts[0]), wanted)
        why = f"this is a {holds}, saved with {_saved_with(manifest)}"
        arrow = import_library("pyarrow", why)
        if needs in ("pandas", "polars"):
            # Before the bytes are read: pandas registers Arrow types of its own.
            import_library(needs, why, instead="or load it with type=dict, as column → list")
        table = _read(arrow, manifest.parts[0], read)
        return _converted(arrow, table, manifest, wanted)


def _wanted(kind: Any, holds: str) -> str:
    if kind is dict or kind is list:
        return str(kind.__name__)
    name = _kind_name(kind)
    if name not in _CONVERTED:
        raise SerializerError(
            f"the stored value is a table ({holds}), no {shown_type(kind)}",
            hint="load it without type=, or as a class of pandas, polars or pyarrow, as dict or list",
        )
    return name


def _is_lazy(kind: type) -> bool:
    return root_of(kind) == "polars" and kind.__name__ == "LazyFrame"


def _saved_with(manifest: Manifest) -> str:
    return " ".join(f"{name}=={version}" for name, version in sorted(manifest.packages.items())) or "pyarrow"


def _message(error: Exception) -> str:
    return "; ".join(str(argument) for argument in error.args) or type(error).__name__


def _columns(table: Any) -> dict[str, Any]:
    if table.num_columns > _COLUMNS_SHOWN_MAX:
        return {}
    return {"columns": [[field.name, str(field.type)] for field in table.schema]}


# ---- to bytes ------------------------------------------------------------------------------------


def _kept_schema(arrow: Any, schema: Any, holds: str) -> dict[str, Any]:
    """Return the schema, where views of text are stored as text; polars makes views of its own when it loads."""
    if holds.startswith("polars.") or _plain_schema(arrow, schema).equals(schema):
        return {}
    return {"schema": base64.b64encode(schema.serialize().to_pybytes()).decode()}


def _plain_schema(arrow: Any, schema: Any) -> Any:
    fields = [field.with_type(_plain_type(arrow, field.type)) for field in schema]
    return arrow.schema(fields, metadata=schema.metadata)


def _plain_type(arrow: Any, kind: Any) -> Any:
    types = arrow.types
    if types.is_string_view(kind):
        return arrow.large_string()
    if types.is_binary_view(kind):
        return arrow.large_binary()
    if types.is_dictionary(kind):
        return arrow.dictionary(kind.index_type, _plain_type(arrow, kind.value_type), kind.ordered)
    if types.is_struct(kind):
        return arrow.struct([field.with_type(_plain_type(arrow, field.type)) for field in kind])
    for is_list, make in ((types.is_list, arrow.list_), (types.is_large_list, arrow.large_list)):
        if is_list(kind):
            return make(kind.value_field.with_type(_plain_type(arrow, kind.value_type)))
    if types.is_fixed_size_list(kind):
        return arrow.list_(kind.value_field.with_type(_plain_type(arrow, kind.value_type)), kind.list_size)
    return kind


class _Collected:
    """A file that the writer writes to, emptied after each batch.

    What it is handed is kept as it is, which is mostly memory of the table itself.
    """

    def __init__(self) -> None:
        self._written: list[Any] = []
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._written.append(view)
        return view.nbytes

    def taken(self) -> Iterator[bytes]:
        """Yield what was written since the last time, copied in pieces of at most twice `_PIECE_BYTES`."""
        written, self._written = self._written, []
        together: list[Any] = []
        size = 0
        for view in written:
            for start in range(0, view.nbytes, _PIECE_BYTES):
                together.append(view[start : start + _PIECE_BYTES])
                size += together[-1].nbytes
                if size >= _PIECE_BYTES:
                    yield b"".join(together)
                    together, size = [], 0
        if together:
            yield b"".join(together)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def _write_rows(writer: Any, rows: Any, schema: Any) -> None:
    # A function, so that no copy of one batch is held while the next is made.
    if not schema.equals(rows.schema):
        rows = rows.cast(schema)
    for batch in rows.combine_chunks().to_batches():
        writer.write_batch(batch)


def _write(arrow: Any, table: Any) -> Iterator[bytes]:
    """Yield `table` as an Arrow IPC file, uncompressed, a batch at a time."""
    schema = _plain_schema(arrow, table.schema)
    rows = BATCH_ROWS
    while rows > _BATCH_ROWS_MIN and table.nbytes * rows > BATCH_BYTES_MAX * table.num_rows:
        rows //= 2
    sink = _Collected()
    try:
        with arrow.ipc.new_file(arrow.PythonFile(sink, "w"), schema) as writer:
            for start in range(0, table.num_rows, rows):
                # A table without columns has as many rows as a slice asks for.
                _write_rows(writer, table.slice(start, min(rows, table.num_rows - start)), schema)
                yield from sink.taken()
        yield from sink.taken()
    except arrow.ArrowException as error:
        raise SerializerError(
            f"cannot save value: this table cannot be written as Arrow IPC: {error}",
            hint="convert the column to another type; of a table in chunks, save table.combine_chunks()",
        ) from error


# ---- from bytes ----------------------------------------------------------------------------------


def _read(arrow: Any, part: Part, read: Reader) -> Any:
    try:
        content = arrow.allocate_buffer(part.size)
        fill(memoryview(content).cast("B"), read.chunks(part), where="table")
        with arrow.ipc.open_file(arrow.BufferReader(content)) as reader:
            table = reader.read_all()
        # What Arrow is handed it believes: an offset that points outside would be read as memory.
        table.validate(full=True)
    except (arrow.ArrowException, MalformedError, OSError, ValueError, KeyError) as error:
        raise MalformedError(
            f"a stored table cannot be read: {_message(error)}",
            where="table",
            hint="`keepstone fsck` tells whether the store is damaged; whoever saved it wrote no Arrow file",
        ) from error
    return table


def _shaped(table: Any, wanted: str) -> Any:
    counts = Counter(cast("list[str]", table.column_names))
    again = next((name for name, count in counts.items() if count > 1), None)
    if again is not None:
        raise SerializerError(
            f"column {again!a} is there twice, and a {wanted} would hold one of them",
            hint="load it without type=, and rename one of them",
        )
    return getattr(table, _SHAPED[wanted])()


def _converted(arrow: Any, table: Any, manifest: Manifest, wanted: str) -> Any:
    kept = manifest.detail.get("schema")
    try:
        if wanted in _SHAPED:
            return _shaped(table, wanted)
        if wanted.startswith("pandas."):
            return frames.pandas_of_table(table, wanted, manifest.detail)
        if wanted.startswith("polars."):
            return frames.polars_of_table(table, wanted)
        if kept:
            schema = arrow.ipc.read_schema(arrow.py_buffer(base64.b64decode(kept)))
            table = table.cast(schema)
        if wanted == "pyarrow.RecordBatchReader":
            return table.to_reader()
        if wanted == "pyarrow.RecordBatch":
            batches = cast("list[Any]", table.combine_chunks().to_batches())
            return batches[0] if batches else arrow.RecordBatch.from_pylist([], schema=table.schema)
    except SerializerError:
        raise
    except Exception as error:
        raise SerializerError(
            f"this table cannot be loaded as {wanted}: {_message(error)}",
            hint="load it with type=pyarrow.Table, or with type=dict as column → list",
        ) from error
    return table
