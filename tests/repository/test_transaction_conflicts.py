"""Transactions beside other writers: what was read must still be so, what was only written is built again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.processes import finished, forked
from tests.repository.conftest import commits

import keepstone
from keepstone import InvalidInputError, RefConflictError, Store, Transaction
from keepstone.repository.merging import merge

# ---- who was first -----------------------------------------------------------------------------------------------


def test_saves_without_reads_rebase(store: Store, other: Store) -> None:
    store.save("a", 0)
    with store.transaction() as change:
        a, b = change.save("a", "mine"), change.save("b", "mine")
        change.alias("a", "prod")
        other.save("a", "theirs")
        other.save("b", "theirs")

    assert (a.number, b.number) == (3, 2)
    assert store.load("a@prod") == "mine"
    assert [store.load(f"a@v{n}") for n in (1, 2, 3)] == [0, "theirs", "mine"]


def test_what_was_saved_meanwhile_by_another_makes_no_second_version(store: Store, other: Store) -> None:
    with store.transaction() as change:
        a = change.save("a", "same")
        other.save("a", "same")
        assert change.load("a") == "same"

    assert (a.number, a.created_new) == (1, False)


READS: dict[str, tuple[Callable[[Transaction], object], Callable[[Store], object]]] = {
    "a name": (lambda c: c.load("a"), lambda s: s.save("a", "new")),
    "an alias": (lambda c: c.resolve("a@prod"), lambda s: s.alias("a@v1", "prod")),
    "an alias that is absent": (lambda c: c.exists("a@new"), lambda s: s.alias("a@v1", "new")),
    "a name that is absent": (lambda c: c.exists("b"), lambda s: s.save("b", 1)),
    "a version": (lambda c: c.load("a@v1"), lambda s: s.remove("a@v1")),
    "a version that is absent": (lambda c: c.exists("a@v3"), lambda s: s.save("a", "new")),
    "a digest": (lambda c: c.load("a@" + c.resolve("a@v2").digest), lambda s: s.remove("a")),
    "a collection": (lambda c: c.exists("c"), lambda s: s.remove("c")),
    "a name by way of an own alias": (
        lambda c: (c.alias("a", "mine"), c.load("a@mine")),
        lambda s: s.save("a", "new"),
    ),
    "a name behind an own removal": (
        lambda c: (c.unalias("a", "prod"), c.remove("a@v2"), c.load("a")),
        lambda s: s.save("a", "new"),
    ),
}


@pytest.mark.parametrize("what", READS)
def test_what_was_read_must_still_be_so(store: Store, other: Store, what: str) -> None:
    read, disturb = READS[what]
    store.save("a", 1)
    store.save("a", 2, aliases=["prod"])
    store.collection("c", durability="store")["k"] = 1
    match = "when this transaction read it"
    with pytest.raises(RefConflictError, match=match) as caught, store.transaction() as change:  # noqa: PT012
        read(change)
        saved = change.save("result", 1)
        disturb(other)
        length = commits(other)

    assert caught.value.hint
    assert commits(store) == length
    assert not store.exists("result")
    with pytest.raises(InvalidInputError, match="ended without a commit"):
        _ = saved.number


def test_a_version_that_is_removed_while_it_is_read_is_a_conflict(store: Store, other: Store) -> None:
    store.save("a", 1)
    store.save("a", 2)
    with pytest.raises(RefConflictError, match="'a'"), store.transaction() as change:  # noqa: PT012
        other.remove("a@v2")
        store.exists("a")
        change.load("a")


def test_reads_that_nobody_disturbs_are_no_obstacle(store: Store, other: Store) -> None:
    store.save("a", 1)
    with store.transaction() as change:
        n = change.load("a")
        change.load("a@v1")
        other.save("b", 1)
        change.save("a", n + 1)

    assert store.load("a") == 2


def test_expectations_are_looked_at_when_the_block_ends(store: Store, other: Store) -> None:
    one = store.save("a", 1)
    with pytest.raises(RefConflictError, match="'a' is at"), store.transaction() as change:  # noqa: PT012
        change.save("a", 2, expected=one.digest)
        change.save("b", 2, expected=None)
        other.save("a", "theirs")
    with pytest.raises(RefConflictError, match="alias a@prod is absent"), store.transaction() as change:
        change.alias("a", "prod", expected="a@v1")
    with store.transaction() as change:
        theirs = store.resolve("a")
        mine = change.save("a", 2, expected=theirs.digest)
        change.save("a", 3, expected=mine.digest)
        change.alias("a", "prod", expected=None)

    assert (store.load("a"), store.load("a@prod"), store.exists("b")) == (3, 3, False)


# ---- many at once ------------------------------------------------------------------------------------------------


def transfer(store: Store, amount: int) -> int:
    """Move `amount` from one account to the other; return how often it had to be tried again."""
    tries = 0
    while True:
        try:
            with store.transaction() as change:
                left, right = change.load("left"), change.load("right")
                change.save("left", left - amount)
                change.save("right", right + amount)
            return tries
        except RefConflictError:
            tries += 1


def test_the_sum_of_two_counters_stays(store: Store, folder: Path) -> None:
    store.save("left", 0)
    store.save("right", 0)
    store.close()

    def work() -> None:
        with keepstone.open(folder) as mine:
            threads = [threading.Thread(target=lambda: [transfer(mine, 1) for _ in range(6)]) for _ in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    children = [forked(work) for _ in range(2)]
    assert all(finished(child) for child in children)
    with keepstone.open(folder) as again:
        assert (again.load("left"), again.load("right")) == (-24, 24)
        assert again.resolve("left").number == 25
        assert all(again.load(f"left@v{n}") + again.load(f"right@v{n}") == 0 for n in range(1, 26))


# ---- packs that are replaced meanwhile -----------------------------------------------------------------------------


def test_content_whose_pack_is_merged_meanwhile_is_relied_on_where_it_is_now(
    store: Store, other: Store
) -> None:
    known = os.urandom(300_000)
    store.save("known", known)
    store.save("more", os.urandom(300_000))
    before = commits(store)
    with store.transaction() as change:
        version = change.save("again", known, metadata={"m": 1})
        large = change.save("large", os.urandom(3_000_000))
        other.repository.session.refresh()
        assert merge(other.repository.session, packs_min=2)
        length = commits(other)

    assert length > before
    assert commits(store) == length + 1
    assert version.load() == store.load("again") == known
    assert large.load() == store.load("large")
    assert store.fsck(read_data=True).ok
