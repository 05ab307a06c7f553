"""Workers: every contender runs in processes of its own, so that none pays for another's memory or threads.

A crew is `processes` × `threads` workers that stay for all turns, each with its own contender open. What a turn took is
from the first start to the last end, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks.payloads import pool, results
from benchmarks.peers import Contender, Level, open_contender

spawn = multiprocessing.get_context("spawn")
"""A forked worker would inherit what other benchmarks left in memory."""


class Span(NamedTuple):
    """When one worker ran, and its longest single step [seconds]."""

    start: float
    end: float
    longest: float = 0.0


@dataclass(frozen=True)
class Crew:
    """What a crew is to be."""

    contender: str
    folder: Path
    level: Level = "process"
    processes: int = 1
    threads: int = 1
    pool_size: int = 300
    keys: int = 0
    """How many results are there already; for reading."""


class Worker:
    """One thread of a crew."""

    def __init__(self, crew: Crew, number: int) -> None:
        self.crew = crew
        self.number = number
        self.contender: Contender = open_contender(crew.contender, crew.folder, crew.level)
        self.drawn = pool(crew.pool_size)

    def put(self, turn: int, count: int) -> Span:
        """Put `count` results that nobody else puts."""
        first = (turn * 1000 + self.number) * 100_000
        pairs = list(results(first, first + count, self.drawn))
        put = self.contender.put
        longest = 0.0
        start = last = time.perf_counter()
        for key, value in pairs:
            put(key, value)
            now = time.perf_counter()
            if now - last > longest:
                longest = now - last
            last = now
        return Span(start, last, longest)

    def get(self, turn: int, count: int) -> Span:
        """Get `count` results at random; the same for all contenders."""
        draw = random.Random(turn * 1000 + self.number)
        numbers = [draw.randrange(self.crew.keys) for _ in range(count)]
        keys = [f"q{number:08d}" for number in numbers]
        get = self.contender.get
        start = time.perf_counter()
        found = [get(key) for key in keys]
        end = time.perf_counter()
        if [value["number"] for value in found] != numbers:
            raise AssertionError(f"{self.crew.contender} returned other results than were asked for")
        return Span(start, end)

    def save(self, turn: int, count: int) -> Span:
        """Commit `count` small artifacts: what a store is for, or the contender's put where it has no versions."""
        store = getattr(self.contender, "store", None)
        if store is None:
            return self.put(turn, count)
        values = [self.drawn[i % len(self.drawn)] for i in range(count)]
        longest = 0.0
        start = last = time.perf_counter()
        for i, value in enumerate(values):
            store.save(f"models/{self.number}/{turn}-{i}", {**value, "number": i})
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        return Span(start, last, longest)

    def close(self, turn: int, count: int) -> Span:
        """Let go of the contender."""
        start = time.perf_counter()
        self.contender.close()
        return Span(start, time.perf_counter())


def _serve(connection: Connection, crew: Crew, first: int) -> None:
    """Run in a worker process: open, then one task after the other."""
    barrier = threading.Barrier(crew.threads)

    def step(worker: Worker, task: str, turn: int, count: int) -> Span:
        barrier.wait()
        return getattr(worker, task)(turn, count)

    local = threading.local()

    def make(number: int) -> None:
        local.worker = Worker(crew, number)
        barrier.wait()

    with ThreadPoolExecutor(crew.threads) as threads:
        try:
            # A SQLite connection belongs to the thread that opened it; the barrier gives each thread one worker.
            list(threads.map(make, range(first, first + crew.threads)))
            connection.send(None)
            while (message := connection.recv()) is not None:
                calls = [threads.submit(lambda: step(local.worker, *message)) for _ in range(crew.threads)]
                connection.send([call.result() for call in calls])
        except BaseException:
            barrier.abort()
            connection.send(traceback.format_exc())


class CrewAtWork:
    """The processes of a crew; a context manager."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._members: list[tuple[Any, Connection]] = []
        for number in range(crew.processes):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(
                target=_serve, args=(theirs, crew, number * crew.threads), name=f"{crew.contender}-{number}"
            )
            process.start()
            theirs.close()
            self._members.append((process, ours))
            # The first makes the files; the others find them.
            if number == 0:
                _answer(ours)
        for _, ours in self._members[1:]:
            _answer(ours)

    def run(self, task: str, turn: int, count: int) -> list[Span]:
        """Let every worker do `task` at once; return when each ran."""
        for _, connection in self._members:
            connection.send((task, turn, count))
        return [span for _, connection in self._members for span in _answer(connection)]

    def seconds(self, task: str, turn: int, count: int) -> float:
        """Return how long all workers together took for `count` steps each."""
        spans = self.run(task, turn, count)
        return max(span.end for span in spans) - min(span.start for span in spans)

    def __enter__(self) -> CrewAtWork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.run("close", 0, 0)
        for process, connection in self._members:
            if error is None:
                connection.send(None)
            else:
                process.kill()
            process.join()
            connection.close()


def _answer(connection: Connection) -> Any:
    answer = connection.recv()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `function` returns in a fresh process; both have to be importable."""
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        ok, answer = ours.recv()
    except EOFError as error:
        raise RuntimeError(f"{function.__name__} died without an answer") from error
    process.join()
    if not ok:
        raise RuntimeError(answer)
    return answer


def _call(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    try:
        answer = True, function(*arguments)
    except BaseException:
        answer = False, traceback.format_exc()
    connection.send(answer)


def run_until_killed(function: Callable[..., Any], *arguments: Any) -> None:
    """Run `function` in a process of its own that kills itself.

    Raises:
        RuntimeError: it ended in another way.
    """
    process = spawn.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"{function.__name__} ended with {process.exitcode} and not by SIGKILL")
