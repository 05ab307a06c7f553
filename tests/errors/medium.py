"""A medium that is full or fails, a clock that goes backwards, a fork."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Final

from tests.errors.store_to_harm import Place
from tests.storage.faulty_calls import FaultyCalls

from keepstone import KeepstoneError
from keepstone.repository.collection import Collection
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.repository import Repository
from keepstone.storage.local import LocalStorage


def faulty(
    code: int, only: tuple[str, ...], act: Callable[[Repository], object]
) -> Callable[[Place], object]:
    """Do `act` on a medium whose calls fail from the first matching one on; what was there must still be there."""

    def provoke(place: Place) -> object:
        before = place.read_all()
        calls = FaultyCalls(only=only, fail_at=1, error=code, forever=True)
        repository = open_repository(LocalStorage(place.path, calls=calls), create=False, writable=True)
        try:
            return act(repository)
        finally:
            try:
                close_repository(repository)
            except KeepstoneError:
                pass
            assert place.read_all() == before

    return provoke


def set_item(repository: Repository) -> None:
    Collection[Any](repository, "c", None, "disk")["new"] = 1


def save_version(repository: Repository) -> None:
    repository.save("new", 1)


def clock_back(place: Place) -> object:
    store = place.open()
    clock = store.repository.session.clock
    store.collection("c")["k"] = "before"
    real, clock.now_ns = clock.now_ns, lambda: 0
    store.collection("c")["k"] = "after"
    store.save("a", "later")
    clock.now_ns = real
    assert store.collection("c")["k"] == "after"
    assert store.load("a") == "later"


def forked(place: Place) -> object:
    answers = place.collection
    answers["parent"] = 1
    child = os.fork()
    if not child:
        try:
            answers["child"] = answers["parent"] + 1
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    answers["parent"] = 3
    assert (answers["child"], answers["parent"]) == (2, 3)


MEDIUM: Final[dict[str, Callable[[Place], object]]] = {
    "the disk is full while an item is set": faulty(errno.ENOSPC, ("write",), set_item),
    "the disk is full while a version is saved": faulty(errno.ENOSPC, ("write",), save_version),
    "writing fails with EIO": faulty(errno.EIO, ("write",), save_version),
    "syncing fails with EIO": faulty(errno.EIO, ("fsync", "fdatasync"), save_version),
    "a clock that goes backwards": clock_back,
    "a fork after a store was opened": forked,
}
