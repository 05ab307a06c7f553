"""Paths of the filesystem `keepstone://` that lead nowhere, or may not be written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.errors.store_to_harm import Place

from keepstone.interop.filesystem import KeepstoneFileSystem


def files(place: Place) -> Any:
    return KeepstoneFileSystem(place.path, skip_instance_cache=True)


def write(place: Place, *paths: str, mode: str = "wb") -> object:
    fs = files(place)
    with fs.transaction:
        for path in paths:
            with fs.open(path, mode) as file:
                file.write(b"x")
    return fs


def overtaken(place: Place) -> object:
    with files(place).open("new", "xb") as file:
        place.save_as("new")
        return file.write(b"x")


def still_open(place: Place) -> object:
    fs = files(place)
    with fs.transaction:
        return fs.open("new", "wb")


def nested(place: Place) -> object:
    fs = files(place)
    with fs.transaction, fs.transaction:
        return fs


PATHS: Final[dict[str, Callable[[Place], object]]] = {
    "`keepstone://` without a store": lambda p: KeepstoneFileSystem(),
    "`keepstone://` with two stores": lambda p: KeepstoneFileSystem(p.path, fo="/other"),
    "`keepstone://` with options of a bucket": lambda p: KeepstoneFileSystem(
        fo="b/team", target_protocol="s3", target_options={"key": "secret"}
    ),
    "`keepstone://` and no store there": lambda p: KeepstoneFileSystem(p.folder / "none").ls(""),
    "`open` of a path that is not there": lambda p: files(p).open("b/x.csv"),
    "`open` of a version that is not there": lambda p: files(p).open("a@v9"),
    "`open` of a file that is not in a version": lambda p: files(p).open("a@v1/x.csv"),
    "`open` of a collection": lambda p: files(p).open("c"),
    "`open` of a folder": lambda p: files(p).open(""),
    "`created` of a folder": lambda p: files(p).created(""),
    "writing to a version": lambda p: files(p).open("a@v1", "wb"),
    "appending to a file": lambda p: files(p).open("a", "ab"),
    "writing one file of a folder": lambda p: files(p).open("a@latest/x.csv", "wb"),
    "writing to `a@latest/../b`": lambda p: files(p).open("a@latest/../b", "wb"),
    '`open(…, "xb")` of what is there': lambda p: files(p).open("a", "xb"),
    '`open(…, "xb")` where somebody was first': overtaken,
    "a path that is no text": lambda p: files(p).open(5),
    "an unknown compression": lambda p: files(p).open("a", "wb", compression="zap"),
    "`touch` of what is to stay": lambda p: files(p).touch("a", truncate=False),
    "`rm`": lambda p: files(p).rm("a"),
    "`mv`": lambda p: files(p).mv("a", "b"),
    "a name written as a file and as a folder": lambda p: write(p, "new", "new@latest/x"),
    "a file and a folder of one path": lambda p: write(p, "new@latest/x", "new@latest/x/y"),
    "a transaction whose file is open": still_open,
    "a transaction in a transaction": nested,
    "a file over a collection": lambda p: write(p, "c"),
}
