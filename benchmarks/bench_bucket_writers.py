"""Many writers on one bucket: 8 processes, each as on a machine of its own, save small artifacts as fast as they can.

Every save is a commit of its own, and waits until it stands. With the latency of a bucket that is far away, which a
proxy adds, and without. Afterwards a new session, of another machine, looks for everything that was acknowledged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.servers import moto, rgw
from tests.servers.bucket import new_bucket
from tests.servers.program import Access, Program

from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case
from benchmarks.workers import fresh, spawn

WRITERS: Final = 8
READ_MS: Final = 20
WRITE_MS: Final = 45
_SECONDS: Final = 45
_RUNS: Final = 3
_ONE_NAME: Final = "all on one name"
_ALONE: Final = "1 writer"
_THREADS: Final = "8 threads of one process"


class Way(NamedTuple):
    """How the server is reached."""

    id: str
    title: str
    program: Program
    is_far: bool = False


WAYS: Final = (
    Way("delayed", f"moto with {READ_MS}/{WRITE_MS} ms of latency", moto.PROGRAM, is_far=True),
    Way("rgw_delayed", f"Ceph RGW with {READ_MS}/{WRITE_MS} ms of latency", rgw.PROGRAM, is_far=True),
    Way("moto", "moto", moto.PROGRAM),
    Way("rgw", "Ceph RGW", rgw.PROGRAM),
)


class Crowd(NamedTuple):
    """Who writes."""

    title: str
    processes: int = WRITERS
    threads: int = 1
    one_name: bool = False


CROWDS: Final = (
    Crowd(KEEPSTONE),
    Crowd(_ONE_NAME, one_name=True),
    Crowd(_ALONE, processes=1),
    Crowd(_THREADS, processes=1, threads=WRITERS),
)


class Save(NamedTuple):
    """One save that was acknowledged."""

    name: str
    number: int
    digest: str
    seconds: float


class Outcome(NamedTuple):
    """What one run gave."""

    rate: float
    """Saves a second, of all together."""
    waits: list[float]
    """Of every save, sorted [seconds]."""
    commits: int
    """By the log."""
    lost: int
    """Acknowledged and not there, or there under another number, or twice."""
    requests: Counter[str]
    """By kind; empty where nobody counted."""

    def wait(self, share: float) -> float:
        """Return the wait that this share of the saves did not exceed [ms]."""
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))] * 1e3


def run(settings: Settings) -> list[Case]:
    """Return rates, waits, requests a commit and what was lost, for each way to a server."""
    cases: list[Case] = []
    for way in WAYS:
        if why := way.program.missing():
            sys.stderr.write(f"({why}) ")
            continue
        folder = settings.new_folder(f"bucket_writers-{way.id}")
        with way.program.running(folder / "server") as access:
            runs = settings.turns(_RUNS) if way.is_far else 1
            seconds = settings.scaled(_SECONDS) / (1 if way.is_far else 3)
            outcomes = {
                crowd.title: [
                    measure(folder / f"{number}-{turn}", access, way, crowd, seconds)
                    # What goals are stated for is run several times; what stands beside it once.
                    for turn in range(1 if number else runs)
                ]
                for number, crowd in enumerate(CROWDS)
            }
        cases += _cases(way, outcomes, seconds)
    return cases


def _cases(way: Way, outcomes: Mapping[str, Sequence[Outcome]], seconds: float) -> list[Case]:
    def case(what: str, title: str, unit: str, less_is_better: bool = True, **notes: Any) -> Any:
        id_, full = f"bucket_writers.{way.id}{what}", f"8 processes save to one bucket, {way.title}{title}"
        return lambda values: Case(id_, full, unit, values, less_is_better=less_is_better, **notes)

    each = outcomes.items()
    notes = (f"{len(next(iter(outcomes.values())))} runs of {seconds:g} s; small artifacts, each a commit",)
    found = [
        case("", ", saves a second", "/s", False, notes=notes)({k: [o.rate for o in v] for k, v in each}),
        case(".median", ", median wait", "ms")({k: [o.wait(0.5) for o in v] for k, v in each}),
        case(".p99", ", 99% wait less", "ms")({k: [o.wait(0.99) for o in v] for k, v in each}),
        # Of all runs: a median would hide the one that was waited for.
        case(".longest", ", longest wait of all runs", "s")(
            {k: [max(o.waits[-1] for o in v)] for k, v in each}
        ),
        case(".lost", ", lost", "saves")({k: [float(sum(o.lost for o in v))] for k, v in each}),
        case(".commits", ", commits a save", "")({k: [o.commits / len(o.waits) for o in v] for k, v in each}),
    ]
    if way.is_far:
        found += [
            case(f".{kind}s", f", {kind.upper()} requests a save", "")(
                {k: [o.requests[kind] / len(o.waits) for o in v] for k, v in each}
            )
            for kind in ("put", "get")
        ]
    return found


def measure(folder: Path, access: Access, way: Way, crowd: Crowd, seconds: float) -> Outcome:
    """Return what a crowd of writers came to in a new store."""
    url = f"{new_bucket(way.program.name, access).url}/store"
    fresh(_create, url, _environment(access, folder / "maker"))
    with _reached(access, way, folder) as (reached, record):
        before = _lines(record)
        saves, took = _write(url, reached, crowd, seconds, folder)
        requests = Counter(json.loads(line)["kind"] for line in _lines(record)[len(before) :])
    commits, lost = fresh(_check, url, _environment(access, folder / "checker"), saves)
    waits = sorted(save.seconds for save in saves)
    return Outcome(len(saves) / took, waits, commits, lost, requests)


@contextmanager
def _reached(access: Access, way: Way, folder: Path) -> Iterator[tuple[Access, Path]]:
    """Put the proxy between where the server is to be far away; it writes down every request."""
    record = folder / "requests.jsonl"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.touch()
    if not way.is_far:
        yield access, record
        return
    command = [sys.executable, "-m", "tests.servers.proxy", access.endpoint, "--record", str(record)]
    command += ["--read-ms", str(READ_MS), "--write-ms", str(WRITE_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        yield access._replace(endpoint=proxy.stdout.readline().strip()), record
        proxy.terminate()


def _lines(record: Path) -> list[str]:
    return record.read_text(encoding="utf-8").splitlines()


def _environment(access: Access, folder: Path) -> dict[str, str]:
    """Return the environment of one machine."""
    own = {"KEEPSTONE_SPOOL": str(folder / "state"), "KEEPSTONE_CACHE": str(folder / "cache")}
    return {**access.environment(), **own}


def _create(url: str, environment: Mapping[str, str]) -> None:
    import keepstone

    os.environ.update(environment)
    keepstone.open(url, create=True).close()


def _write(url: str, access: Access, crowd: Crowd, seconds: float, folder: Path) -> tuple[list[Save], float]:
    members: list[tuple[Any, Any]] = []
    for number in range(crowd.processes):
        ours, theirs = spawn.Pipe()
        arguments = (theirs, url, _environment(access, folder / f"machine-{number}"), crowd, number)
        process = spawn.Process(target=_writer, args=arguments)
        process.start()
        theirs.close()
        members.append((process, ours))
    for _, ours in members:
        # Open, and with one save behind it.
        ours.recv()
    start = time.perf_counter()
    for _, ours in members:
        ours.send(start + seconds)
    saves = [save for _, ours in members for save in ours.recv()]
    took = time.perf_counter() - start
    for process, _ in members:
        process.join()
    return saves, took


def _writer(connection: Any, url: str, environment: Mapping[str, str], crowd: Crowd, process: int) -> None:
    import keepstone

    os.environ.update(environment)
    made: list[list[Save]] = [[] for _ in range(crowd.threads)]
    store = keepstone.open(url)

    def save(thread: int) -> None:
        worker = process * crowd.threads + thread
        name = "shared" if crowd.one_name else f"models/{worker}"
        start = time.perf_counter()
        version = store.save(name, {"worker": worker, "turn": len(made[thread])})
        assert version.number is not None
        made[thread].append(Save(name, version.number, version.digest, time.perf_counter() - start))

    def work(thread: int, until: float) -> None:
        while time.perf_counter() < until:
            save(thread)

    save(0)
    connection.send(None)
    # The clock is one for all processes of a machine.
    until = connection.recv()
    threads = [threading.Thread(target=work, args=(thread, until)) for thread in range(crowd.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Not timed: it is what opening costs.
    made[0][0] = made[0][0]._replace(seconds=0.0)
    connection.send([save for saves in made for save in saves])
    store.close()


def _check(url: str, environment: Mapping[str, str], saves: Sequence[Save]) -> tuple[int, int]:
    """Return the number of commits that saved, and how many saves are not there exactly once."""
    import keepstone

    os.environ.update(environment)
    with keepstone.open(url, mode="r") as store:
        there = Counter(
            (name, version.number, version.digest)
            for name in store.names()
            for version in store.versions(name)
        )
        acknowledged = Counter((save.name, save.number, save.digest) for save in saves)
        lost = sum((acknowledged - there).values()) + sum((there - acknowledged).values())
        report = store.fsck()
        if not report.ok:
            raise AssertionError(f"fsck: {report}")
        commits = sum(
            any("@" not in r.name and r.name[0] != ":" for r in c.refs) for c in store.repository.history()
        )
    return commits, lost
