"""A store to do harm to: a copy, in which a row of docs/errors.md is provoked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import keepstone


class Place:
    """A store to do harm to."""

    def __init__(self, folder: Path, original: Path) -> None:
        self.folder = folder
        self.path = folder / "store"
        self._opened: list[keepstone.Store] = []
        shutil.copytree(original, self.path)

    def open(self, mode: Any = "a", **options: Any) -> keepstone.Store:
        store = keepstone.open(self.path, mode=mode, **options)
        self._opened.append(store)
        return store

    @property
    def collection(self) -> keepstone.Collection[Any]:
        return self.open().collection("c")

    def save(self, value: Any, **options: Any) -> object:
        return self.open().save("value", value, **options)

    def save_as(self, name: str) -> object:
        return self.open().save(name, "by somebody else")

    def read_all(self) -> tuple[Any, ...]:
        """Read everything; return it."""
        with keepstone.open(self.path) as store:
            items = dict(store.collection("c"))
            return store.load("a"), store.load("a@v1"), store.load("large"), items

    def slot(self, number: int) -> Path:
        return self.path / "log" / f"{number:020d}"

    def pack(self) -> Path:
        return next(path for path in (self.path / "packs").rglob("0*-*") if path.stat().st_size > 300_000)

    def close(self) -> None:
        for store in self._opened:
            store.close()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def make_store(path: Path) -> Path:
    with keepstone.open(path) as store:
        store.save("a", {"x": 1})
        store.save("a", {"x": 2}, aliases=["prod"])
        store.save("large", os.urandom(400_000))
        store.collection("c")["k"] = 1
    return path
