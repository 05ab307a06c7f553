"""Stores to pin, and what must come out of them again."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import keepstone
from keepstone.foundation.digest import Digest

LARGE = random.Random(7).randbytes(3 * 1024 * 1024 + 17)
LARGER = random.Random(8).randbytes(9 * 1024 * 1024)
SELECTORS = ("text", "json", "large", "folder", "turns@old", "turns@new", "copies/of large", "answers")
ANSWERS = {f"q{i}": {"answer": i, "why": f"because of {i}" * 5} for i in range(2_000)}


def fill(root: Path, scratch: Path) -> None:
    """Make a store with something of every kind of artifact, and two versions of one name behind aliases."""
    folder = scratch / "folder"
    (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "deep" / "run.sh").chmod(0o755)
    (folder / "plain.txt").write_text("plain\n")
    (folder / "link").symlink_to("plain.txt")
    with keepstone.open(root) as store:
        store.save("text", "some text")
        store.save("json", {"a": [1, 2.5, None], "ü": True}, metadata={"accuracy": 0.5})
        store.save("large", LARGE)
        store.save("folder", folder)
        store.save("turns", "first", aliases=["old"])
        store.save("turns", "second", aliases=["new"])
        store.save("turns", "third")
        answers = store.collection("answers", durability="process")
        answers.update(ANSWERS)
        # In a pack of journals, in a commit of its own, made of parts, still in a journal, replaced since.
        answers.flush()
        answers["large"] = LARGER
        answers["file"] = folder / "plain.txt"
        answers["late"] = b"late"
        answers["q7"] = "another answer"
        # A name that a lock has to quote, and content that is there already.
        store.save("copies/of large", LARGE)


def fill_small(root: Path) -> None:
    """Make a store of a few kilobytes."""
    with keepstone.open(root) as store:
        store.save("a", {"x": list(range(30))})
        store.save("b", random.Random(3).randbytes(700), metadata={"n": 1})
        store.save("b", "second " * 40, aliases=["prod"])
        store.collection("c").update({"k": "v", "list": [1, 2, 3], "bytes": b"\0" * 20})


def seen(store: keepstone.Store) -> dict[str, Any]:
    """Return all that can be read of a store, by digest."""
    names = store.names()
    return {
        "versions": {
            v.selector: (v.digest, v.created, None if v.is_snapshot else v.load())
            for name in names
            for v in store.versions(name)
            if v.serializer != "folder"
        },
        "aliases": {name: store.aliases(name) for name in names},
        "items": {
            name: {key: store.collection(name).digest_of(key) for key in store.collection(name)}
            for name in store.names(kind="collection")
        },
    }


def content_of(store: keepstone.Store | keepstone.Locked, selectors: dict[str, str]) -> dict[str, Any]:
    """Return, for each label, the digest of the version and of every part, as they are read back."""
    found: dict[str, Any] = {}
    for label, selector in selectors.items():
        version = store.resolve(selector)
        if version.is_snapshot:
            items = store.collection(selector)
            found[label] = (
                version.digest,
                {key: (items.digest_of(key), value) for key, value in items.items()},
            )
            continue
        parts = [(p.path, p.mode, str(Digest.of_chunks(version.chunks(p.path)))) for p in version.parts]
        found[label] = (version.digest, dict(version.metadata), parts)
    return found


def tree_of(folder: Path) -> list[tuple[str, str]]:
    """Return what is in a folder: paths, and what each one is."""
    found: list[tuple[str, str]] = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found.append((path.name, "link to " + os.readlink(path)))
        elif path.is_dir():
            found.append((path.name, "folder"))
        else:
            found.append((path.name, f"{path.stat().st_mode & 0o100:o} {path.read_bytes().hex()}"))
    return found
