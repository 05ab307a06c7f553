"""Two who change the same names at once: each verb decides on what the other one did, however late it sees it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import Store
from keepstone.repository.merging import merge


def before_the_slot_is_taken(
    store: Store, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let `work` happen once, after the next commit of `store` was drafted and before it takes its slot."""
    calls = store.repository.session.calls
    real = calls.link_open

    def link_open(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(calls, "link_open", real)
        work()
        real(*args, **options)

    monkeypatch.setattr(calls, "link_open", link_open)


def test_what_another_saved_just_now_can_be_given_an_alias(store: Store, other: Store) -> None:
    other.save("a", 1)
    store.alias("a", "prod")
    other.save("b", 1, aliases=["prod"])
    store.unalias("b", "prod")

    assert (other.aliases("a"), other.aliases("b")) == ({"prod": 1}, {})


def test_an_alias_never_means_a_version_that_is_removed_meanwhile(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("a", 1)
    store.save("a", 2)
    other.resolve("a")
    before_the_slot_is_taken(store, lambda: other.remove("a@v1"), monkeypatch)
    with pytest.raises(keepstone.ArtifactNotFoundError, match="version 1 of 'a' was removed"):
        store.alias("a@v1", "old")

    assert store.aliases("a") == {}
    assert store.fsck().ok


def test_removing_a_name_takes_along_what_is_saved_meanwhile(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("a", 1)
    before_the_slot_is_taken(store, lambda: other.save("a", 2), monkeypatch)

    assert store.remove("a") == ("a@v2", "a@v1")
    assert other.save("a", 3).number == 3
    assert [version.number for version in store.versions("a")] == [3]


def test_removing_a_collection_takes_along_what_is_published_meanwhile(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.collection("items")["a"] = 1
    late = other.collection("items", durability="store")
    late["b"] = 1

    # The first commit publishes that the items were removed, the second removes the name.
    before_the_slot_is_taken(
        store,
        lambda: before_the_slot_is_taken(store, lambda: late.update(b=2, c=3), monkeypatch),
        monkeypatch,
    )
    assert store.remove("items") == ("items",)

    assert dict(other.collection("items")) == {}
    assert other.names() == []


@pytest.mark.parametrize("nth", range(1, 9))
def test_an_error_says_landed_only_where_the_save_has_happened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    calls = FaultyCalls(only=("fsync",))
    monkeypatch.setattr("keepstone.storage.local.Calls", lambda: calls)
    with keepstone.open(folder) as store:
        store.save("a", 1)
        calls._count, calls._fail_at, calls._error = 0, nth, errno.EIO  # pyright: ignore[reportPrivateUsage]
        landed = True
        try:
            store.save("a", os.urandom(400_000))
        except keepstone.StorageError as error:
            landed = error.landed
        calls._fail_at = 0  # pyright: ignore[reportPrivateUsage]
        assert landed == store.exists("a@v2")


@pytest.mark.parametrize("verb", ["remove", "snapshot"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_what_comes_after_a_flush_has_not_landed_because_the_flush_did(
    folder: Path, monkeypatch: pytest.MonkeyPatch, nth: int, verb: str
) -> None:
    calls = FaultyCalls()
    monkeypatch.setattr("keepstone.storage.local.Calls", lambda: calls)
    with keepstone.open(folder) as store:
        items = store.collection("items")
        items["a"] = 1
        calls.arm(nth, error=errno.EIO, only=("fsync",))
        landed = True
        try:
            store.remove("items") if verb == "remove" else items.snapshot()
        except keepstone.StorageError as error:
            landed = error.landed
        calls.heal()
        assert landed == (store.names() == [] if verb == "remove" else store.exists("items@v1"))


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("what", ["a large artifact", "a snapshot"])
def test_what_is_undone_may_be_packed_anew_at_any_moment(folder: Path, what: str, nth: int) -> None:
    with keepstone.open(folder) as store:
        session = store.repository.session
        items = store.collection("items", durability="store")
        for number in range(4):
            store.save("a", os.urandom(300_000))
            items[str(number)] = os.urandom(200)
        store.save("large", os.urandom(2_500_000))
        items.snapshot()
        gone = "large" if what == "a large artifact" else "items@v1"
        store.remove(gone)
        calls, real, left = session.calls, session.calls.pread, [nth]

        def pread(fd: int, size: int, offset: int) -> bytes:
            left[0] -= 1
            if not left[0]:
                # As the sealer does in the background; where a lock keeps it waiting, it comes to it later.
                merging = threading.Thread(target=lambda: merge(session, packs_min=2))
                merging.start()
                merging.join(0.3)
            return real(fd, size, offset)

        calls.pread = pread
        store.undo(store.stats().commits - 1)

        assert store.exists(gone)
        assert store.fsck().ok
