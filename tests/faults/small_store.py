"""A store of some 64 KB with something of everything in it, and all that may be read from it.

Limits are lowered while it is made, so that packs, recipes, merging, a checkpoint and a catalog come about with little
content. What it holds is known, so a reader can say of every value whether it is right.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.faults.processes import dead

import keepstone
from keepstone.foundation.errors import KeepstoneError, NotFoundError
from keepstone.repository.merging import merge


@dataclass(frozen=True)
class Built:
    """A value that is kept as an artifact, also in a collection, and read as what it is made of."""

    template: str
    shots: int


FILES = {"weights.bin": random.Random(4).randbytes(700), "deep/notes.txt": b"notes of a folder\n" * 9}
LARGE = random.Random(5).randbytes(5_000)
VERSIONS: dict[str, Any] = {
    "text@v1": "a first text, überlang " * 9,
    "text@v2": "a second text",
    "json@v1": {"accuracy": 0.875, "labels": ["a", "b"], "none": None},
    "bytes@v1": random.Random(6).randbytes(900),
    "large@v1": LARGE,
    "group/prompt@v1": {"template": "{question}", "shots": list(range(40))},
}
FOLDER = "folder@v1"
ITEMS: dict[str, Any] = {f"k{i:02}": {"n": i, "text": f"answer {i} " * (i % 7)} for i in range(40)} | {
    "k01": "overwritten with text",
    "k05": b"overwritten with bytes",
    "large": LARGE[:3_500],
    "built": Built("{question}", 3),
}
LATE: dict[str, Any] = {f"late {i}": {"late": i, "text": "still in a journal " * i} for i in range(8)}
"""In a journal nobody holds; the first half was synced."""


def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the store in a folder that does not exist."""
    with monkeypatch.context() as patch:
        _lower_limits(patch)
        with keepstone.open(root) as store:
            _save(store, root.parent / "source")
            _put(store)
            session = store.repository.session
            assert merge(session, packs_min=3)
            log = session.log
            log._checkpoints.write(log.state)
            store.save("text", VERSIONS["text@v2"], aliases=["prod"])
            # After the checkpoint, a pack that is not merged.
            store.collection("answers").update({k: ITEMS[k] for k in ("k01", "k05")})
            store.flush()
            session.entries.fold(lambda: False)
        dead(lambda: _leave_journal(root))


def _lower_limits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("keepstone.repository.staging._INLINE_BLOBS_MAX", 1_500)
    patch.setattr("keepstone.repository.staging.CHUNK_BYTES", 2_048)
    patch.setattr("keepstone.blobs.fastcdc.CHUNK_BYTES", 2_048)
    patch.setattr("keepstone.blobs.fastcdc.FINE_BYTES", (256, 1_024, 2_048))
    patch.setattr("keepstone.repository.collection.JOURNAL_VALUE_BYTES_MAX", 3_000)
    patch.setattr("keepstone.blobs.compression.DICTIONARY_RAW_BYTES_MIN", 2_000)
    patch.setattr("keepstone.repository.entries.CATALOG_ENTRIES_MIN", 10)


def _save(store: keepstone.Store, source: Path) -> None:
    for name, content in FILES.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    store.save("folder", source)
    for selector, value in VERSIONS.items():
        if selector != "text@v2":
            store.save(selector.partition("@")[0], value)
    store.save("removed", "soon gone")
    store.remove("removed")


def _put(store: keepstone.Store) -> None:
    answers = store.collection("answers")
    rest = {key: value for key, value in ITEMS.items() if key not in ("k01", "k05")}
    keys = list(rest)
    for start in range(0, len(keys), 10):
        answers.update({key: rest[key] for key in keys[start : start + 10]})
        answers.update({"k01": start, "k05": [start], "gone": "not for long"})
        if start:
            del answers["gone"]
        answers.flush()


def _leave_journal(root: Path) -> None:
    store = keepstone.open(root)
    keys = list(LATE)
    for key in keys[: len(keys) // 2]:
        store.collection("late", durability="disk")[key] = LATE[key]
    for key in keys[len(keys) // 2 :]:
        store.collection("late", durability="process")[key] = LATE[key]


RIGHT = "right"
ABSENT = "absent"
REFUSED = "refused"
Outcome = dict[str, str]
"""Selector → one of the three above, or what is wrong: another value, or an error that is not ours."""


def read_all(root: Path, scratch: Path) -> Outcome | str:
    """Open the store for reading and read all through the public interface; `refused` where it does not open."""
    try:
        with keepstone.open(root, mode="r") as store:
            return read_open(store, scratch)
    except KeepstoneError:
        return REFUSED


def read_open(store: keepstone.Store, scratch: Path) -> Outcome:
    """Read everything from an open store."""
    found = {selector: _outcome(store.load, selector, value) for selector, value in VERSIONS.items()}
    found["text@prod"] = _outcome(store.load, "text@prod", VERSIONS["text@v2"])
    found[FOLDER] = _outcome(lambda selector: _checked_out(store, selector, scratch), FOLDER, FILES)
    found["removed@v1"] = _outcome(store.load, "removed@v1", None)
    for name, items in (("answers", ITEMS), ("late", LATE)):
        collection = store.collection(name)
        for key, value in items.items():
            value = asdict(value) if isinstance(value, Built) else value
            found[f"{name}[{key}]"] = _outcome(collection.__getitem__, key, value)
        found[f"{name}[gone]"] = _outcome(collection.__getitem__, "gone", None)
        listed = _outcome(lambda _, c=collection: sorted(c), "", sorted(items))
        # A list that misses keys is no wrong one, but what is missing must be named as everything else.
        found[f"{name}[*]"] = (
            ABSENT if listed.startswith("reads [") and set(collection) < set(items) else listed
        )
    return found


def _outcome(read: Callable[[str], Any], what: str, expected: Any) -> str:
    try:
        value = read(what)
    except NotFoundError:
        return ABSENT
    except KeepstoneError:
        return REFUSED
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return RIGHT if value == expected and type(value) is type(expected) else f"reads {value!r:.80}"


def _checked_out(store: keepstone.Store, selector: str, scratch: Path) -> dict[str, bytes]:
    shutil.rmtree(scratch, ignore_errors=True)
    store.resolve(selector).checkout(scratch)
    return {name: (scratch / name).read_bytes() for name in FILES}


SOUND = {
    **dict.fromkeys([*VERSIONS, "text@prod", FOLDER], RIGHT),
    **{f"answers[{key}]": RIGHT for key in [*ITEMS, "*"]},
    **{f"late[{key}]": RIGHT for key in [*LATE, "*"]},
    **dict.fromkeys(["removed@v1", "answers[gone]", "late[gone]"], ABSENT),
}
"""What reading a store that is not damaged gives."""
