"""The operations whose every system call is made to fail, and the store that they work on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.failing_calls import FOLDER_KEY, Operation

import keepstone
from keepstone.api import Store
from keepstone.operations.verify import verify_bundle
from keepstone.repository.merging import merge
from keepstone.workflows.record import Record
from keepstone.workflows.results import Results

LARGE = random.Random(1).randbytes(300_000)
"""More than rides inside of a commit."""
EARLY = (
    ("keepstone.history.checkpoint.COMMITS_MIN", 2),
    ("keepstone.history.checkpoint.BYTES_FRACTION", 10**6),
)
WITH_CATALOG = (("keepstone.repository.entries.CATALOG_ENTRIES_MIN", 1),)
LOCK, BUNDLE = "keepstone.lock", "bundle"
MISTAKE = "to be taken back"
SMALL_PACKS = 2


def fill(place: Path, source: Path) -> None:
    """Make the store that each run begins with: some of everything, published, in a dead journal, and removed."""
    (source / "sub").mkdir(parents=True)
    (source / "a.txt").write_text("first")
    (source / "sub" / "b.bin").write_bytes(b"\0\1")
    with keepstone.open(place) as store:
        store.save("model", {"old": 0}, aliases=["prod"])
        store.save("model", "second", metadata={"accuracy": 0.5})
        store.save("doomed", 1)
        store.save("doomed", LARGE)
        store.collection("items", durability="store").update({"at store": 1, "twice": "old", "at disk": 2})
        for n in range(SMALL_PACKS):
            store.collection("many", durability="store")[f"{n}"] = n
        Results(store, "answers", {"model": "m"}).add(record("q1"))
        store.pin(["model", "doomed@v2"], source.parent / LOCK)
        store.bundle(source.parent / LOCK, source.parent / BUNDLE)
        items = store.collection("items", durability="process")
        items["dead"] = 3
        del items["at store"]
        items["at store"] = "again"


def record(key: str, **facts: Any) -> Record:
    """A record that is the same in every run."""
    return Record(key=key, input=key, output=key.upper(), created="2026-01-01T00:00:00.000Z", **facts)


def begin(store: Store) -> None:
    """Acknowledge items in this process's own journal."""
    store.collection("items", durability="process")["mine"] = "own"
    store.collection("items", durability="disk")["twice"] = "new"


def put(durability: Any, key: str = "new", value: object = "x" * 500) -> Callable[[Store], None]:
    def act(store: Store) -> None:
        store.collection("items", durability=durability)[key] = value

    return act


def delete(store: Store) -> None:
    del store.collection("items")["at disk"]


def many(store: Store) -> int:
    return store.collection("items").add_many((f"m{n}", n) for n in range(50))


def small_journals(store: Store) -> None:
    """So many journals wait that the next put that fills one has to seal them itself."""
    spool = store.repository.session.spool
    items = store.collection("items", durability="process")
    for n in range(4):
        items[f"full {n}"] = n
        spool.finish()
    spool.journal_bytes = 2_000
    spool.refresh()


def rotate(store: Store) -> None:
    store.collection("items", durability="process")["new"] = "x" * 3_000


def finished(store: Store) -> None:
    begin(store)
    store.repository.session.spool.finish()


def seal(store: Store) -> int:
    return store.repository.sealer.seal(0.0).journals >= 0


def merge_packs(store: Store) -> bool:
    merge(store.repository.session, packs_min=SMALL_PACKS)
    return True


def removed(store: Store) -> None:
    store.remove("doomed")


def bundle(store: Store, lock: Path) -> None:
    store.bundle(lock, beside_of(store, BUNDLE), replace=True)


def read_snapshot(store: Store) -> object:
    items = store.collection("items@v1")
    return dict(items), len(items), "absent" in items


def loaded(store: Store) -> object:
    return store.load("model@v1"), store.load("doomed@v2") == LARGE


def asked(store: Store) -> object:
    items = store.collection("items")
    found = items["dead"], items.get("absent", "none"), "twice" in items, len(items)
    return found, list(items.missing(["dead", "absent"])), sorted(items), items.digest_of("dead")


def named(store: Store) -> object:
    return (
        store.names(),
        [version.number for version in store.versions("model")],
        store.resolve("model@prod").number,
        store.aliases("model"),
        store.exists("model@v9"),
        store.kind("items"),
        [version.name for version in store.find("mo")],
        len(list(store.history("model"))),
    )


def stats(store: Store) -> object:
    found = store.stats()
    return found.artifacts, found.versions, found.entries, found.commits, found.packs


def add_record(store: Store) -> None:
    results = Results(store, "answers", {"model": "m"})
    results.add(record("q2"))
    results.add(record("q3", error="no answer"))


def run_function(store: Store) -> int:
    results = Results(store, "fresh", {"model": "m"})
    report = results.run(
        lambda item: item["question"].upper(), [{"question": "a"}, {"question": "b"}], workers=1
    )
    return report.failed


def summary(store: Store) -> object:
    results = Results(store, "answers")
    return results.summary().count, sorted(results), results["q1"].output, results.config, len(results.failed)


def change_much(store: Store) -> None:
    with store.transaction(message="both or none") as change:
        assert change.load("model@v1") == {"old": 0}
        change.save("model", LARGE[:200_000])
        change.save("other", "new", aliases=["first"])
        change.alias("model@v1", "prod")
        change.remove("doomed@v1")


def undo(store: Store) -> None:
    store.undo(next(entry for entry in store.history() if entry.message == MISTAKE))


def beside_of(store: Store, name: str) -> str:
    """A path beside the store, of this run alone."""
    return f"{store.location}.{name}"


def pin_beside(store: Store) -> bool:
    return store.pin(["model"], beside_of(store, LOCK)).protected


def pinned(store: Store) -> object:
    path = beside_of(store, LOCK)
    return store.verify(path).ok if os.path.exists(path) else None


def bundled(store: Store) -> object:
    path = beside_of(store, BUNDLE)
    return verify_bundle(path).ok if os.path.exists(path) else None


def fold(store: Store) -> None:
    store.repository.session.entries.fold(lambda: False)


def operations(source: Path) -> list[Operation]:
    """Return every operation; `source` is a folder to save."""
    return [
        Operation("open new", lambda s: s.names(), opens=True, fresh=True),
        Operation("open existing", lambda s: s.names(), opens=True),
        Operation("open read-only", lambda s: s.load("model@prod"), opens=True, mode="r", reads=True),
        Operation("save small", lambda s: s.save("model", {"new": 1}).number, begin),
        Operation("save large", lambda s: s.save("model", LARGE[::-1], aliases=["new"]).number, begin),
        Operation("save folder", lambda s: s.save("tree", source).number),
        Operation("save file", lambda s: s.save("file", source / "a.txt").number),
        Operation("load", loaded, mode="r", reads=True),
        Operation("names and versions", named, reads=True),
        Operation("diff", lambda s: str(s.diff("model@v1", "model@v2")), reads=True),
        Operation("alias", lambda s: s.alias("model@v2", "prod").number, begin),
        Operation("unalias", lambda s: s.unalias("model", "prod")),
        Operation("remove a version", lambda s: s.remove("doomed@v1") and None),
        Operation("remove a name", lambda s: s.remove("doomed") and None),
        Operation("remove a collection", lambda s: s.remove("items") and None, begin, atomic=False),
        Operation("first put at process", put("process")),
        Operation("put at process", put("process"), begin),
        Operation("put at disk", put("disk"), begin),
        Operation("put at store", put("store"), begin),
        Operation("put what makes parts", put("disk", FOLDER_KEY, source), begin),
        Operation(
            "put into a new collection", lambda s: s.collection("other").update(new=1), begin, atomic=False
        ),
        Operation("delete", delete, begin),
        Operation("add many", many, begin, atomic=False),
        Operation("clear", lambda s: s.collection("items").clear(), begin, atomic=False),
        Operation("get and iterate", asked, begin, reads=True),
        Operation("flush", lambda s: s.flush(), begin),
        Operation("rotate", rotate, small_journals),
        Operation("seal", seal, finished),
        Operation("merge", merge_packs, begin),
        Operation("recover", lambda s: s.recover() and None, begin),
        Operation("fsck", lambda s: s.fsck(read_data=True) and None, begin, reads=True),
        Operation("stats", stats, begin, reads=True),
        Operation("transaction", change_much, begin),
        Operation("undo a save", undo, lambda s: s.save("model", 3, message=MISTAKE)),
        Operation("undo a removal", undo, lambda s: s.remove("doomed", message=MISTAKE)),
        Operation("snapshot", lambda s: s.collection("items").snapshot(aliases=["kept"]).number, begin),
        Operation("read a snapshot", read_snapshot, lambda s: s.collection("items").snapshot(), reads=True),
        Operation(
            "pin",
            lambda s: s.pin(["model"], beside_of(s, LOCK)).protected,
            begin,
            beside=pinned,
            compensates=True,
        ),
        Operation("unpin", lambda s: s.unpin(beside_of(s, LOCK)) and None, pin_beside),
        Operation("pins", lambda s: len(s.pins()), reads=True),
        Operation("verify", lambda s: s.verify(source.parent / LOCK).ok, reads=True),
        Operation("bundle", lambda s: bundle(s, source.parent / LOCK), begin, beside=bundled),
        Operation("restore from a bundle", lambda s: s.restore(source.parent / BUNDLE) and None, fresh=True),
        Operation("restore from a store", lambda s: s.restore(source.parent / LOCK) and None, fresh=True),
        Operation("save with a checkpoint", lambda s: s.save("model", {"new": 1}).number, thresholds=EARLY),
        Operation("open by a checkpoint", lambda s: s.names(), opens=True, thresholds=EARLY),
        Operation("fold", fold, thresholds=WITH_CATALOG),
        Operation("close", lambda s: s.close(), begin),
        Operation("results: add", add_record, atomic=False),
        Operation("results: run", run_function, atomic=False),
        Operation("results: read", summary, reads=True),
    ]
