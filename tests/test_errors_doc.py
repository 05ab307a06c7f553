"""docs/errors.md: every row of its tables is provoked, and gives the class and the message that stand there."""

from __future__ import annotations

import datetime
import errno
import inspect
import json
import os
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import (
    InvalidInputError,
    KeepstoneError,
    NotFoundError,
    StorageFullError,
    UnsupportedFormatError,
)
from keepstone.history.checkpoint import Checkpoints
from keepstone.history.commit import Draft, RefChange
from keepstone.history.validate import horizon_value
from keepstone.repository.collection import Collection
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.repository import Repository
from keepstone.storage.local import LocalStorage

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
WORKS: Final = "–"


class Row(NamedTuple):
    """One row of the page."""

    input: str
    error: str
    message: str


def rows() -> Iterator[Row]:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[1] != "class":
            yield Row(cells[0], cells[1], cells[2].rstrip("|").strip())


@dataclass
class Answer:
    """A class that no stored value of these tests fits."""

    text: str


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
        return next(path for path in (self.path / "packs").rglob("0*") if path.stat().st_size > 300_000)

    def close(self) -> None:
        for store in self._opened:
            store.close()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def pickled(place: Place) -> object:
    place.save({1, 2}, serializer="pickle")
    return place.open().load("value")


def interrupted(error: BaseException) -> Callable[[Place], object]:
    def provoke(place: Place) -> object:
        def pairs() -> Iterator[tuple[str, int]]:
            yield "kept", 1
            raise error

        try:
            return place.collection.add_many(pairs())
        finally:
            assert place.collection["kept"] == 1
            del place.collection["kept"]

    return provoke


def in_transaction(place: Place, work: Callable[[keepstone.Transaction], object]) -> object:
    with place.open().transaction() as change:
        return work(change)


def disturbed(name: str) -> Callable[[Place], object]:
    def provoke(place: Place) -> object:
        def work(change: keepstone.Transaction) -> None:
            change.exists(name)
            change.save("result", 1)
            place.save_as(name)

        return in_transaction(place, work)

    return provoke


def rested_upon(place: Place) -> object:
    store = place.open()
    store.alias("a", "more")
    return store.undo(1)


def sealing_commit(place: Place) -> object:
    store = place.open()
    store.flush()
    return store.undo(4)


def ended_transaction(place: Place) -> object:
    with place.open().transaction() as change:
        pass
    return change.load("a")


def early_number(place: Place) -> object:
    return in_transaction(place, lambda change: change.save("b", 1).number)


def foreign_folder(place: Place) -> object:
    (place.folder / "other").mkdir()
    (place.folder / "other" / "notes.txt").write_text("mine")
    return keepstone.open(place.folder / "other")


def file_as_store(place: Place) -> object:
    (place.folder / "file").write_text("mine")
    return keepstone.open(place.folder / "file")


def forbidden_folder(place: Place) -> object:
    folder = place.folder / "forbidden"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    return keepstone.open(folder / "store")


def closed(place: Place) -> object:
    store = keepstone.open(place.path)
    store.close()
    return store.load("a")


def removed_version(place: Place) -> object:
    place.open().remove("a@v1")
    return place.open().load("a@v1")


def quoted(place: Place) -> object:
    text = "a/../b@c\0:\ud800" + "%"
    name = keepstone.quote(text)
    assert keepstone.unquote(name) == text
    return place.open().save(name, 1)


def cases_apart(place: Place) -> object:
    place.open().save("Twin", 1)
    place.open().save("twin", 2)
    assert (place.open().load("Twin"), place.open().load("twin")) == (1, 2)


def odd_key(place: Place) -> object:
    key = "a/../b@c\0\n"
    place.collection[key] = 1
    assert place.collection[key] == 1


def large_number(place: Place) -> object:
    place.save(2**70)
    assert place.open().load("value") == 2**70


def damaged(harm: Callable[[Place], object]) -> Callable[[Place], object]:
    def provoke(place: Place) -> object:
        harm(place)
        return place.read_all()

    return provoke


def newer_store(place: Place) -> None:
    path = place.path / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))


def newer_commit(place: Place) -> None:
    data = bytearray(place.slot(1).read_bytes())
    data[4] = 2
    data[72:76] = struct.pack("<I", zlib.crc32(data[:72]))
    place.slot(1).write_bytes(data)


def gap(place: Place) -> object:
    place.slot(1).unlink()
    return place.save(1)


def foreign_commit(place: Place) -> None:
    other = make_store(place.folder / "other")
    place.slot(1).write_bytes((other / "log" / place.slot(1).name).read_bytes())


def cut_pack(place: Place) -> None:
    place.pack().write_bytes(place.pack().read_bytes()[:1000])


def torn_journal(place: Place) -> object:
    with keepstone.open(place.path) as store:
        answers = store.collection("c", durability="process")
        answers["first"] = "whole"
        answers["torn"] = "torn"
    last = max((place.path / "journals").glob("[!.]*"), key=lambda path: path.stat().st_mtime_ns)
    last.write_bytes(last.read_bytes()[:-10])
    items = place.read_all()[3]
    assert items["first"] == "whole"
    assert "torn" not in items


def with_checkpoint(place: Place) -> tuple[Path, tuple[Any, ...]]:
    before = place.read_all()
    store = place.open()
    log = store.repository.session.log
    Checkpoints(store.repository.session.storage, log._slots).write(log.state)
    place.close()
    return next((place.path / "checkpoints").glob("0*")), before


def flipped_checkpoint(place: Place) -> object:
    path, before = with_checkpoint(place)
    flip(path, path.stat().st_size // 2)
    assert place.read_all() == before


def garbage_last(place: Place) -> object:
    _, before = with_checkpoint(place)
    (place.path / "checkpoints" / "LAST").write_bytes(b"garbage")
    assert place.read_all() == before


def no_caches(place: Place) -> object:
    _, before = with_checkpoint(place)
    shutil.rmtree(place.path / "checkpoints")
    shutil.rmtree(place.path / "cache", ignore_errors=True)
    assert place.read_all() == before


def faulty(
    code: int, only: tuple[str, ...], act: Callable[[Repository], object]
) -> Callable[[Place], object]:
    """Do `act` on a medium whose calls fail from the first matching one on; what was there must still be there."""

    def provoke(place: Place) -> object:
        before = place.read_all()
        calls = FaultyCalls(only=only, fail_at=1, error=code, forever=True)
        repository = open_repository(LocalStorage(place.path, calls=calls), create=False, writable=True)
        try:
            return act(repository)
        finally:
            try:
                close_repository(repository)
            except KeepstoneError:
                pass
            assert place.read_all() == before

    return provoke


def set_item(repository: Repository) -> None:
    Collection[Any](repository, "c", None, "disk")["new"] = 1


def save_version(repository: Repository) -> None:
    repository.save("new", 1)


def clock_back(place: Place) -> object:
    store = place.open()
    clock = store.repository.session.clock
    store.collection("c")["k"] = "before"
    real, clock.now_ns = clock.now_ns, lambda: 0
    store.collection("c")["k"] = "after"
    store.save("a", "later")
    clock.now_ns = real
    assert store.collection("c")["k"] == "after"
    assert store.load("a") == "later"


def before_horizon(place: Place) -> object:
    store = place.open()
    log, tip = store.repository.session.log, store.repository.session.log.state.number
    value = horizon_value(store.repository.session.clock.stamp() + 1)
    log.append(lambda state: Draft(refs=(RefChange(":horizon/c", None, value),)))
    return store.at(tip).collection("c")


def forked(place: Place) -> object:
    answers = place.collection
    answers["parent"] = 1
    child = os.fork()
    if not child:
        try:
            answers["child"] = answers["parent"] + 1
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    answers["parent"] = 3
    assert (answers["child"], answers["parent"]) == (2, 3)


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


def bundle_of(place: Place, offset: int | None, cut: int | None = None) -> object:
    path = place.folder / "x.bundle"
    place.open("r").bundle(lock_of(place), path)
    if offset is not None:
        flip(path, offset)
    path.write_bytes(path.read_bytes()[:cut])
    return other_store(place).restore(path)


PROVOKED: Final[dict[str, Callable[[Place], object]]] = {
    "name `..`": lambda p: p.open().save("..", 1),
    "name `a/../b`": lambda p: p.open().save("a/../b", 1),
    "name `a//b`": lambda p: p.open().save("a//b", 1),
    "empty name": lambda p: p.open().save("", 1),
    "name with a NUL": lambda p: p.open().save("a\0b", 1),
    "name with a bidi override": lambda p: p.open().save("a\u202eb", 1),
    "name with a lone surrogate": lambda p: p.open().save("a\ud800", 1),
    "name of 4,000 characters": lambda p: p.open().save("x" * 4000, 1),
    "name `a@b`": lambda p: p.open().save("a@b", 1),
    "name `:x`": lambda p: p.open().save(":x", 1),
    "name in decomposed Unicode": lambda p: p.open().save("e\u0301", 1),
    "a number as a name": lambda p: p.open().save(3, 1),  # type: ignore[arg-type]
    "a name that is an emoji": lambda p: p.open().save("🎉", 1),
    "names that differ in case only": cases_apart,
    "any text, through `keepstone.quote`": quoted,
    "a number as a key": lambda p: p.collection[3],  # type: ignore[index]
    "key of 5,000 characters": lambda p: p.collection.update({"x" * 5000: 1}),
    "key with a lone surrogate": lambda p: p.collection.update({"\ud800": 1}),
    "key with `/`, `@`, NUL and newline": odd_key,
    "key that is not there": lambda p: p.collection["z"],
    "alias `Prod`": lambda p: p.open().alias("a", "Prod"),
    "alias `latest`": lambda p: p.open().alias("a", "latest"),
    "alias `v3`": lambda p: p.open().alias("a", "v3"),
    "selector `a@`": lambda p: p.open().load("a@"),
    "selector `a@v0`": lambda p: p.open().load("a@v0"),
    "selector `a@2026-13-01`": lambda p: p.open().load("a@2026-13-01"),
    "a date before the first save": lambda p: p.open().load("a@2001-01-01"),
    "a name that does not exist": lambda p: p.open().load("b"),
    "a version that does not exist": lambda p: p.open().load("a@v9"),
    "a version that was removed": removed_version,
    "an alias that does not exist": lambda p: p.open().load("a@x"),
    "a collection where an artifact is meant": lambda p: p.open().save("c", 1),
    "an artifact where a collection is meant": lambda p: p.open().collection("a"),
    "an artifact's version where a collection is meant": lambda p: p.open().collection("a@v1"),
    "a snapshot that was never taken": lambda p: p.open().collection("c@v1"),
    "a snapshot of a collection that does not exist": lambda p: p.open().collection("d").snapshot(),
    "setting an item of a snapshot": lambda p: p.collection.snapshot().items().update({"k": 2}),
    "the files of a snapshot": lambda p: p.collection.snapshot().open(),
    '`at("yesterday")`': lambda p: p.open().at("yesterday"),
    "`at` of a time without a zone": lambda p: p.open().at(datetime.datetime(2026, 11, 20)),
    "`at(2.5)`": lambda p: p.open().at(2.5),  # type: ignore[arg-type]
    "`at` of a commit that is not there yet": lambda p: p.open().at(99),
    "a name in a past that did not have it": lambda p: p.open().at(1).load("large"),
    "a collection in a past that did not have it": lambda p: p.open().at("2001-01-01").collection("c"),
    "saving to the past": lambda p: p.open().at(1).save("a", 3),
    "what a collection held before its horizon": before_horizon,
    "`expected=None` for a name that exists": lambda p: p.open().save("a", 3, expected=None),
    "`expected=` of an alias that moved": lambda p: p.open().alias("a@v1", "prod", expected="a@v1"),
    "removing a version that an alias means": lambda p: p.open().remove("a@v2"),
    "a name that a transaction read has moved": disturbed("a"),
    "a name that a transaction missed was saved": disturbed("b"),
    "undoing a commit whose name has moved since": lambda p: p.open().undo(0),
    "undoing a commit that an alias rests on": rested_upon,
    "undoing a commit that changed no names": sealing_commit,
    "undoing the making of a collection": lambda p: p.open().undo(3),
    "undoing a commit that does not exist": lambda p: p.open().undo(99),
    "a transaction outside of its block": ended_transaction,
    "the number of a version before its transaction ends": early_number,
    "removing a collection in a transaction": lambda p: in_transaction(p, lambda change: change.remove("c")),
    "a store that is a file": file_as_store,
    "a folder that holds something else": foreign_folder,
    "a folder without permission": forbidden_folder,
    "no store, and `create=False`": lambda p: keepstone.open(p.folder / "none", create=False),
    'no store, and `mode="r"`': lambda p: keepstone.open(p.folder / "none", mode="r"),
    "`s3://bucket/team`": lambda p: keepstone.open("s3://bucket/team"),
    "`ftp://host/path`": lambda p: keepstone.open("ftp://host/path"),
    "an empty location": lambda p: keepstone.open(""),
    'saving to a store opened with `mode="r"`': lambda p: p.open("r").save("a", 1),
    'setting an item in a store opened with `mode="r"`': lambda p: (
        p.open("r").collection("c").update({"k": 2})
    ),
    "using a store that was closed": closed,
    "checking out to a folder that is not empty": lambda p: p.open().resolve("a").checkout(p.folder),
    "nan": lambda p: p.save({"a": [1.0, float("nan")]}),
    "infinity": lambda p: p.save(float("inf")),
    "a set": lambda p: p.save({"a": {1}}),
    "a list that contains itself": lambda p: p.save(endless()),
    "a dict with a number as key": lambda p: p.save({1: 2}),
    "an object of an unknown class": lambda p: p.save(object()),
    "an unknown object inside a list": lambda p: p.save([object()]),
    "text with a lone surrogate": lambda p: p.save("\ud800"),
    "a value nested 300 deep": lambda p: p.save(nested(300)),
    "a whole number above 64 bits": large_number,
    "a file that does not exist": lambda p: p.save(p.folder / "none"),
    "a set in metadata": lambda p: p.save(1, metadata={"a": {1}}),
    "metadata of 2 MB": lambda p: p.save(1, metadata={"a": "x" * 2_000_000}),
    "an unknown serializer": lambda p: p.save(1, serializer="nosuch"),
    "loading a pickle that was not allowed": pickled,
    "loading as a class that does not fit": lambda p: p.open().load("a", type=Answer),
    "an unknown object in a collection": lambda p: p.collection.update({"o": object()}),
    "a generator that raises half way in `add_many`": interrupted(RuntimeError("half way")),
    "Ctrl-C half way in `add_many`": interrupted(KeyboardInterrupt()),
    "`load(3)`": lambda p: p.open().load(3),  # type: ignore[arg-type]
    "`resolve(3)`": lambda p: p.open().resolve(3),  # type: ignore[arg-type]
    "`exists(3)`": lambda p: p.open().exists(3),  # type: ignore[arg-type]
    "`remove(3)`": lambda p: p.open().remove(3),  # type: ignore[arg-type]
    "`versions(3)`": lambda p: p.open().versions(3),  # type: ignore[arg-type]
    "`aliases(3)`": lambda p: p.open().aliases(3),  # type: ignore[arg-type]
    "`kind(3)`": lambda p: p.open().kind(3),  # type: ignore[arg-type]
    '`alias("a", 3)`': lambda p: p.open().alias("a", 3),  # type: ignore[arg-type]
    '`unalias(3, "x")`': lambda p: p.open().unalias(3, "x"),  # type: ignore[arg-type]
    "`collection(3)`": lambda p: p.open().collection(3),  # type: ignore[arg-type]
    '`collection("c", durability="fast")`': lambda p: p.open().collection("c", durability="fast"),  # type: ignore[arg-type]
    "`missing([3])`": lambda p: list(p.collection.missing([3])),  # type: ignore[list-item]
    '`save(..., parents="a")`': lambda p: p.save(1, parents="a"),
    '`save(..., aliases="prod")`': lambda p: p.save(1, aliases="prod"),
    '`open(b"x")`': lambda p: keepstone.open(b"x"),  # type: ignore[arg-type]
    '`open("s", mode="w")`': lambda p: p.open("w"),
    "`Results(store, 3)`": lambda p: keepstone.Results(p.open(), 3),  # type: ignore[arg-type]
    "`results.run(..., workers=0)`": lambda p: keepstone.Results(p.open(), "r").run(len, [], workers=0),
    '`Digest.parse("x")`': lambda p: keepstone.Digest.parse("x"),
    "a byte of `store.json` is flipped": damaged(lambda p: flip(p.path / "store.json", 60)),
    "`store.json` names a newer format": damaged(newer_store),
    "a byte of a commit is flipped": damaged(lambda p: flip(p.slot(1), 100)),
    "a commit of a newer format": damaged(newer_commit),
    "a commit in the middle is deleted, then one is made": gap,
    "a commit of another store in the log": damaged(foreign_commit),
    "a byte of a pack's content is flipped": damaged(lambda p: flip(p.pack(), 1000)),
    "a pack is cut short": damaged(cut_pack),
    "a pack is deleted": damaged(lambda p: p.pack().unlink()),
    "a journal's last item is torn": torn_journal,
    "a byte of a checkpoint is flipped": flipped_checkpoint,
    "`checkpoints/LAST` is garbage": garbage_last,
    "all caches and checkpoints are deleted": no_caches,
    '`pin("a")`': lambda p: p.open().pin("a", p.folder / "x.lock"),
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
    "bundling over a file that exists": lambda p: p.open().bundle(lock_of(p), own_file(p)),
    "a byte of a bundle's content is flipped": lambda p: bundle_of(p, 20),
    "a byte of a bundle's table is flipped": lambda p: bundle_of(p, -50),
    "a bundle that is cut short": lambda p: bundle_of(p, None, -1),
    "the disk is full while an item is set": faulty(errno.ENOSPC, ("write",), set_item),
    "the disk is full while a version is saved": faulty(errno.ENOSPC, ("write",), save_version),
    "writing fails with EIO": faulty(errno.EIO, ("write",), save_version),
    "syncing fails with EIO": faulty(errno.EIO, ("fsync", "fdatasync"), save_version),
    "a clock that goes backwards": clock_back,
    "a fork after a store was opened": forked,
}
ROWS: Final = list(rows())
CHANGES_ON_PURPOSE: Final = {
    "a version that was removed",
    "loading a pickle that was not allowed",
    "a name that a transaction read has moved",
    "a name that a transaction missed was saved",
}


def make_store(path: Path) -> Path:
    with keepstone.open(path) as store:
        store.save("a", {"x": 1})
        store.save("a", {"x": 2}, aliases=["prod"])
        store.save("large", os.urandom(400_000))
        store.collection("c")["k"] = 1
    return path


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy: faster than making one for every row."""
    return make_store(tmp_path_factory.mktemp("original") / "store")


@pytest.fixture
def place(tmp_path: Path, original: Path) -> Iterator[Place]:
    place = Place(tmp_path, original)
    yield place
    place.close()


def test_the_page_and_the_provocations_name_the_same_rows() -> None:
    assert [row.input for row in ROWS] == list(dict.fromkeys(row.input for row in ROWS))
    assert {row.input for row in ROWS} == PROVOKED.keys()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.input)
def test_every_row_is_as_the_page_says(row: Row, place: Place) -> None:
    if row.error == WORKS:
        PROVOKED[row.input](place)
        return
    with pytest.raises(BaseException) as raised:
        PROVOKED[row.input](place)
    if raised.errisinstance(pytest.skip.Exception):
        raise raised.value

    assert raised.type.__name__ == row.error, raised.value
    pattern = ".*".join(re.escape(part) for part in row.message.split("..."))
    assert re.fullmatch(pattern, str(raised.value), re.DOTALL), str(raised.value)
    if isinstance(
        raised.value, InvalidInputError | NotFoundError | UnsupportedFormatError | StorageFullError
    ):
        assert raised.value.hint, "no hint says what to do"


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row.error
        not in (WORKS, "MalformedError", "UnsupportedFormatError", "DivergedError", "BlobNotFoundError")
        and row.input not in CHANGES_ON_PURPOSE
    ],
    ids=lambda row: row.input,
)
def test_what_is_refused_leaves_the_store_as_it_was(row: Row, place: Place) -> None:
    before = place.read_all(), place.open().names()
    place.close()
    with pytest.raises(BaseException):  # noqa: B017 - the class is compared above
        PROVOKED[row.input](place)

    assert (place.read_all(), place.open().names()) == before


def test_the_tree_of_errors_is_the_tree_of_classes() -> None:
    block = PAGE.split("```text\nKeepstoneError\n")[1].split("```")[0]
    listed = set(re.findall(r"[├└]── (\w+)", block)) | {"KeepstoneError"}
    module = sys.modules[InvalidInputError.__module__]
    known = {
        name
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, KeepstoneError)
    }

    assert listed == known
    for name, fields in re.findall(r"[├└]── (\w+)[^.\n]*((?:\.\w+ ?)*)$", block, re.MULTILINE):
        taken = inspect.signature(getattr(module, name)).parameters
        assert all(field.strip(".") in taken for field in fields.split()), name
