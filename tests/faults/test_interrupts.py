"""KeyboardInterrupt at every point of a put, a save and a flush where Python can raise one.

Python looks for signals when a function is entered, when a call into C has returned, and when a loop turns. A profile
function sees the first two, so raising in it is what Ctrl-C does, but at every point in order.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import keepstone
from keepstone.blobs import held

# An interrupt in a finalizer is printed and dropped.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SOURCE = str(Path(keepstone.__file__).parent)


def interrupted_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` with a KeyboardInterrupt at its `step`-th point; return False where it ended before."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(SOURCE):
            return
        # What is raised in a finalizer Python prints and drops.
        if frame.f_code.co_name in ("__del__", "_close_writer"):
            return
        count += 1
        if count == step:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def steps(store: keepstone.Store, work: Callable[[keepstone.Store, int], object]) -> int:
    """Interrupt `work` at every point; after each the store must go on working. Return how many points there were."""
    items = store.collection("items", durability="process")
    step = 0
    while True:
        step += 1
        if not interrupted_at(step, partial(work, store, step)):
            return step - 1
        items[f"after {step}"] = step
        assert items[f"after {step}"] == step
        if step % 10 == 0:
            store.flush()


def check(place: Path, store: keepstone.Store, count: int) -> None:
    """Everything acknowledged is there, whole; nothing is locked any more once the store is closed."""
    items = store.collection("items")
    assert all(items[f"after {step}"] == step for step in range(1, count + 1))
    store.close()
    with keepstone.open(place) as again:
        again.recover()
        items = again.collection("items")
        assert all(items[f"after {step}"] == step for step in range(1, count + 1))
        for key, value in items.items():
            assert value == int(key.split()[1]), key
        assert again.stats().journals == 0
        assert again.fsck(read_data=True).ok


@pytest.mark.parametrize("durability", ["process", "disk", pytest.param("store", marks=pytest.mark.thorough)])
def test_a_put_can_be_interrupted_anywhere(tmp_path: Path, durability: Any) -> None:
    place = tmp_path / "store"
    store = keepstone.open(place)
    store.collection("items")["first 0"] = 0

    def put(store: keepstone.Store, step: int) -> None:
        store.collection("items", durability=durability)[f"cut {step}"] = step

    count = steps(store, put)

    assert count > 30
    check(place, store, count)


def test_a_save_can_be_interrupted_anywhere(tmp_path: Path) -> None:
    place = tmp_path / "store"
    store = keepstone.open(place)
    store.save("model", {"step": 0})

    count = steps(store, lambda store, step: store.save("model", {"step": step}))

    assert count > 100
    versions = store.versions("model")
    assert [v.number for v in versions] == list(range(len(versions), 0, -1))
    loaded = [version.load()["step"] for version in versions]
    assert loaded == sorted(set(loaded), reverse=True)
    assert loaded[0] == count + 1
    check(place, store, count)


def test_opening_and_closing_can_be_interrupted_anywhere(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with keepstone.open(place) as store:
        store.collection("items")["first 0"] = 0

    def work() -> None:
        with keepstone.open(place) as store:
            store.collection("items", durability="process")["mine 1"] = 1

    locks = held.held_count()
    step = 1
    while interrupted_at(step, work):
        step += 1
        if step % 5 == 0:
            with keepstone.open(place) as store:
                store.collection("items")["first 0"] = 0
    assert step > 40
    with keepstone.open(place) as store:
        store.recover()
        assert store.collection("items")["first 0"] == 0
        assert store.fsck(read_data=True).ok
    gc.collect()
    assert held.held_count() <= locks


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_real_signals_in_a_busy_loop_lose_nothing(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import signal, sys, time, keepstone
        store = keepstone.open(sys.argv[1])
        items = store.collection("items", durability="process")
        store.repository.session.spool.journal_bytes = 20_000
        # A busy machine may never come to the first item within three milliseconds.
        items["k 0"] = 0
        acknowledged, interrupts, n, end = [0], 0, 0, time.monotonic() + 2
        last = end + 30
        is_inside = False
        def interrupt(*_):
            if is_inside:
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        while time.monotonic() < (end if len(acknowledged) > 20 else last):
            try:
                n += 1
                is_inside = True
                items[f"k {n}"] = n
                is_inside = False
                acknowledged.append(n)
            except KeyboardInterrupt:
                is_inside = False
                interrupts += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        store.flush()
        assert all(items[f"k {n}"] == n for n in acknowledged)
        store.close()
        with keepstone.open(sys.argv[1]) as store:
            store.recover()
            items = store.collection("items")
            assert all(items[f"k {n}"] == n for n in acknowledged)
            assert all(value == int(key[2:]) for key, value in items.items())
            assert store.fsck(read_data=True).ok
        assert interrupts > 20 and len(acknowledged) > 20, (interrupts, len(acknowledged))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, os.fspath(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
