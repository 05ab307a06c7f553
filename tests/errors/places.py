"""Places where no store is, or none that may be used so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.errors.store_to_harm import Place
from tests.permissions import only_readable

import keepstone


def foreign_folder(place: Place) -> object:
    (place.folder / "other").mkdir()
    (place.folder / "other" / "notes.txt").write_text("mine")
    return keepstone.open(place.folder / "other")


def file_as_store(place: Place) -> object:
    (place.folder / "file").write_text("mine")
    return keepstone.open(place.folder / "file")


def forbidden_folder(place: Place) -> object:
    folder = place.folder / "forbidden"
    folder.mkdir()
    with only_readable(folder):
        return keepstone.open(folder / "store")


def closed(place: Place) -> object:
    store = keepstone.open(place.path)
    store.close()
    return store.load("a")


def own_file(place: Place) -> None:
    out = place.folder / "out"
    out.mkdir(exist_ok=True)
    (out / "mine.txt").write_text("my own")
    place.open().resolve("a").checkout(out, update=True)


def link_outside(place: Place) -> object:
    tree = place.folder / "tree"
    tree.mkdir()
    (tree / "link").symlink_to("../../elsewhere")
    with keepstone.open(place.folder / "other") as other:
        return other.save("tree", tree).checkout(place.folder / "out")


PLACES: Final[dict[str, Callable[[Place], object]]] = {
    "a store that is a file": file_as_store,
    "a folder that holds something else": foreign_folder,
    "a folder without permission": forbidden_folder,
    "no store, and `create=False`": lambda p: keepstone.open(p.folder / "none", create=False),
    'no store, and `mode="r"`': lambda p: keepstone.open(p.folder / "none", mode="r"),
    "`s3://user:secret@bucket/team`": lambda p: keepstone.open("s3://user:secret@bucket/team"),
    "`s3://bucket/team?token=x`": lambda p: keepstone.open("s3://bucket/team?token=x"),
    "`s3://bucket/a/../b`": lambda p: keepstone.open("s3://bucket/a/../b"),
    "`s3://bucket//a`": lambda p: keepstone.open("s3://bucket//a"),
    "`s3://b`": lambda p: keepstone.open("s3://b"),
    "`s3:/bucket/a`": lambda p: keepstone.open("s3:/bucket/a"),
    "`s3:bucket/a`": lambda p: keepstone.open("s3:bucket/a"),
    "` s3://bucket/a`, with a space before it": lambda p: keepstone.open(" s3://bucket/a"),
    "`https://user:secret@host/store`": lambda p: keepstone.open("https://user:secret@host/store"),
    "`ftp://host/path`": lambda p: keepstone.open("ftp://host/path"),
    "an empty location": lambda p: keepstone.open(""),
    'saving to a store opened with `mode="r"`': lambda p: p.open("r").save("a", 1),
    'setting an item in a store opened with `mode="r"`': lambda p: (
        p.open("r").collection("c").update({"k": 2})
    ),
    "using a store that was closed": closed,
    "checking out a link that leads out of its folder": link_outside,
    "checking out to a folder that is not empty": lambda p: p.open().resolve("a").checkout(p.folder),
    "updating a folder with a file of one's own": own_file,
    "overwriting without updating": lambda p: (
        p.open().resolve("a").checkout(p.folder / "out", overwrite=True)
    ),
}
