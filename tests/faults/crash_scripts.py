"""The work whose crash states are built: on an empty folder, and on stores with some history."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.crash_promises import ABSENT, Fact, Script
from tests.faults.recorded_calls import RecordedCalls

from keepstone.foundation.errors import StorageError

Base = Callable[[Script], None]
Work = Callable[[Script, RecordedCalls], None]


def text(size: int, seed: int = 0) -> str:
    """Return text that does not compress well."""
    return random.Random(seed).randbytes(size // 2).hex()


# ---- where it begins -------------------------------------------------------------------------------------------------


def nothing(script: Script) -> None:
    """There is no store."""


def history(script: Script) -> None:
    """A store with artifacts, an alias, a published collection, and a journal that nobody holds."""
    script.save("model", {"old": 1}, aliases=("prod",))
    script.save("model", {"old": 2})
    script.put("answers", {"a": text(700), "b": text(900, 1), "c": 3})
    script.flush()
    script.put("answers", {"d": text(700, 3), "a": "a second time"})
    script.delete("answers", "c")


def large(script: Script) -> None:
    """A store that holds a large blob in pieces, and a folder."""
    history(script)
    script.save("weights", random.Random(2).randbytes(1_200_000))
    script.save("tree", _folder(script.place.parent.parent / "tree", 3))


def crowded(script: Script) -> None:
    """Fifteen packs of one size."""
    for i in range(15):
        script.put("answers", {f"{i}": text(600, i)})
        script.flush()


def _folder(path: Path, files: int) -> Path:
    path.mkdir(exist_ok=True)
    for i in range(files):
        (path / f"{i}.txt").write_text(text(500, i))
    return path


# ---- work of one process ---------------------------------------------------------------------------------------------


def create(script: Script, calls: RecordedCalls) -> None:
    script.create()
    script.save("model", {"new": 1})
    script.close()


def create_and_put(script: Script, calls: RecordedCalls) -> None:
    script.create()
    script.put("answers", {"first": text(1_500)})
    script.put("answers", {"second": text(600, 1)}, "store")


def save_small(script: Script, calls: RecordedCalls) -> None:
    script.save("model", {"new": text(1_000)}, aliases=("prod", "best"))
    script.save("other", "text")


def save_a_pack(script: Script, calls: RecordedCalls) -> None:
    script.save("model", text(400_000))


def save_large(script: Script, calls: RecordedCalls) -> None:
    script.save("large", random.Random(4).randbytes(1_100_000))


def save_folder(script: Script, calls: RecordedCalls) -> None:
    script.save("tree", _folder(script.place.parent.parent / "tree", 5))


def save_again(script: Script, calls: RecordedCalls) -> None:
    for i in range(3):
        script.save("model", {"again": i})
    script.save("model", {"again": 2}, number=5)


def transact(script: Script, calls: RecordedCalls) -> None:
    script.transact({"model": text(300_000), "other": {"in one": "commit"}})
    script.transact({"model": text(900, 1), "other": text(900, 1)})


def aliases(script: Script, calls: RecordedCalls) -> None:
    script.alias("model", 2, "prod")
    script.alias("model", 1, "first")
    script.unalias("model", "prod")


def remove(script: Script, calls: RecordedCalls) -> None:
    script.remove("model", 2)
    script.save("model", {"new": 3}, number=3)
    script.remove("model")


def remove_collection(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {"e": text(700, 5)})
    script.remove_collection("answers")


def put_at_process(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {f"p{i}": text(500 + 300 * i, i) for i in range(4)}, "process")
    script.close()


def put_at_disk(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {f"d{i}": text(300 + 900 * i, i) for i in range(4)})
    script.put("answers", {"p": text(2_000)}, "process")
    script.put("new", {"d": text(6_000)})


def put_at_store(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {f"s{i}": text(900, i) for i in range(2)}, "store")


def put_by_threads(script: Script, calls: RecordedCalls) -> None:
    together = threading.Barrier(4)
    script.put("answers", {"t": 0})

    def work(number: int) -> None:
        together.wait()
        script.put("answers", {f"t{number}-{i}": text(400 + 500 * i, number) for i in range(2)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def put_many(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {f"m{i}": text(400, i) for i in range(12)}, at_once=True)


def put_parts(script: Script, calls: RecordedCalls) -> None:
    """A value that is made of parts is a commit of its own."""
    path = script.place.parent.parent / "part.txt"
    path.write_bytes(text(3_000).encode())
    script.put_file("answers", "file", path)


def overwrite_and_delete(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {"a": "newer", "d": text(800, 9)})
    script.delete("answers", "b")
    script.put("answers", {"a": "at process"}, "process")
    script.delete("answers", "a")
    script.put("answers", {"b": "back"})


def flush(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {f"f{i}": text(1_200, i) for i in range(3)}, "process")
    script.flush()
    script.put("answers", {"after": text(700)}, "process")


def rotate(script: Script, calls: RecordedCalls) -> None:
    spool = script.store.repository.session.spool
    spool.journal_bytes = 3_000
    script.put("answers", {"r": text(700)}, "process")
    script.store.repository.session.refresh()
    script.put("answers", {f"r{i}": text(1_300, i) for i in range(5)}, "process")
    script.put("answers", {"last": text(700)})


def adopt(script: Script, calls: RecordedCalls) -> None:
    script.recover()
    script.put("answers", {"d": "after it was adopted"})


def merge(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {"15": text(600, 15)})
    script.flush()


def close_much(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {f"c{i}": text(400_000, i) for i in range(3)}, "process")
    script.close()


def checkpoint(script: Script, calls: RecordedCalls) -> None:
    for i in range(5):
        script.save("model", {"n": i})


def full_disk(script: Script, calls: RecordedCalls) -> None:
    """A write is cut short, so the next one cuts off what was left of it."""
    script.put("answers", {"x": text(1_500)}, "process")
    calls.writes_until_full = 0
    with contextlib.suppress(StorageError):
        script.put("answers", {"lost": text(3_000, 1)})
    script.put("answers", {"y": text(1_100, 2)}, "process")
    script.put("answers", {"z": text(900, 3)})


def failing_sync(script: Script, calls: RecordedCalls) -> None:
    """A sync fails: what the journal holds is written to another one."""
    script.put("answers", {"x": text(1_500)}, "process")
    calls.failing_syncs = 1
    script.put("answers", {"y": text(1_100, 2)})
    script.put("answers", {"z": text(900, 3)})


def append_while_syncing(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {"x": text(1_500)}, "process")

    def meanwhile(call: str) -> None:
        if call == "fdatasync":
            script.put("answers", {"meanwhile": text(1_400, 1)}, "process")

    calls.before = meanwhile
    script.put("answers", {"y": text(1_100, 2)})
    calls.before = None
    script.put("answers", {"z": text(900, 3)}, "process")
    script.put("answers", {"z2": text(900, 3)})


def random_work(seed: int) -> Work:
    """Return work of many steps, drawn by `seed`."""

    def drawn(script: Script, calls: RecordedCalls) -> None:
        rng = random.Random(seed)
        script.store.repository.session.spool.journal_bytes = rng.choice((4_000, 1_000_000))
        for turn in range(rng.randrange(10, 20)):
            _STEPS[rng.choice([*_STEPS])](script, rng, turn)

    return drawn


def _put_drawn(script: Script, rng: random.Random, turn: int) -> None:
    keys = rng.sample("abcdefgh", rng.randrange(1, 4))
    items = {key: text(rng.choice((20, 500, 1_500, 5_000)), turn) for key in keys}
    script.put(
        rng.choice(("answers", "more")),
        items,
        rng.choice(("process", "disk", "store")),
        at_once=rng.random() < 0.3,
    )


def _delete_drawn(script: Script, rng: random.Random, turn: int) -> None:
    key = rng.choice("abcdefgh")
    if script.newest(Fact("item", "answers", key)) != ABSENT:
        script.delete("answers", key)


def _save_drawn(script: Script, rng: random.Random, turn: int) -> None:
    script.save(
        rng.choice(("model", "other")),
        text(rng.choice((100, 3_000, 300_000)), turn),
        aliases=rng.choice(((), ("x",))),
    )


_STEPS: dict[str, Callable[[Script, random.Random, int], None]] = {
    "put": _put_drawn,
    "put more": _put_drawn,
    "put again": _put_drawn,
    "delete": _delete_drawn,
    "save": _save_drawn,
    "flush": lambda script, rng, turn: script.flush(),
    "recover": lambda script, rng, turn: script.recover(),
    "reopen": lambda script, rng, turn: script.close(),
}


class Scenario(NamedTuple):
    """Work that is recorded, from where it begins."""

    base: Base
    work: Work
    share: float = 1
    """How many of the states are looked at every day: less where files are large."""


SCENARIOS = {
    "create": Scenario(nothing, create),
    "create and put": Scenario(nothing, create_and_put),
    "save small": Scenario(history, save_small),
    "save a pack": Scenario(history, save_a_pack),
    "save large": Scenario(large, save_large, 0.25),
    "save a folder": Scenario(large, save_folder, 0.25),
    "save again": Scenario(history, save_again),
    "transaction": Scenario(history, transact),
    "aliases": Scenario(history, aliases),
    "remove": Scenario(history, remove),
    "remove a collection": Scenario(history, remove_collection),
    "put at process": Scenario(history, put_at_process),
    "put at disk": Scenario(history, put_at_disk),
    "put at store": Scenario(history, put_at_store),
    "put by threads": Scenario(history, put_by_threads),
    "put many": Scenario(history, put_many),
    "put parts": Scenario(history, put_parts),
    "overwrite and delete": Scenario(history, overwrite_and_delete),
    "flush": Scenario(history, flush),
    "rotate": Scenario(history, rotate),
    "adopt": Scenario(history, adopt),
    "merge": Scenario(crowded, merge, 0.25),
    "close much": Scenario(history, close_much, 0.25),
    "checkpoint": Scenario(history, checkpoint),
    "full disk": Scenario(history, full_disk),
    "failing sync": Scenario(history, failing_sync),
    "append while syncing": Scenario(history, append_while_syncing),
}


# ---- work of two processes -------------------------------------------------------------------------------------------


def bare(script: Script) -> None:
    """A store with an empty collection, in which nobody has begun a journal yet."""
    script.create_collection("answers")


def save_shared(script: Script, calls: RecordedCalls) -> None:
    script.save("shared", "both save this", number=1)


def alias_shared(script: Script, calls: RecordedCalls) -> None:
    script.alias("model", 2, "prod")


def put_fresh(script: Script, calls: RecordedCalls) -> None:
    script.put("fresh", {script.place.name: text(700)})


def put_answers(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {script.place.name: text(700)})


def put_and_flush(script: Script, calls: RecordedCalls) -> None:
    script.put("answers", {script.place.name: text(700)})
    script.put("answers", {f"{script.place.name} too": text(500, 1)}, "process")
    script.flush()


def recover(script: Script, calls: RecordedCalls) -> None:
    script.store.recover()


def work(script: Script, calls: RecordedCalls) -> None:
    """Something of everything."""
    script.save("shared", "both save this", number=1)
    script.put("fresh", {script.place.name: text(700)})
    script.put("answers", {script.place.name: text(500, 1)}, "process")
    script.flush()


def look_and_put(script: Script, calls: RecordedCalls) -> None:
    """Something on everything that `work` makes."""
    script.save("shared", "both save this", number=1)
    script.put("fresh", {script.place.name: text(700, 2)})
    script.put("answers", {script.place.name: text(700, 3)})


class Pair(NamedTuple):
    """Work of one process, and that of another at any point of it: in between, or after the one was killed there."""

    base: Base
    one: Work
    other: Work
    waits: bool = False
    """Whether the other one waits for the one, so that it can only come after its death."""


PAIRS = {
    "save the same": Pair(history, save_shared, save_shared),
    "alias the same": Pair(history, alias_shared, alias_shared),
    "put after a save": Pair(history, save_shared, put_answers),
    "put into what the other made": Pair(history, put_fresh, put_fresh),
    "put where no journal was": Pair(bare, put_answers, put_answers),
    "look at all that is made": Pair(history, work, look_and_put),
    "recover": Pair(history, put_and_flush, recover, waits=True),
    "flush": Pair(history, put_and_flush, put_and_flush, waits=True),
}
