"""Transactions on a medium that fails, and in a process that is killed: all happened, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.faults.processes import finished, forked
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import Store
from keepstone.repository import opening

WRITES = ("write", "fsync", "link", "link_open", "rename", "mkdir", "open")


def publish(store: Store) -> None:
    with store.transaction(message="publish") as change:
        change.save("a", change.load("a") + 1, aliases=["prod"])
        change.save("large", os.urandom(300_000))
        change.remove("old")


def require_all_or_nothing(store: Store) -> bool:
    """Return whether the transaction happened; half of it is a failure."""
    happened = store.load("a") == 2
    assert store.exists("large") == store.exists("a@prod") == (not store.exists("old")) == happened
    assert store.fsck(read_data=True).ok
    return happened


@pytest.fixture
def template(tmp_path: Path) -> Path:
    with keepstone.open(tmp_path / "template") as store:
        store.save("a", 1)
        store.save("old", 1)
    return tmp_path / "template"


@pytest.mark.parametrize("after", [False, True])
def test_whatever_call_fails_all_or_nothing_happened(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr("keepstone.history.slots.WAIT_SECONDS_MAX", 0.001)
    for nth in range(1, 100):
        place = tmp_path / f"{nth}"
        shutil.copytree(template, place)
        calls = FaultyCalls(only=WRITES, after=after)
        monkeypatch.setattr("keepstone.storage.local.Calls", lambda calls=calls: calls)
        raised: keepstone.StorageError | None = None
        with keepstone.open(place) as store:
            calls._count, calls._fail_at, calls._error = 0, nth, errno.EIO  # pyright: ignore
            try:
                publish(store)
            except keepstone.StorageError as error:
                raised = error
            calls._fail_at = 0  # pyright: ignore
            happened = require_all_or_nothing(store)
            if raised is None or raised.landed:
                assert happened
        opening._close_all()  # pyright: ignore[reportPrivateUsage]
        with keepstone.open(place) as again:
            assert require_all_or_nothing(again) == happened
        if not calls.failed:
            return
    pytest.fail("more calls than expected")


class DeadlyCalls(FaultyCalls):
    """The process is killed when it makes the call that would fail."""

    def _is_failing(self, name: str) -> bool:
        if super()._is_failing(name):
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def test_killed_at_any_call_all_or_nothing_happened(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch, is_thorough: bool
) -> None:
    seen: set[bool] = set()
    for nth in range(1, 100, 1 if is_thorough else 2):
        place = tmp_path / f"{nth}"
        shutil.copytree(template, place)

        def work(place: Path = place, nth: int = nth) -> None:
            calls = DeadlyCalls(only=WRITES)
            monkeypatch.setattr("keepstone.storage.local.Calls", lambda: calls)
            store = keepstone.open(place)
            calls._count, calls._fail_at = 0, nth  # pyright: ignore
            publish(store)

        survived = finished(forked(work))
        with keepstone.open(place) as again:
            happened = require_all_or_nothing(again)
        seen.add(happened)
        if survived:
            assert happened
            assert seen == {True, False}
            return
    pytest.fail("more calls than expected")
