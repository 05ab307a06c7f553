"""Building a state that a crash left, opening it, and asking whether every promise holds.

Equal files of different states are one file with several names, so a state costs no more than its names. That is
allowed because nothing in a store is ever changed in place but a journal by its owner; the builder makes sure of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.faults.crash_promises import Fact, Promises, observe
from tests.faults.crash_states import Crash

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import StoreNotFoundError

FSCK_EVERY, WORK_EVERY = 2, 4
"""Of the states that are recovered from so many are checked as a whole, and so many are worked with afterwards."""


class Builder:
    """Builds trees below `root`, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "disk"
        self._pool = folder / "pool"
        self._pool.mkdir(parents=True)
        self._ids: dict[bytes, int] = {}

    def key(self, tree: dict[str, bytes | None]) -> frozenset[tuple[str, int]]:
        """Return what two trees have in common only if they are equal in every name and byte."""
        return frozenset(
            (path, -1 if content is None else self._ids.setdefault(content, len(self._ids)))
            for path, content in tree.items()
        )

    def build(self, tree: dict[str, bytes | None]) -> None:
        """Make `tree`, and nothing else, below the root."""
        clear(str(self.root))
        os.mkdir(self.root)
        for path, content in tree.items():
            place = f"{self.root}/{path}"
            if content is None:
                os.mkdir(place)
                continue
            kept = f"{self._pool}/{self._ids.setdefault(content, len(self._ids))}"
            try:
                os.link(kept, place)
            except FileNotFoundError:
                Path(kept).write_bytes(content)
                os.link(kept, place)

    def require_unchanged(self) -> None:
        """Make sure that no file was changed in place."""
        for content, number in self._ids.items():
            path = self._pool / str(number)
            assert not path.exists() or path.read_bytes() == content, "a file was changed in place"


def clear(path: str) -> None:
    """Remove a folder of which nothing is kept, as fast as can be."""
    try:
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            clear(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)


def require(place: Path, promises: Promises, crash: Crash, nth: int, every: int = 1) -> dict[Fact, Any]:
    """Open the store in a built state, check all promises, and return what was found there.

    `nth` and `every` tell how thoroughly; in any case it is opened and asked.

    Raises:
        AssertionError: a promise does not hold.
        KeepstoneError: something cannot be read.
    """
    store = _opened(place, promises, crash)
    try:
        facts = _facts(promises, nth)
        found = observe(store, facts)
        for fact, value in found.items():
            allowed = promises.allowed(fact, crash.prefix, whole=crash.whole)
            assert any(_equal(value, other) for other in allowed), (
                f"{fact}: found {_short(value)}, allowed {[_short(other) for other in allowed]}"
            )
        if nth % (every * FSCK_EVERY) == 0:
            require_sound(store)
        if nth % every == 0:
            _require_recovery(store, place, found)
        if nth % (every * WORK_EVERY) == 0:
            _require_work(store, found, nth)
            store.close()
            store = keepstone.open(place, create=False)
            _require_same(store, found)
    finally:
        store.close()
    return found


def _opened(place: Path, promises: Promises, crash: Crash) -> Store:
    try:
        return keepstone.open(place, create=False)
    except StoreNotFoundError:
        assert promises.created > crash.prefix, "the store is gone"
        return keepstone.open(place)


def _facts(promises: Promises, nth: int) -> list[Fact]:
    """Return all facts that were changed, and some of the others by turns."""
    changed = [fact for fact, changes in promises.changes.items() if len(changes) > 1]
    others = [fact for fact, changes in promises.changes.items() if len(changes) == 1]
    if not changed:
        return others
    return changed + [others[(nth + i) % len(others)] for i in range(min(2, len(others)))]


def _require_recovery(store: Store, place: Path, found: dict[Fact, Any]) -> None:
    report = store.recover()
    assert report.damaged == (), f"damaged: {report.damaged}"
    assert report.strangers == (), f"not published: {report.strangers}"
    again = store.recover()
    assert (again.journals, again.entries, again.swept) == (0, 0, 0), again
    left = _names(place / "journals")
    assert not [name for name in left if name != ".sealer"], left
    _require_same(store, found)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _require_work(store: Store, found: dict[Fact, Any], nth: int) -> None:
    """Go on with the store: what comes now must not disturb what was found, and must be there."""
    version = store.save("after the crash", {"nth": nth})
    assert version.created_new
    after = store.collection("after")
    after["crash"] = nth
    for fact in found:
        if fact.kind == "item":
            # Whatever was found, what is set now wins.
            handle = store.collection(fact.name)
            handle[fact.key] = "new"
            assert handle[fact.key] == "new"
            if found[fact] == "absent":
                del handle[fact.key]
            else:
                handle[fact.key] = found[fact]
            exists = Fact("exists", fact.name)
            if exists in found:
                found[exists] = True
    store.flush()
    require_sound(store, read_data=True)
    assert store.load("after the crash") == {"nth": nth}
    assert after["crash"] == nth
    _require_same(store, found)


def require_sound(store: Store, *, read_data: bool = False) -> None:
    """Require that nothing is damaged; litter and torn ends of journals may be found."""
    report = store.fsck(read_data=read_data)
    assert report.ok, report.damage


def _require_same(store: Store, found: dict[Fact, Any]) -> None:
    for fact, value in observe(store, list(found)).items():
        assert _equal(value, found[fact]), f"{fact}: was {_short(found[fact])}, then {_short(value)}"


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:80]}… ({len(text)})"
