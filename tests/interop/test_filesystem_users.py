"""Libraries that know nothing of Keepstone read versions and write new ones through fsspec."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

import keepstone

ROWS = {"name": ["ada", "bob", "eve"], "score": [1.5, 2.5, 3.5]}


@pytest.fixture
def pandas() -> Any:
    return pytest.importorskip("pandas")


@pytest.fixture
def parquet(pandas: Any) -> Any:
    return pytest.importorskip("pyarrow.parquet")


def test_pandas_writes_and_reads_csv(pandas: Any, store: keepstone.Store, options: dict[str, str]) -> None:
    frame = pandas.DataFrame(ROWS)
    frame.to_csv("keepstone://tables/scores.csv", index=False, storage_options=options)
    frame.head(1).to_csv("keepstone://tables/scores.csv", index=False, storage_options=options)

    read = pandas.read_csv("keepstone://tables/scores.csv@v1", storage_options=options)
    assert read.to_dict("list") == ROWS
    assert len(pandas.read_csv("keepstone://tables/scores.csv", storage_options=options)) == 1
    assert store.load("tables/scores.csv@v2") == b"name,score\nada,1.5\n"


def test_pandas_writes_and_reads_compressed_csv_and_json(pandas: Any, options: dict[str, str]) -> None:
    frame = pandas.DataFrame(ROWS)
    frame.to_csv("keepstone://tables/scores.csv.gz", index=False, storage_options=options)
    frame.to_json("keepstone://tables/scores.jsonl", orient="records", lines=True, storage_options=options)

    packed = pandas.read_csv("keepstone://tables/scores.csv.gz", storage_options=options)
    lines = pandas.read_json("keepstone://tables/scores.jsonl", lines=True, storage_options=options)
    assert packed.to_dict("list") == lines.to_dict("list") == ROWS


def test_pandas_writes_and_reads_parquet(parquet: Any, pandas: Any, options: dict[str, str]) -> None:
    frame = pandas.DataFrame(ROWS)
    frame.to_parquet("keepstone://tables/scores.parquet", storage_options=options)

    read = pandas.read_parquet("keepstone://tables/scores.parquet@latest", storage_options=options)
    one = pandas.read_parquet("keepstone://tables/scores.parquet", columns=["score"], storage_options=options)
    assert read.to_dict("list") == ROWS
    assert list(one.columns) == ["score"]


def test_a_frame_that_cannot_be_written_leaves_no_version(
    parquet: Any, pandas: Any, store: keepstone.Store, options: dict[str, str]
) -> None:
    frame = pandas.DataFrame({"mixed": [1, "two", object()]})
    with pytest.raises(Exception, match="object"):
        frame.to_parquet("keepstone://tables/mixed.parquet", storage_options=options)

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no text for this")

    rows = [str(number) * 1000 for number in range(1000)]
    with pytest.raises(RuntimeError, match="no text"):
        pandas.DataFrame({"rows": [*rows, Bad()]}).to_csv(
            "keepstone://tables/bad.csv", chunksize=10, storage_options=options
        )

    assert store.names() == []


def test_a_parquet_dataset_of_many_files_is_one_version(
    parquet: Any, pandas: Any, store: keepstone.Store, options: dict[str, str], fs: Any
) -> None:
    frame = pandas.DataFrame(ROWS)
    with fs.transaction:
        frame.to_parquet("keepstone://tables/parts@latest", partition_cols=["name"], storage_options=options)

    assert [version.number for version in store.versions("tables/parts")] == [1]
    assert len(store.resolve("tables/parts").parts) == 3
    read = pandas.read_parquet("keepstone://tables/parts@v1", storage_options=options)
    assert sorted(read["name"]) == ROWS["name"]
    assert sorted(read["score"]) == ROWS["score"]


def test_pyarrow_reads_and_writes_through_its_own_handler(
    parquet: Any, store: keepstone.Store, fs: Any
) -> None:
    import pyarrow
    import pyarrow.dataset
    import pyarrow.fs

    table = pyarrow.table(ROWS)
    arrow_fs = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
    parquet.write_table(table, "tables/one.parquet", filesystem=arrow_fs)
    with fs.transaction:
        for existing in ("error", "overwrite_or_ignore"):
            pyarrow.dataset.write_dataset(
                table,
                f"tables/{existing}@latest",
                format="parquet",
                partitioning=["name"],
                filesystem=arrow_fs,
                existing_data_behavior=existing,
            )

    assert parquet.read_table("tables/one.parquet@v1", filesystem=fs).equals(table)
    read = pyarrow.dataset.dataset("tables/error@v1", filesystem=arrow_fs, partitioning=["name"])
    assert sorted(read.to_table()["score"].to_pylist()) == ROWS["score"]
    found = arrow_fs.get_file_info(pyarrow.fs.FileSelector("tables", recursive=True))
    assert {info.path for info in found if info.type == pyarrow.fs.FileType.File} == set(fs.find("tables"))
    assert arrow_fs.get_file_info("nosuch").type == pyarrow.fs.FileType.NotFound
    assert store.kind("tables/one.parquet") == "artifact"


def test_polars_reads_through_fsspec(options: dict[str, str], store: keepstone.Store, fs: Any) -> None:
    polars = pytest.importorskip("polars")
    with fs.open("tables/scores.csv", "wb") as file:
        polars.DataFrame(ROWS).write_csv(file)

    with fsspec.open("keepstone://tables/scores.csv@v1", "rb", **options) as file:
        assert polars.read_csv(file).to_dict(as_series=False) == ROWS


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Read when it is imported; it would count loads over the network otherwise.
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return pytest.importorskip("datasets")


def test_datasets_loads_and_writes(
    datasets: Any, options: dict[str, str], store: keepstone.Store, folder: Path, tmp_path: Path
) -> None:
    for name in ("train-1.csv", "train-2.csv"):
        (folder / name).write_text("a,b\n1,2\n3,4\n")
    store.save("data/set", folder)
    load = partial(
        datasets.load_dataset, storage_options=options, cache_dir=str(tmp_path / "cache"), split="train"
    )

    loaded = load("csv", data_files={"train": "keepstone://data/set@v1/train-*.csv"})
    streamed = load("csv", data_files="keepstone://data/set@v1/rows.csv", streaming=True)
    loaded.to_parquet("keepstone://data/again.parquet", storage_options=options)
    again = load("parquet", data_files="keepstone://data/again.parquet")

    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert list(loaded) == list(again) == rows * 2
    assert list(streamed) == rows


def test_datasets_keeps_a_whole_dataset_as_one_version(
    datasets: Any, options: dict[str, str], store: keepstone.Store, fs: Any
) -> None:
    with fs.transaction:
        datasets.Dataset.from_dict(ROWS).save_to_disk("keepstone://data/disk@latest", storage_options=options)

    read = datasets.load_from_disk("keepstone://data/disk@v1", storage_options=options)
    assert read.to_dict() == ROWS


@pytest.mark.filterwarnings("ignore:UPath 'keepstone' filesystem not explicitly implemented")
def test_universal_pathlib_walks_reads_and_writes(
    options: dict[str, str], store: keepstone.Store, folder: Path
) -> None:
    upath = pytest.importorskip("upath")
    store.save("data/set", folder)
    root = upath.UPath("keepstone://data/set@v1", **options)

    assert sorted(path.name for path in root.iterdir()) == ["circle", "inside", "outside", "rows.csv", "sub"]
    assert (root / "rows.csv").read_text() == "a,b\n1,2\n3,4\n"
    assert (root / "sub").is_dir()
    assert (root / "rows.csv").stat().st_size == 12
    assert not (root / "nosuch").exists()
    assert [path.name for path in root.rglob("*.txt")] == ["part@1.txt"]
    upath.UPath("keepstone://notes/today.txt", **options).write_text("kept")
    assert store.load("notes/today.txt", type=str) == "kept"
    with pytest.raises(keepstone.PathReadOnlyError):
        (root / "rows.csv").unlink()


def test_a_zip_file_is_written_and_read_member_by_member(
    options: dict[str, str], store: keepstone.Store, fs: Any
) -> None:
    with fs.open("packed.zip", "wb") as file, zipfile.ZipFile(file, "w") as packed:
        packed.writestr("inner/a.txt", "inside of a zip")

    with fsspec.open("keepstone://packed.zip", "rb", **options) as file, zipfile.ZipFile(file) as packed:
        assert packed.read("inner/a.txt") == b"inside of a zip"
    with fsspec.open(f"zip://inner/a.txt::keepstone://packed.zip@v1::file://{store.location}", "rt") as file:
        assert file.read() == "inside of a zip"
    with fsspec.open("zip://inner/a.txt::keepstone://packed.zip@v1", "rt", keepstone=options) as file:
        assert file.read() == "inside of a zip"


def test_fsspec_caches_in_front_work(options: dict[str, str], store: keepstone.Store, tmp_path: Path) -> None:
    store.save("a.bin", b"0123456789")
    for cache in ("simplecache", "filecache"):
        with fsspec.open(
            f"{cache}::keepstone://a.bin@v1",
            "rb",
            keepstone=options,
            **{cache: {"cache_storage": str(tmp_path / cache)}},
        ) as file:
            file.seek(4)
            assert file.read(3) == b"456"
