"""Locks and bundles that are wrong, or come to a wrong place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.errors.store_to_harm import Place, flip

import keepstone


def lock_of(place: Place, change: Callable[[str], str] = lambda text: text) -> Path:
    path = place.folder / "x.lock"
    place.open("r").pin(["a"], path)
    path.write_text(change(path.read_text()))
    return path


def own_file(place: Place) -> Path:
    path = place.folder / "mine.txt"
    path.write_text("mine")
    return path


def other_store(place: Place) -> keepstone.Store:
    store = keepstone.open(place.folder / "other")
    place._opened.append(store)
    return store


def moved_lock(place: Place) -> object:
    (place.folder / "moved").mkdir()
    return keepstone.locked(lock_of(place).rename(place.folder / "moved" / "x.lock"))


def other_kind(place: Place) -> object:
    lock, other = lock_of(place), other_store(place)
    other.collection("a")["k"] = 1
    return other.restore(lock)


def bundle_for_lock(place: Place) -> object:
    path = place.folder / "x.bundle"
    place.open("r").bundle(lock_of(place), path)
    return keepstone.locked(path)


def bundle_of(place: Place, offset: int | None, cut: int | None = None) -> object:
    path = place.folder / "x.bundle"
    place.open("r").bundle(lock_of(place), path)
    if offset is not None:
        flip(path, offset)
    path.write_bytes(path.read_bytes()[:cut])
    return other_store(place).restore(path)


LOCKS: Final[dict[str, Callable[[Place], object]]] = {
    '`pin("a")`': lambda p: p.open().pin("a", p.folder / "x.lock"),
    '`pin(["a"], 3)`': lambda p: p.open().pin(["a"], 3),  # type: ignore[arg-type]
    '`pin(["a"], remotes="s3://b")`': lambda p: p.open().pin(["a"], p.folder / "x.lock", remotes="s3://b"),
    "a remote that is empty": lambda p: p.open().pin(["a"], p.folder / "x.lock", remotes=[""]),
    "pinning nothing": lambda p: p.open().pin([], p.folder / "x.lock"),
    "pinning a name that does not exist": lambda p: p.open().pin(["nosuch"], p.folder / "x.lock"),
    "pinning over a file that is no lock": lambda p: p.open().pin(["a"], own_file(p)),
    "unpinning what is not pinned": lambda p: p.open().unpin(p.folder / "other.lock"),
    "a lock that does not exist": lambda p: keepstone.locked(p.folder / "none.lock"),
    "a lock with a wrong line": lambda p: keepstone.locked(
        lock_of(p, lambda t: t.replace("artifact", "thing"))
    ),
    "a lock that git could not merge": lambda p: keepstone.locked(
        lock_of(p, lambda t: t.replace("a@v2", "<<<<<<< HEAD\na@v2"))
    ),
    "a lock with a line out of order": lambda p: keepstone.locked(
        lock_of(p, lambda t: t + t.splitlines()[-1].replace("a@v2", "a@v1") + "\n")
    ),
    "a lock that names nothing": lambda p: keepstone.locked(
        lock_of(p, lambda t: "".join(t.splitlines(keepends=True)[:2]))
    ),
    "a lock that calls an artifact a collection": lambda p: keepstone.locked(
        lock_of(p, lambda t: t.replace("artifact", "collection"))
    ).load("a"),
    "a lock of a newer format": lambda p: keepstone.locked(
        lock_of(p, lambda t: t.replace("lock 1", "lock 2"))
    ),
    "a name that the lock does not have": lambda p: keepstone.locked(lock_of(p)).load("b"),
    "an alias asked of a lock": lambda p: keepstone.locked(lock_of(p)).load("a@prod"),
    "a lock whose store is not there": moved_lock,
    "a pinned version that the store does not have": lambda p: keepstone.locked(
        lock_of(p), other_store(p)
    ).load("a"),
    "restoring from a store that lacks it": lambda p: other_store(p).restore(
        lock_of(p), source=other_store(p)
    ),
    "restoring a collection's name over an artifact's": other_kind,
    "bundling over the lock itself": lambda p: p.open().bundle(lock_of(p), lock_of(p), replace=True),
    "a bundle where a lock is meant": bundle_for_lock,
    "bundling over a file that exists": lambda p: p.open().bundle(lock_of(p), own_file(p)),
    "a byte of a bundle's content is flipped": lambda p: bundle_of(p, 20),
    "a byte of a bundle's table is flipped": lambda p: bundle_of(p, -50),
    "a bundle that is cut short": lambda p: bundle_of(p, None, -1),
}
