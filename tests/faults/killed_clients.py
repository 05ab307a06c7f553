"""Programs that use a store in a bucket and are killed at a request: before it, after it, or while it is on its way.

Each is a process of its own, which says in a file what was acknowledged to it. A server process forks them, so that
none has to import everything anew.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from tests.faults.bucket_place import HERE, Place, found_by_others
from tests.faults.failing_calls import View, difference, view
from tests.faults.request_operations import LOCK, MEDIUM, SMALL_PACKS
from tests.servers.faults import Fault

import keepstone

WAYS: Final = (Fault.HANG, Fault.HANG_AFTER, Fault.HOLD)
"""Killed before the server hears of the request; after it took effect; and the request comes after the kill."""
ITEMS: Final = 30
MODELS: Final = 3
SECONDS_MAX: Final = 60.0
IMPORTED: Final = ("keepstone.api", "keepstone.storage.s3", "s3fs")

Acknowledge = Callable[..., None]


# ---- what the programs do ------------------------------------------------------------------------------------------


def save(here: Path, url: str, acknowledge: Acknowledge) -> None:
    with keepstone.open(url) as store:
        for n in range(MODELS):
            acknowledge("saved", f"new/{n}", store.save(f"new/{n}", {"n": n}, aliases=["prod"]).number)
        acknowledge("saved", "new/medium", store.save("new/medium", MEDIUM[::-1]).number)


def put_and_flush(here: Path, url: str, acknowledge: Acknowledge) -> None:
    with keepstone.open(url) as store:
        items = store.collection("new items", durability="process")
        for turn in range(2):
            for n in range(turn, ITEMS, 2):
                items[f"{n}"] = item(n)
                acknowledge("put", f"{n}")
            store.flush()
            acknowledge("flushed", f"{turn}")


def item(n: int) -> dict[str, Any]:
    """Return the one right value of the n-th item."""
    return {"n": n, "text": f"{n}" * 3_000}


def push(here: Path, url: str, acknowledge: Acknowledge) -> None:
    with keepstone.open(here / "local") as store:
        store.push(url)
        acknowledge("pushed")


def pull(here: Path, url: str, acknowledge: Acknowledge) -> None:
    with keepstone.open(here / "local") as store:
        store.pull(url)
        acknowledge("pulled")


def restore(here: Path, url: str, acknowledge: Acknowledge) -> None:
    with keepstone.open(here / "local") as store:
        store.restore(here / LOCK)
        acknowledge("restored")


class Program(NamedTuple):
    """What a process does, and whether it changes this machine's own store, or the bucket's."""

    act: Callable[[Path, str, Acknowledge], None]
    thresholds: tuple[tuple[str, int], ...] = ()


PROGRAMS: Final = {
    "save": Program(save),
    "put and flush": Program(put_and_flush),
    "push": Program(push, SMALL_PACKS),
    "pull": Program(pull, SMALL_PACKS),
    "restore": Program(restore),
}


@contextmanager
def settings(program: Program) -> Iterator[None]:
    """Set what the tests set, in whatever process."""
    with mock.patch("keepstone.storage.places.is_lasting", return_value=True):
        patches = [mock.patch(name, value) for name, value in program.thresholds]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


def be_client(name: str, here: Path, url: str, environment: dict[str, str]) -> None:
    """Run a program; this is the whole life of its process."""
    os.environ.update(environment)
    program = PROGRAMS[name]
    witness = os.open(here / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledge(*facts: object) -> None:
        # One write, so a line is whole or absent.
        os.write(witness, json.dumps(facts).encode() + b"\n")

    with settings(program):
        program.act(here, url, acknowledge)


def acknowledged(here: Path) -> list[list[Any]]:
    """Return what a program had been told before it was killed."""
    path = here / "witness"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# ---- killing them --------------------------------------------------------------------------------------------------


class KillSweep:
    """One program, killed at every request that it makes."""

    def __init__(self, place: Place, name: str, template: Path, objects: dict[str, bytes]) -> None:
        self._place = place
        self._name = name
        self._program = PROGRAMS[name]
        self._template = template
        self._objects = objects
        self._number = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(IMPORTED))
        self.kills = 0
        here = self._begin()
        self._complete(here)
        self.requests = len(place.proxy.seen)
        self.wanted = self._seen(here)
        self.found = found_by_others(place.objects(), checks=True)

    def run(self, fault: Fault) -> None:
        """Kill at each request in turn, until the program comes to its end."""
        for nth in range(1, 1_000):
            if not self.once(fault, nth):
                return
        raise AssertionError("more requests than any program makes")

    def once(self, fault: Fault, nth: int) -> bool:
        """Kill the program at its `nth` request; look, and let it be done again. Returns whether it was killed."""
        here = self._begin()
        proxy = self._place.proxy
        rule = proxy.fail(fault, nth=nth)
        process = self._context.Process(  # pyright: ignore[reportAttributeAccessIssue]
            target=be_client, args=(self._name, here, self._place.url, self._environment())
        )
        process.start()
        try:
            end = time.monotonic() + SECONDS_MAX
            while not rule.arrived.wait(0.01) and process.is_alive():
                assert time.monotonic() < end, "the program hangs"
            killed = rule.arrived.is_set()
            if killed:
                os.kill(process.pid, signal.SIGKILL)
            process.join(SECONDS_MAX)
            assert process.exitcode == (-signal.SIGKILL if killed else 0)
        finally:
            if process.is_alive():
                process.kill()
                process.join()
        if not killed:
            # It came to its end before: nobody else is meant.
            proxy.rules.clear()
        try:
            if fault is not Fault.HOLD:
                self._check(here)
            elif nth % 2:
                # What was on its way comes before anybody looks; else when all has been done again.
                self._arrive()
                self._check(here)
            proxy.rules.clear()
            self._complete(here)
            for held in [rule] if fault is Fault.HOLD else []:
                held.released.set()
                self._arrive()
            self._check_end(here)
        except BaseException as error:
            asked = [f"{seen.kind} {seen.key}" for seen in proxy.seen if seen.fault]
            error.add_note(f"{self._name}: killed at request {nth}, {fault}: {asked}")
            raise
        self.kills += killed
        shutil.rmtree(here.parent)
        return killed

    def _begin(self) -> Path:
        self._place.proxy.clear()
        self._place.put_back(self._objects)
        self._number += 1
        here = self._place.scratch / f"killed {self._number}" / HERE
        shutil.copytree(self._template, here)
        shutil.rmtree(here / "cache")
        self._place.begin_on(here)
        return here

    def _environment(self) -> dict[str, str]:
        names = (*self._place.proxy.access.environment(), "KEEPSTONE_SPOOL", "KEEPSTONE_CACHE")
        return {name: os.environ[name] for name in names}

    def _arrive(self) -> None:
        """Return when what was on its way when its sender was killed has come."""
        self._place.proxy.release()
        end = time.monotonic() + SECONDS_MAX
        while any(seen.fault == Fault.HOLD and not seen.served for seen in list(self._place.proxy.seen)):
            assert time.monotonic() < end, "a held request never arrives"
            time.sleep(0.01)

    def _complete(self, here: Path) -> None:
        """Do it (again) and come to its end."""
        with settings(self._program):
            self._program.act(here, self._place.url, lambda *_: None)

    def _seen(self, here: Path) -> tuple[View, View]:
        with keepstone.open(self._place.url, mode="r") as store, keepstone.open(here / "local") as local:
            assert local.fsck(read_data=True).ok
            return view(store), view(local)

    def _check(self, here: Path) -> None:
        """What was acknowledged is there, and nothing is twice or half there."""
        told = acknowledged(here)
        with keepstone.open(self._place.url, mode="r") as store:
            for kind, *facts in told:
                if kind == "saved":
                    assert store.resolve(facts[0]).number == facts[1]
                elif kind == "put":
                    assert store.collection("new items")[facts[0]] == item(int(facts[0]))
            _require_part(view(store), self.wanted[0])
        found = found_by_others(self._place.objects(), checks=True)
        assert found.moves <= self.found.moves
        _require_flushed(told, found.view)
        with keepstone.open(here / "local", mode="r") as local:
            seen = view(local)
            _require_part(seen, self.wanted[1])
            if told and told[-1][0] in ("pulled", "restored"):
                assert seen == self.wanted[1]
        if told and told[-1][0] == "pushed":
            assert found.view == self.found.view

    def _check_end(self, here: Path) -> None:
        seen = self._seen(here)
        for one, wanted in zip(seen, self.wanted, strict=True):
            assert one == wanted, f"done again: {difference(one, wanted)}"
        found = found_by_others(self._place.objects(), checks=True)
        assert found.view == self.found.view, f"done again: {difference(found.view, self.found.view)}"
        assert found.moves == self.found.moves, "committed twice"


def _require_part(seen: View, wanted: View) -> None:
    # Of what the program changes nothing was there before, but for what moves at once with a new version.
    twice = [what for what in seen if what not in wanted]
    assert not twice, f"nobody wrote {twice}"


def _require_flushed(told: list[list[Any]], there: View) -> None:
    for turn in (int(facts[0]) for kind, *facts in told if kind == "flushed"):
        for n in range(turn, ITEMS, 2):
            assert there["item", "new items", f"{n}"] == item(n)
