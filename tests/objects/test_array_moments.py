"""Arrays are saved piece by piece, in little memory; what is saved is what the array was at one moment, or refused."""

from __future__ import annotations

import io
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.objects.in_memory import load, save
from tests.objects.layouts import as_it_is, backwards, every_other

import keepstone
from keepstone import SerializerError
from keepstone.objects.memory import Moment, array_pieces


@pytest.mark.parametrize("lay", [as_it_is, np.asfortranarray, every_other, backwards])
def test_no_array_is_copied_whole(lay: Callable[[Any], Any]) -> None:
    array = lay(np.ones((2048, 2048), "<f8"))
    tracemalloc.start()
    try:
        sizes = [len(piece) for source in [dumped_source(array)] for piece in source.chunks(1024 * 1024)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert sum(sizes) == array.nbytes + 128
    assert peak < array.nbytes / 2


def dumped_source(array: Any) -> Any:
    from keepstone.objects.arrays import ArraySerializer

    return ArraySerializer().dump(array).parts[0].source


def test_loading_takes_the_array_and_a_piece() -> None:
    saved = save(np.ones((2048, 1024), "<f8"), size=1024 * 1024)
    tracemalloc.start()
    try:
        loaded = load(saved, piece=1024 * 1024)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1.5 * loaded.nbytes


@pytest.mark.parametrize("lay", [as_it_is, np.asfortranarray, every_other])
def test_an_array_that_changes_while_it_is_read_is_refused(lay: Callable[[Any], Any]) -> None:
    array = lay(np.zeros((100, 100)))
    chunks = dumped_source(array).chunks(1000)
    header, first = next(chunks), next(chunks)
    assert (len(header), len(first)) == (128, 1000)
    array[0, 0] = 1

    with pytest.raises(SerializerError, match="it changed while it was being saved"):
        list(chunks)


def test_what_was_read_is_what_one_moment_was_and_can_be_read_again() -> None:
    array = np.arange(1000)
    source = dumped_source(array)
    first = b"".join(source.chunks(300))
    assert b"".join(source.chunks(7)) == first
    array[5] = 0

    # A later reading is of a later moment, and right again.
    assert np.load(io.BytesIO(b"".join(source.chunks(300))))[5] == 0


def test_a_part_that_changes_after_it_was_read_is_refused_with_the_last_part() -> None:
    one, other = np.zeros(10), np.zeros(10)
    moment = Moment()
    sources = [moment.source(80, lambda array=array: array_pieces(np, array)) for array in (one, other)]
    assert len(b"".join(sources[0].chunks(100))) == 80
    one[3] = 1

    with pytest.raises(SerializerError, match="it changed while it was being saved"):
        list(sources[1].chunks(100))


def test_a_second_reading_that_ends_before_the_first_does_not_spare_the_first() -> None:
    one, other = np.zeros(10), np.zeros(10)
    moment = Moment()
    sources = [moment.source(80, lambda array=array: array_pieces(np, array)) for array in (one, other)]
    list(sources[0].chunks(100))
    begun = sources[1].chunks(8)
    next(begun)
    list(sources[1].chunks(100))
    other[0] = other[5] = 1

    # It has the first number of before and the others of now.
    with pytest.raises(SerializerError, match="it changed while it was being saved"):
        list(begun)


class Restless:
    """Changes an array all the time, until the block ends."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self._array += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_store_keeps_whole_moments_of_an_array_that_changes(tmp_path: Path) -> None:
    array = np.zeros((200, 1000), "<i8")
    store = keepstone.open(tmp_path / "s")
    with Restless(array):
        for _ in range(5):
            try:
                store.save("a", array)
            except SerializerError:
                continue
    for version in store.versions("a") if store.exists("a") else ():
        # Whole rows are written at once; what was saved may be between two of them, never of two moments.
        assert store.load(version.selector).max() - store.load(version.selector).min() <= 1
    store.close()
