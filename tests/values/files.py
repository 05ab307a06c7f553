"""Rows of docs/values.md about odd files and folders, and about files that are not what they say."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.objects.saving import load, save
from tests.values.trying import Trial

from keepstone.objects import trees
from keepstone.objects.standard import standard_registry


def folder_with(trial: Trial, make: Callable[[Path], object]) -> Path:
    folder = trial.fresh()
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    make(folder)
    return folder


def saves_folder_with(make: Callable[[Path], object]) -> Callable[[Trial], object]:
    return lambda trial: trial.store.save("x", folder_with(trial, make))


def names_in_two_cases(trial: Trial) -> None:
    folder = folder_with(trial, lambda inside: (inside / "A.TXT").write_text("b"))
    trial.store.save("x", folder)
    # Where the file system takes both for one, there is one.
    assert trial.store.load("x", type=dict) == {path.name: path.read_bytes() for path in folder.iterdir()}
    trial.store.remove("x")


def links_in_a_circle(trial: Trial) -> None:
    def make(inside: Path) -> None:
        (inside / "one").symlink_to("two")
        (inside / "two").symlink_to("one")
        (inside / "here").symlink_to(".")

    folder = folder_with(trial, make)
    trial.store.save("x", folder)
    target = trial.fresh()
    trial.store.resolve("x").checkout(target)
    assert {path.name: os.readlink(path) for path in target.iterdir() if path.is_symlink()} == {
        "one": "two",
        "two": "one",
        "here": ".",
    }
    trial.store.remove("x")


def link_to_itself(trial: Trial) -> None:
    path = trial.fresh()
    path.symlink_to(path.name)
    trial.store.save("x", path)


def too_many_files(trial: Trial) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "MANIFEST_BYTES_MAX", 1000)
        trial.store.save(
            "x", folder_with(trial, lambda inside: [(inside / str(i)).touch() for i in range(40)])
        )


def written_meanwhile(trial: Trial) -> None:
    path = trial.fresh()
    path.write_bytes(bytes(3_000_000))
    real = os.read

    def read(handle: int, size: int) -> bytes:
        data = real(handle, size)
        with path.open("ab") as file:
            file.write(b"more")
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", read)
        trial.store.save("x", path)


def kept_as_it_is(content: bytes, name: str) -> Callable[[Trial], None]:
    def check(trial: Trial) -> None:
        path = trial.fresh().with_name(name)
        path.write_bytes(content)
        trial.store.save("x", path)
        assert trial.store.load("x") == content
        trial.store.remove("x")

    return check


def cut_table(trial: Trial) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    registry = standard_registry()
    saved = save(registry, pa.table({"a": list(range(1000))}))
    load(registry, saved.replaced("", saved.content("")[:-900]))


_HEADER: Final = (
    b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,999999999999]},"b":{"data_offsets":[7,3]}}'
)

ODD_FILES: Final[dict[str, Callable[[Trial], object]]] = {
    "a socket in a folder": saves_folder_with(lambda inside: os.mknod(inside / "s", stat.S_IFSOCK | 0o600)),
    "a pipe in a folder": saves_folder_with(lambda inside: os.mkfifo(inside / "p")),
    "a device": lambda trial: trial.store.save("x", Path(os.devnull)),
    "two files whose names differ only in case": names_in_two_cases,
    "links in a circle, and to their own folder, in a folder": links_in_a_circle,
    "a link to itself": link_to_itself,
    "more files in a folder than a manifest can list": too_many_files,
    "a path where nothing is": lambda trial: trial.store.save("x", trial.fresh()),
    "a file that is written to while it is saved": written_meanwhile,
    "a safetensors file whose header lies": kept_as_it_is(
        len(_HEADER).to_bytes(8, "little") + _HEADER + bytes(2**21), "lies.safetensors"
    ),
    "a zip file whose sizes lie": kept_as_it_is(
        b"PK\x03\x04" + bytes(14) + b"\xff" * 8 + b"\x05\0\0\0a.npy" + bytes(2**21), "lies.npz"
    ),
    "a Parquet file that was cut off": kept_as_it_is(b"PAR1" + bytes(100_000), "cut.parquet"),
    "loading a table whose stored file was cut off": cut_table,
}
