"""What everything costs on a bucket, in requests: counted at a proxy, and priced.

`python -m tests.acceptance.test_requests` writes the table into docs/performance.md.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.operations.bucket import buckets
from tests.servers.bucket import Bucket
from tests.servers.fixtures import Machine
from tests.servers.proxy import Proxy
from tests.servers.s3_requests import DOLLARS, WRITES, Seen

import keepstone
from keepstone.operations.doctor import examine_place
from keepstone.storage import locate
from keepstone.storage.probe import probe

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN: Final = "<!-- requests; `python -m tests.acceptance.test_requests` writes this -->\n"
END: Final = "<!-- end of requests -->"
MIB: Final = 1024 * 1024


class Cost(NamedTuple):
    """Requests of one act."""

    writes: int = 0
    """PUT, COPY and POST."""
    lists: int = 0
    reads: int = 0
    """GET and HEAD."""
    deletes: int = 0
    is_most: bool = False
    """Threads race, or windows fall otherwise: it may be fewer."""

    @property
    def dollars(self) -> float:
        """What a thousand of it cost."""
        return 1000 * ((self.writes + self.lists) * DOLLARS["put"] + self.reads * DOLLARS["get"])


COSTS: Final = {
    "open, where there is no store": Cost(lists=1, reads=1),
    "create a store, which probes the bucket": Cost(165, 3, 27, 21, is_most=True),
    "open a store for the first time: 8 commits": Cost(reads=18),
    "open a known store: nothing new": Cost(reads=2),
    "… two new commits": Cost(reads=4),
    "open offline, and load": Cost(),
    "first save after opening": Cost(writes=2),
    "save": Cost(writes=1),
    "save what is there already": Cost(reads=1),
    "set an alias": Cost(writes=1, reads=1),
    "load; list versions, names or aliases": Cost(reads=1),
    "refresh": Cost(reads=1),
    "first item of a new collection": Cost(writes=1),
    "put 10,000 items one by one": Cost(),
    "… and flush": Cost(writes=2, reads=1),
    "flush 10 items": Cost(writes=1, reads=1),
    "flush nothing; close": Cost(),
    "ask which of 11,000 keys are missing": Cost(reads=1),
    "… on a new machine, with opening": Cost(reads=20),
    "iterate 10,000 items on a new machine": Cost(reads=7, is_most=True),
    "… again": Cost(reads=1),
    "push 10,000 items that were put one by one into a local store": Cost(writes=3, reads=2),
    "push, pull or sync: nothing new": Cost(reads=2, is_most=True),
    "push one new version": Cost(writes=2, reads=2),
    "pull 10,000 items": Cost(reads=9, is_most=True),
    "clone a store: 12 commits, 30,000 items": Cost(reads=28, is_most=True),
    "`fsck`: 12 commits, 7 packs": Cost(lists=3, reads=42, is_most=True),
    "`fsck --read-data`: the same": Cost(lists=3, reads=30, is_most=True),
    "`stats`": Cost(lists=3, reads=6, is_most=True),
    "`recover`: nothing to do": Cost(lists=1, reads=1),
    "`doctor`, which probes the bucket": Cost(163, 1, 31, 21, is_most=True),
    "save 64 MiB": Cost(writes=12),
    "load 64 MiB on a new machine": Cost(reads=16, is_most=True),
    "save 1 GiB": Cost(writes=180, is_most=True),
    "load 1 GiB on a new machine": Cost(reads=168, is_most=True),
}


def cost_of(requests: list[Seen]) -> Cost:
    kinds = Counter(request.kind for request in requests)
    return Cost(
        writes=sum(kinds[kind] for kind in WRITES),
        lists=kinds["list"],
        reads=kinds["get"] + kinds["head"],
        deletes=kinds["delete"] + kinds["delete-many"],
    )


class Ledger:
    """What was counted so far."""

    def __init__(self, proxy: Proxy) -> None:
        self.wrong: list[str] = []
        self.counted: set[str] = set()
        self._proxy = proxy

    @contextmanager
    def counts(self, act: str) -> Generator[None]:
        """Compare the requests of this block with what the act should cost."""
        with self._proxy.counted() as requests:
            yield
        found, expected = cost_of(requests), COSTS[act]
        self.counted.add(act)
        fits = found == expected
        if expected.is_most:
            fits = all(a <= b for a, b in zip(found[:4], expected[:4], strict=True))
        if not fits:
            lines = [f"    {r.method} {r.key} {r.range} {r.status}" for r in requests[:60]]
            self.wrong.append("\n".join([f"{act}: {found}, not {expected}", *lines]))


ANSWER: Final = "the answer, and why it is the answer: " * 4


def answers(prefix: str, count: int = 10_000) -> dict[str, dict[str, object]]:
    return {f"{prefix}{number}": {"answer": number, "why": ANSWER} for number in range(count)}


@pytest.fixture
def ledger(proxy: Proxy, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    # Nothing happens by the clock.
    monkeypatch.setattr("keepstone.repository.local_side.PUBLISH_SECONDS", 3_600.0)
    monkeypatch.setattr("keepstone.repository.session.STALE_SECONDS_MAX", 3_600.0)
    return Ledger(proxy)


def test_each_act_costs_what_the_documentation_says(
    bucket: Bucket, ledger: Ledger, machine: Machine, tmp_path: Path
) -> None:
    url = f"{bucket.url}/team"
    use(url, ledger, machine)
    exchange(url, ledger, machine, tmp_path)
    look_after(url, ledger)
    assert ledger.counted == {act for act in COSTS if "iB" not in act and "probes" not in act}
    assert not ledger.wrong, "\n".join(ledger.wrong)


def use(url: str, ledger: Ledger, machine: Machine) -> None:
    """Save, load, put and read on two machines."""
    with ledger.counts("open, where there is no store"), pytest.raises(keepstone.StoreNotFoundError):
        keepstone.open(url)
    store = keepstone.open(url, create=True)
    store.save("m", {"a": 1})
    store.close()
    with ledger.counts("open a known store: nothing new"):
        store = keepstone.open(url)
    with ledger.counts("first save after opening"):
        store.save("m", {"a": 2})
    with ledger.counts("save"):
        store.save("m", {"a": 3})
    with ledger.counts("save what is there already"):
        store.save("m", {"a": 3})
    with ledger.counts("set an alias"):
        store.alias("m", "prod")
    for ask in (store.load, store.versions, store.aliases):
        with ledger.counts("load; list versions, names or aliases"):
            ask("m")
    with ledger.counts("load; list versions, names or aliases"):
        store.names()
    with ledger.counts("refresh"):
        store.repository.session.refresh()
    items = store.collection("answers", durability="process")
    with ledger.counts("first item of a new collection"):
        items["first"] = 1
    with ledger.counts("put 10,000 items one by one"):
        for key, value in answers("a").items():
            items[key] = value
    with ledger.counts("… and flush"):
        store.flush()
    items.update(answers("few", 10))
    with ledger.counts("flush 10 items"):
        store.flush()
    with ledger.counts("flush nothing; close"):
        store.flush()
    with ledger.counts("ask which of 11,000 keys are missing"):
        assert len(list(items.missing(f"a{number}" for number in range(11_000)))) == 1_000
    with ledger.counts("flush nothing; close"):
        store.close()
    with ledger.counts("open offline, and load"), keepstone.open(url, offline=True) as store:
        assert store.load("m") == {"a": 3}

    machine("another")
    with ledger.counts("open a store for the first time: 8 commits"):
        store = keepstone.open(url)
    for act in ("iterate 10,000 items on a new machine", "… again"):
        with ledger.counts(act):
            assert len(dict(store.collection("answers").items())) == 10_011
    store.close()
    machine("a third")
    with ledger.counts("… on a new machine, with opening"):
        store = keepstone.open(url)
        keys = [f"a{number}" for number in range(11_000)]
        assert len(list(store.collection("answers").missing(keys))) == 1_000
    store.close()


def exchange(url: str, ledger: Ledger, machine: Machine, tmp_path: Path) -> None:
    """Push, pull and clone, from a machine with a store of its own."""
    machine("laptop")
    with keepstone.open(tmp_path / "laptop-store", create=True) as here:
        here.sync(url)
        items = here.collection("mine", durability="process")
        for key, value in answers("b").items():
            items[key] = value
        with ledger.counts("push 10,000 items that were put one by one into a local store"):
            here.push(url)
        for verb in (here.push, here.pull, here.sync):
            with ledger.counts("push, pull or sync: nothing new"):
                assert verb(url).is_nothing
        here.save("mine too", 1)
        with ledger.counts("push one new version"):
            here.push(url)
        machine("here")
        with ledger.counts("… two new commits"):
            store = keepstone.open(url)
        store.collection("theirs").update(answers("c"))
        store.close()
        machine("laptop")
        with ledger.counts("pull 10,000 items"):
            assert here.pull(url).changes[0].items == 10_000
    machine("new")
    with ledger.counts("clone a store: 12 commits, 30,000 items"):
        keepstone.clone(url, tmp_path / "clone")


def look_after(url: str, ledger: Ledger) -> None:
    """Check, count and repair."""
    with keepstone.open(url) as store:
        with ledger.counts("`fsck`: 12 commits, 7 packs"):
            assert store.fsck().ok
        with ledger.counts("`fsck --read-data`: the same"):
            assert store.fsck(read_data=True).ok
        with ledger.counts("`stats`"):
            store.stats()
        with ledger.counts("`recover`: nothing to do"):
            store.recover()


def test_creating_and_a_doctor_cost_a_probe(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In memory: races of a whole probe have one winner there however busy the machine is; a server of tests may lapse.
    monkeypatch.setattr("keepstone.storage.probe.probe", probe)
    monkeypatch.setattr("keepstone.operations.doctor.probe", probe)
    monkeypatch.setattr(locate, "_BUCKETS", (*locate._BUCKETS, "bucket"))
    place = f"bucket://{tmp_path.name}"
    acts = {
        "create a store, which probes the bucket": lambda: keepstone.open(place, create=True).close(),
        "`doctor`, which probes the bucket": lambda: examine_place(place),
    }
    with buckets() as net:
        for act, work in acts.items():
            net.take()
            work()
            verbs = Counter(verb for verb, _ in net.take())
            expected = COSTS[act]
            assert 160 < verbs["PUT"] <= expected.writes, act
            assert verbs["LIST"] <= expected.lists, act
            assert verbs["GET"] + verbs["HEAD"] <= expected.reads, act


@pytest.mark.parametrize(
    "size",
    [
        pytest.param("64 MiB", marks=pytest.mark.thorough),
        pytest.param("1 GiB", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_large_content_costs_a_request_for_each_8_mib(
    size: str, bucket: Bucket, ledger: Ledger, machine: Machine, tmp_path: Path
) -> None:
    url, megabytes = f"{bucket.url}/team", {"64 MiB": 64, "1 GiB": 1024}[size]
    source = tmp_path / "large.bin"
    draw = random.Random(1)
    with source.open("wb") as file:
        for _ in range(megabytes):
            file.write(draw.randbytes(MIB))
    with keepstone.open(url, create=True) as store, ledger.counts(f"save {size}"):
        store.save("large", source)
    machine("new")
    with keepstone.open(url, mode="r") as store, ledger.counts(f"load {size} on a new machine"):
        store.resolve("large").checkout(tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.bin")) == megabytes * MIB
    assert not ledger.wrong, "\n".join(ledger.wrong)


def test_reading_and_writing_grow_by_a_request_for_8_mib_and_few_for_a_pack() -> None:
    for act, small, large in (
        ("load", COSTS["load 64 MiB on a new machine"].reads, COSTS["load 1 GiB on a new machine"].reads),
        ("save", COSTS["save 64 MiB"].writes, COSTS["save 1 GiB"].writes),
    ):
        more_ranges, more_packs = (1024 - 64) / 8, (1024 - 64) / 64
        assert large - small <= more_ranges + (3 if act == "save" else 2) * more_packs + 4, act


def test_the_documentation_has_this_table() -> None:
    assert table() in PAGE.read_text(), "run `python -m tests.acceptance.test_requests`"


def table() -> str:
    """Return the costs as they stand in the documentation."""
    lines = ["| what | PUT, POST | LIST | GET | DELETE | $ per 1,000 |", "|---|---|---|---|---|---|"]
    for act, cost in COSTS.items():
        most = "≤ " if cost.is_most else ""
        numbers = [f"{most}{number}" if number else "–" for number in cost[:4]]
        price = f"{most}{cost.dollars:.4f}" if cost.dollars else "–"
        lines.append(f"| {act} | {' | '.join(numbers)} | {price} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table into the documentation."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no place for the table")
    PAGE.write_text(before + begin + table() + end + after)


if __name__ == "__main__":
    main()
