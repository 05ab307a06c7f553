"""The operations whose every request is made to fail, and the stores that they work on: in a bucket, and beside it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.faults.bucket_place import HERE, Place
from tests.faults.failing_calls import View, view
from tests.faults.failing_requests import Operation
from tests.faults.sweep_operations import begin, change_much, put, stats

import keepstone
from keepstone.api import Store
from keepstone.blobs.pack import PackBuilder
from keepstone.foundation.format import Origin
from keepstone.repository.pack_writing import write_pack

MEDIUM: Final = random.Random(1).randbytes(400_000)
"""More than rides inside of a commit."""
LARGE: Final = random.Random(2).randbytes(17 << 20)
"""More than one request uploads."""
SEVERAL_PACKS: Final = (
    ("keepstone.repository.sealing.JOURNAL_BYTES_TARGET", 2_000),
    ("keepstone.repository.sealing.INLINE_BYTES_MAX", 500),
)
SMALL_PACKS: Final = (
    ("keepstone.operations.sync_outbox.NEW_PACK_BYTES", 300),
    ("keepstone.operations.sync_outbox._RIDE_BYTES_MAX", 200),
    ("keepstone.operations.sync.NOTE_BYTES_MIN", 1_000),
)
"""A sync takes several packs, and notes that it has begun."""
LOCK: Final = "keepstone.lock"


def fill(place: Path, work: Place) -> dict[str, bytes]:
    """Make what each run begins with on this machine, below `place`; return what the bucket holds then.

    Some of everything, and what a program that is gone had acknowledged and not published.
    """
    here = place / HERE
    work.begin_on(here)
    with keepstone.open(here / "local") as local:
        local.save("model", {"from": "here"}, aliases=["prod"])
        local.save("blob", MEDIUM[::-1])
        local.save("text", "some words " * 400)
        local.collection("items", durability="store").update({f"here {n}": [n] * 20 for n in range(50)})
    with keepstone.open(work.url, create=True) as store:
        store.save("model", {"old": 0}, aliases=["prod"])
        store.save("model", "second", metadata={"accuracy": 0.5})
        store.save("doomed", 1)
        store.save("doomed", MEDIUM)
        store.collection("items", durability="store").update({"at store": 1, "twice": "old", "at disk": 2})
        store.collection("items").snapshot()
        store.pin(["model", "doomed@v2"], here / LOCK)
        upload_a_pack(store)
        store.flush()
        for key in ("dead", "twice"):
            store.collection("items", durability="disk")[key] = "acknowledged"
        # As it is found after a kill: before `close` publishes it.
        objects = work.objects()
        shutil.copytree(here, place / "as it was")
    shutil.rmtree(here)
    (place / "as it was").rename(here)
    return objects


def upload_a_pack(store: Store) -> None:
    """Leave a pack as one who was killed between uploading and publishing: of nothing new, so it is never missed."""
    builder = PackBuilder(Origin.SAVE)
    builder.add_many([])
    session = store.repository.session
    pack = builder.finish()
    write_pack(session, pack, session.log.state.length)


def put_and_flush(store: Store) -> None:
    items = store.collection("items", durability="process")
    for n in range(20):
        items[f"new {n}"] = f"{n}" * 600
    store.flush()


def save_large(store: Store) -> int:
    return store.save("large", LARGE).number


def loaded(store: Store) -> object:
    items = store.collection("items")
    return (
        store.load("model@v1"),
        store.load("doomed@v2") == MEDIUM,
        dict(items),
        store.aliases("model"),
        [version.number for version in store.versions("model")],
    )


def asked(store: Store) -> object:
    items = store.collection("items")
    return (
        items["at store"],
        items.get("absent"),
        "at disk" in items,
        len(items),
        dict(store.collection("items@v1")),
    )


def beside_of(store: Store, name: str) -> Path:
    """A path of this machine beside its local store."""
    return Path(store.location).parent / name


def cloned_to() -> Path:
    """Where this machine clones to."""
    return Path(os.environ["KEEPSTONE_CACHE"]).parent / "clone"


def clone(url: str) -> Callable[[Store], object]:
    def act(store: Store) -> object:
        keepstone.clone(url, cloned_to())
        return "cloned"

    return act


def pull_into_clone(url: str) -> Callable[[Store], object]:
    def act(store: Store) -> object:
        if not (cloned_to() / "store.json").exists():
            return clone(url)(store)
        with keepstone.open(cloned_to()) as copy:
            copy.pull(url)
        return "cloned"

    return act


def seen_in_clone(store: Store) -> View:
    if not (cloned_to() / "store.json").exists():
        return {}
    with keepstone.open(cloned_to(), mode="r") as copy:
        return {("clone", *what): fact for what, fact in view(copy).items()}


def lock_beside(store: Store) -> bool:
    return store.pin(["model"], cloned_to().parent / "new.lock").protected


def summary(report: Any) -> object:
    return [(way.way, way.commit is not None) for way in report.changes] if report is not None else None


def operations(url: str) -> list[Operation]:
    """Return every operation on the store in a bucket at `url`, or between it and the one beside it."""
    return [
        # ---- opening and reading
        Operation("open new", lambda s: s.names(), opens=True, fresh=True),
        Operation("open cold", lambda s: sorted(s.names()), opens=True, cold=True),
        Operation("open warm", lambda s: sorted(s.names()), opens=True),
        Operation("load cold", loaded, opens=True, cold=True, mode="r", reads=True),
        Operation("load warm", loaded, opens=True, mode="r", reads=True),
        Operation("read items", asked, begin, reads=True, cold=True),
        Operation("stats", stats, reads=True, mode="r"),
        Operation("fsck", lambda s: s.fsck(read_data=True).ok, reads=True, mode="r"),
        Operation("recover", lambda s: s.recover() and None, begin),
        # ---- saving and naming
        Operation("save small", lambda s: s.save("model", {"new": 1}).number, begin),
        Operation("save medium", lambda s: s.save("model", MEDIUM[::-1], aliases=["new"]).number),
        Operation("save large", save_large),
        Operation("alias", lambda s: s.alias("model@v2", "prod").number),
        Operation("remove a name", lambda s: s.remove("doomed") and None),
        Operation("transaction", change_much, begin),
        Operation("snapshot", lambda s: s.collection("items").snapshot(aliases=["kept"]).number, begin),
        # ---- items
        Operation("put", put("disk"), begin),
        Operation("put at store", put("store"), begin),
        Operation("put and flush", put_and_flush, atomic=False),
        Operation("flush several packs", lambda s: s.flush(), put_several, thresholds=SEVERAL_PACKS),
        Operation("delete and flush", delete_and_flush, begin, atomic=False),
        Operation("close", lambda s: s.close(), begin),
        # ---- between two stores
        Operation("push", lambda s: summary(s.push(url)), local=True),
        Operation("push in packs", lambda s: summary(s.push(url)), local=True, thresholds=SMALL_PACKS),
        Operation("push again", lambda s: summary(s.push(url)), push_and_save(url), local=True),
        Operation("push to a new store", lambda s: summary(s.push(url, create=True)), local=True, fresh=True),
        Operation("pull", lambda s: summary(s.pull(url)), local=True, cold=True),
        Operation(
            "pull in packs", lambda s: summary(s.pull(url)), local=True, cold=True, thresholds=SMALL_PACKS
        ),
        Operation("sync", lambda s: summary(s.sync(url)), local=True, atomic=False),
        Operation(
            "clone", clone(url), local=True, cold=True, again=pull_into_clone(url), beside=seen_in_clone
        ),
        Operation("restore", lambda s: s.restore(beside_of(s, LOCK)) and None, local=True, cold=True),
    ]


def put_several(store: Store) -> None:
    items = store.collection("items", durability="process")
    for n in range(8):
        items[f"several {n}"] = random.Random(n).randbytes(600).hex()


def delete_and_flush(store: Store) -> None:
    items = store.collection("items")
    if "at disk" in items:
        del items["at disk"]
    store.flush()


def push_and_save(url: str) -> Callable[[Store], None]:
    def setup(store: Store) -> None:
        store.push(url)
        store.save("model", {"from": "here", "n": 2})
        store.collection("items")["one more"] = 1
        store.flush()

    return setup
