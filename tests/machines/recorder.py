"""Processes that work on one store at once and write down what they asked, what they were told, and when.

A recorder's file outlives its process: what was begun and never ended was under way when the process was killed.
"""

from __future__ import annotations

import ast
import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.processes import forked
from tests.machines.linearizability import Call

from keepstone.foundation.errors import KeepstoneError

WAIT_SECONDS_MAX = 100


class Recorder:
    """Writes down the calls of one thread; a line is one write, so it is whole or absent."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def call(self, operation: tuple[Any, ...], work: Callable[[], Any]) -> Any:
        """Do `work`, which is what `operation` says; return its answer, an error as the name of its class."""
        began = time.monotonic_ns()
        self._write((began, operation))
        try:
            answer = work()
        except KeepstoneError as error:
            answer = type(error).__name__
        self._write((time.monotonic_ns(), answer))
        return answer

    def _write(self, fact: tuple[Any, ...]) -> None:
        os.write(self._file, repr(fact).encode() + b"\n")


def read_calls(folder: Path) -> Iterator[tuple[str, Call]]:
    """Yield (recorder, call) of everything that was recorded."""
    for path in sorted(folder.iterdir()):
        facts = [ast.literal_eval(line) for line in path.read_text().splitlines()]
        for began, ended in zip(facts[::2], facts[1::2], strict=False):
            yield path.name, Call(began[0], ended[0], began[1], ended[1])
        if len(facts) % 2:
            yield path.name, Call(facts[-1][0], math.inf, facts[-1][1], None)


def run_together(works: list[Callable[[], object]], *, kills: int, seed: str) -> None:
    """Run each in a process of its own, begun at one moment; kill the first `kills` of them somewhere on their way.

    Raises:
        AssertionError: one that was not killed failed, or did not end.
    """
    gate, opener = os.pipe()

    def started(work: Callable[[], object]) -> None:
        os.close(opener)
        os.read(gate, 1)
        work()

    pids = [forked(lambda work=work: started(work)) for work in works]
    os.close(gate)
    began = time.monotonic()
    os.close(opener)
    chance = random.Random(seed)
    for pid in pids[:kills]:
        time.sleep(chance.random() * 0.03)
        os.kill(pid, signal.SIGKILL)
    for position, pid in enumerate(pids):
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() - began > WAIT_SECONDS_MAX:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        assert position < kills or ended[1] == 0, f"process {position} ended with {ended[1]}"
