"""Makes the golden stores: what this release writes, for every later one to read.

    python -m tests.compat.make        # writes tests/compat/<version>, anew

A store of a release that was published is never made again: a new release adds its own folder beside it. What was put
into a store stands in `expected.json`, taken from the values themselves and never read back from the store.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3
from tests.faults.processes import forked

import keepstone
from keepstone.api import Store
from keepstone.history.checkpoint import Checkpoints
from keepstone.history.slots import Slots
from keepstone.repository.merging import merge

HERE = Path(__file__).resolve().parent
LEFT_OUT = (".gitignore", "CACHEDIR.TAG", "cache", ".sealer")
"""No objects: git must see the stores, and a cache is made anew."""
HOST, LOCATION = "elsewhere", "/golden"


@dataclass
class Answer:
    """A class with fields: kept as JSON."""

    value: int
    why: str


class Prompt(msgspec.Struct):
    """The same, of msgspec."""

    text: str
    tries: list[int]


def described(value: Any) -> Any:
    """Return `value` as JSON says it: bytes by their digest, a large text as well."""
    if isinstance(value, bytes):
        return {"bytes": blake3(value).hexdigest(), "size": len(value)}
    if isinstance(value, str) and len(value) > 1000:
        return {"text": blake3(value.encode()).hexdigest(), "size": len(value)}
    return {"json": value}


def files_below(folder: Path) -> dict[str, str]:
    """Return what lies in a folder: digests of files, `x` before those of programs, targets of links, empty folders."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_file():
            mark = "x " if os.access(path, os.X_OK) else ""
            found[name] = mark + blake3(path.read_bytes()).hexdigest()
        elif not any(path.iterdir()):
            found[name] = "empty"
    return found


# ---- names -----------------------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "text": "ü, 漢字 and \U0001f600\n",
    "empty text": "",
    "bytes": bytes(range(256)),
    "nothing": None,
    "yes": True,
    "numbers": [0, -1, 2**53, 0.1, 1e300, -0.5],
    "tree": {"b": {"a": [1, {"z": None}]}, "": [], "ü": {}},
    "cut/in pieces": bytes(range(256)) * 5_000,
    "deep/er/name": "x" * 5_000,
}


def make_folder(folder: Path) -> Path:
    """Make a folder with everything that a folder may hold."""
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "sub" / "ü.txt").write_text("text")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "zero").write_bytes(b"")
    (folder / "link").symlink_to("sub/ü.txt")
    return folder


def make_names(store: Store, scratch: Path) -> dict[str, Any]:
    """Save artifacts of every plain kind, move aliases, remove; return what to expect."""
    digests: dict[str, str] = {}

    def save(name: str, value: Any, **options: Any) -> None:
        version = store.save(name, value, **options)
        digests[version.selector] = version.digest

    for name, value in PLAIN.items():
        save(name, value)
    save("answer", Answer(72, "because"), metadata={"accuracy": 0.5, "tags": ["a"]}, message="an answer")
    save("prompt", Prompt("Q: {question}", [1, 2]), parents=["answer", "tree@v1"])
    save("pickled", {1, 2, 3}, serializer="pickle")
    folder = make_folder(scratch / "folder")
    save("folder", folder)
    save("file", folder / "run.sh")
    for turn in range(1, 6):
        save("turns", {"turn": turn}, aliases=["newest"], message=f"turn {turn}")
    store.alias("turns@v2", "best")
    store.alias("turns@v1", "gone")
    store.unalias("turns", "gone")
    store.remove("turns@v4", message="a mistake")
    save("removed", "not here any more")
    store.remove("removed")
    with store.transaction(message="two at once") as change:
        together = [change.save(f"together/{name}", {"at": "once"}) for name in "ab"]
        change.alias("together/a", "both")
    digests |= {version.selector: version.digest for version in together}
    return {
        "digests": {s: d for s, d in digests.items() if s not in ("turns@v4", "removed@v1")},
        "values": {name: described(value) for name, value in PLAIN.items()}
        | {
            "answer": {"json": {"value": 72, "why": "because"}},
            "prompt": {"json": {"text": "Q: {question}", "tries": [1, 2]}},
            "turns": {"json": {"turn": 5}},
            "turns@v1": {"json": {"turn": 1}},
            "turns@newest": {"json": {"turn": 5}},
            "turns@best": {"json": {"turn": 2}},
            "together/a@both": {"json": {"at": "once"}},
            "together/b": {"json": {"at": "once"}},
        },
        "pickled": {"pickled": [1, 2, 3]},
        "files": {"folder": files_below(folder)},
        "file": {"file": described((folder / "run.sh").read_bytes())},
        "metadata": {"answer": {"accuracy": 0.5, "tags": ["a"]}},
        "parents": {"prompt": [digests["answer@v1"], digests["tree@v1"]]},
        "versions": {"turns": [5, 3, 2, 1], "removed": []},
        "aliases": {"turns": {"best": 2, "newest": 5}},
        "absent": ["turns@v4", "turns@gone", "removed", "removed@v1", "turns@v6"],
        "messages": ["two at once", "a mistake", *(f"turn {turn}" for turn in range(5, 0, -1)), "an answer"],
    }


# ---- items -----------------------------------------------------------------------------------------------------------


def record(number: int) -> dict[str, Any]:
    """Return one record, the same in every run; long and alike, as records are."""
    chance = random.Random(number)
    return {
        "question": f"How many are {number} and {number + 1}? " + "Think step by step. " * 60,
        "answer": 2 * number + 1,
        "seed": chance.getrandbits(32),
        "tries": [chance.random() for _ in range(2)],
    }


def make_items(store: Store) -> dict[str, Any]:
    """Set items that end in packs of every origin, in a commit and in a journal; return what to expect."""
    answers = {f"q{n}": record(n) for n in range(450)}
    collection = store.collection("answers", durability="process")
    collection.add_many(answers)
    store.flush()
    mixed: dict[str, Any] = {
        "text": "ü",
        "bytes": b"\0\1",
        "": "the empty key",
        "ключ/ü\n": [1],
        "none": None,
    }
    other = store.collection("mixed/ü", durability="store")
    other.update(mixed)
    other["gone"] = 1
    del other["gone"]
    for n in range(3):
        collection[f"q{n}"] = answers[f"q{n}"] = {"answer": "again"}
        store.flush()
    del collection["q3"], answers["q3"]
    merge(store.repository.session, packs_min=2)
    session = store.repository.session
    slots = Slots(session.storage, session.identity.id_bytes, sleep=lambda seconds: None, random=lambda: 0.0)
    Checkpoints(session.storage, slots).write(session.log.refresh())
    # Behind the checkpoint: one large item with a commit of its own, one pack that is not merged.
    other["large"] = mixed["large"] = "0123456789abcdef" * 600_000
    collection["late"] = answers["late"] = {"answer": "after the checkpoint"}
    store.flush()
    store.collection("empty").create()
    kept = collection.snapshot(message="as submitted", aliases=["submitted"])
    digests = {kept.selector: kept.digest}
    then = dict(answers)
    collection["q1"] = answers["q1"] = {"answer": "after the snapshot"}
    collection["late"] = answers["late"] = {"answer": "once more"}
    del collection["q2"], answers["q2"]
    store.flush()
    digests |= {version.selector: version.digest for version in [collection.snapshot()]}
    return {
        "digests": digests,
        "versions": {"answers": [2, 1], "empty": []},
        "aliases": {"answers": {"submitted": 1}},
        "snapshots": {
            "answers@submitted": blake3(msgspec.json.encode(then, order="sorted")).hexdigest(),
            "answers@v2": blake3(msgspec.json.encode(answers, order="sorted")).hexdigest(),
        },
        "items": {
            "answers": {key: described(value) for key, value in answers.items() if key in _SHOWN},
            "mixed/ü": {key: described(value) for key, value in mixed.items()},
            "empty": {},
        },
        "whole": {"answers": blake3(msgspec.json.encode(answers, order="sorted")).hexdigest()},
        "missing": {"answers": ["q2", "q3", "never"], "mixed/ü": ["gone"]},
    }


_SHOWN = ("q0", "q4", "q449", "late", "journalled")


def leave_a_journal(place: Path, expected: dict[str, Any]) -> None:
    """Let a process set items and be killed, so that they lie in its journal."""

    def work() -> None:
        store = keepstone.open(place)
        spool = store.repository.session.spool
        # A journal tells where it was written; this one stands for any machine.
        spool._host, spool._location = HOST, LOCATION  # pyright: ignore[reportPrivateUsage]
        items = store.collection("journalled")
        items.update({"a": 1, "b": b"\xff", "gone": 1})
        items["c/ü"] = {"tree": [1, None]}
        del items["gone"]
        store.collection("mixed/ü")["text"] = "newer, in the journal"
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(work), 0)
    expected["items"]["journalled"] = {
        "a": {"json": 1},
        "b": described(b"\xff"),
        "c/ü": {"json": {"tree": [1, None]}},
    }
    expected["items"]["mixed/ü"]["text"] = {"json": "newer, in the journal"}
    expected["missing"]["journalled"] = ["gone"]


# ---- the whole -------------------------------------------------------------------------------------------------------


def make(target: Path) -> None:
    """Write all stores, and what is expected of them, to `target`."""
    shutil.rmtree(target, ignore_errors=True)
    expected: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        with keepstone.open(place / "names") as store:
            expected["names"] = make_names(store, place)
            store.pin(["turns@best", "folder", "cut/in pieces", "pickled"], place / "names.lock")
            store.bundle(place / "names.lock", place / "names.bundle")
        with keepstone.open(place / "items") as store:
            expected["items"] = make_items(store)
            store.pin(["answers@submitted"], place / "items.lock")
        leave_a_journal(place / "items", expected["items"])
        for name, facts in expected.items():
            with keepstone.open(place / name, mode="r") as store:
                session = store.repository.session
                facts["id"] = store.id
                facts["tip"] = [session.log.state.number, session.log.state.hash.hex()]
            shutil.copytree(place / name, target / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for name in ("names.lock", "items.lock", "names.bundle"):
            shutil.copy(place / name, target / name)
    text = json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True)
    (target / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / keepstone.__version__)
