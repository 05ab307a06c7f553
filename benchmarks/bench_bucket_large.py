"""One large artifact to and from a bucket, against s3fs with one object of the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.peak import peak_bytes

from benchmarks.buckets import BucketServer, bucket_server, drop_cache, sync_disks
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh

_BYTES: Final = 10**9
_BLOCK: Final = 4 * 2**20
_PUT: Final = "s3fs put_file"
_GET: Final = "s3fs get_file"
_TUNED: Final = ", parts of 16 MiB"
_TUNED_PART: Final = 16 * 2**20
"""Without it s3fs takes 50 MB, ten at once."""


class Cost(NamedTuple):
    """What one transfer took."""

    seconds: float
    cpu_seconds: float
    """Of the client alone; the server runs on the same machine."""
    peak: float
    """The most memory of the process [MiB]."""


def run(settings: Settings) -> list[Case]:
    """Return speed, memory and CPU time of each verb; each transfer has a process of its own."""
    folder = settings.new_folder("bucket_large")
    with bucket_server(folder / "bucket") as server:
        cases = _Measured(settings, server, folder).cases()
    shutil.rmtree(folder, ignore_errors=True)
    return cases


class _Measured:
    def __init__(self, settings: Settings, server: BucketServer, folder: Path) -> None:
        self._turns = settings.turns(5)
        self._server = server
        self._folder = folder
        self._size = settings.scaled(_BYTES)
        self._source = folder / "source.bin"
        self._costs: dict[str, list[Cost]] = {}
        draw = random.Random(11)
        with self._source.open("wb") as file:
            for start in range(0, self._size, _BLOCK):
                file.write(draw.randbytes(min(_BLOCK, self._size - start)))
        fresh(_make_local, folder / "near", self._source)

    def cases(self) -> list[Case]:
        """Measure writing, then reading what the first of them left, and return all cases."""
        near, source = str(self._folder / "near"), str(self._source)
        writing = alternate(
            {
                "push": lambda turn: self._write("push", turn, _push, near),
                "save": lambda turn: self._write("save", turn, _save, source),
                _PUT: lambda turn: self._write(_PUT, turn, _put_file, source, None),
                _PUT + _TUNED: lambda turn: self._write(_PUT + _TUNED, turn, _put_file, source, _TUNED_PART),
            },
            self._turns,
        )
        fresh(_make_remote, self._server.url("kept"))
        fresh(_push, self._server.url("kept"), near)
        fresh(_put_file, self._server.url("object"), source, None)
        there = self._server.url("kept"), self._server.url("object")
        lock = str(self._folder / "near.lock")
        reading = alternate(
            {
                "pull": lambda turn: self._read("pull", turn, _pull, there[0]),
                "restore": lambda turn: self._read("restore", turn, _restore, there[0], lock),
                "load": lambda turn: self._read("load", turn, _load, there[0]),
                _GET: lambda turn: self._read(_GET, turn, _get_file, there[1], None),
                _GET + _TUNED: lambda turn: self._read(_GET + _TUNED, turn, _get_file, there[1], _TUNED_PART),
            },
            self._turns,
        )
        gigabytes = f"{self._size / 1e9:g} GB of random bytes"
        return [
            *self._of("push", f"push {gigabytes} to a bucket", writing, _PUT),
            *self._of("save", f"save {gigabytes} in a bucket store", writing, _PUT),
            *self._of("pull", f"pull {gigabytes} into a new local store", reading, _GET),
            *self._of("restore", f"restore {gigabytes} by a lock", reading, _GET),
            *self._of("load", f"read {gigabytes} from a bucket store, by chunks", reading, _GET),
        ]

    def _of(self, verb: str, title: str, samples: dict[str, list[float]], peer: str) -> list[Case]:
        names = {KEEPSTONE: verb, peer: peer, peer + _TUNED: peer + _TUNED}
        costs = {ours: self._costs[name][-self._turns :] for ours, name in names.items()}
        note = f"{self._server.title}, on the same cores; source in the page cache"
        return [
            Case(
                f"bucket_large.{verb}",
                title,
                "MB/s",
                {ours: samples[name] for ours, name in names.items()},
                less_is_better=False,
                notes=(note,),
            ),
            Case(
                f"bucket_large.{verb}_memory",
                f"{title}, peak memory",
                "MiB",
                {name: [cost.peak for cost in taken] for name, taken in costs.items()},
            ),
            Case(
                f"bucket_large.{verb}_cpu",
                f"{title}, CPU time of the client",
                "s",
                {name: [cost.cpu_seconds for cost in taken] for name, taken in costs.items()},
            ),
        ]

    def _write(self, name: str, turn: int, work: Callable[..., Cost], *arguments: Any) -> float:
        prefix = f"turn-{turn}-{name.replace(' ', '-').replace(',', '')}"
        url = self._server.url(prefix)
        if name in ("push", "save"):
            fresh(_make_remote, url)
        speed = self._note(name, fresh(work, url, *arguments))
        self._server.remove(prefix)
        return speed

    def _read(self, name: str, turn: int, work: Callable[..., Cost], *arguments: Any) -> float:
        target = self._folder / "target"
        drop_cache()
        sync_disks()
        speed = self._note(name, fresh(work, str(target), *arguments))
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        return speed

    def _note(self, name: str, cost: Cost) -> float:
        self._costs.setdefault(name, []).append(cost)
        return self._size / cost.seconds / 1e6


def _measured(work: Callable[[], object]) -> Cost:
    # Both clients are the same libraries, whose import takes 1 s: no part of moving bytes.
    import s3fs  # noqa: F401

    start, used = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - start, time.process_time() - used, peak_bytes() / 2**20)


# ---- Keepstone -----------------------------------------------------------------------------------


def _make_local(folder: Path, source: Path) -> None:
    import keepstone.api

    with keepstone.api.open(folder) as store:
        store.save("large", source)
        store.pin(["large"], folder.with_suffix(".lock"))


def _make_remote(url: str) -> None:
    """Make the store, which probes the medium: once in its life."""
    import keepstone.api

    keepstone.api.open(url, create=True).close()


def _push(url: str, near: str) -> Cost:
    import keepstone.api

    def work() -> None:
        with keepstone.api.open(near) as store:
            store.push(url)

    return _measured(work)


def _save(url: str, source: str) -> Cost:
    import keepstone.api

    def work() -> None:
        with keepstone.api.open(url) as store:
            store.save("large", Path(source))

    return _measured(work)


def _pull(target: str, url: str) -> Cost:
    import keepstone.api

    def work() -> None:
        with keepstone.api.open(target) as store:
            store.pull(url)

    return _measured(work)


def _restore(target: str, url: str, lock: str) -> Cost:
    import keepstone.api

    def work() -> None:
        with keepstone.api.open(target) as store:
            store.restore(lock, source=url)

    return _measured(work)


def _load(target: str, url: str) -> Cost:
    import keepstone.api

    def work() -> None:
        with keepstone.api.open(url, mode="r") as store:
            for _ in store.resolve("large").chunks():
                pass

    return _measured(work)


# ---- s3fs ----------------------------------------------------------------------------------------


def _put_file(url: str, source: str, part: int | None) -> Cost:
    def work() -> None:
        import s3fs

        s3fs.S3FileSystem().put_file(source, url, chunksize=part)

    return _measured(work)


def _get_file(target: str, url: str, part: int | None) -> Cost:
    def work() -> None:
        import s3fs

        s3fs.S3FileSystem().get_file(url, target, chunksize=part)
        os.stat(target)

    return _measured(work)
