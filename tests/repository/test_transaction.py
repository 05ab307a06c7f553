"""Transactions: all or nothing, in one commit; what a block sees, and who may use it."""

from __future__ import annotations

import os
import pickle
import threading
import time
from pathlib import Path

import pytest
from tests.faults.processes import finished, forked
from tests.repository.conftest import commits

import keepstone
from keepstone import InvalidInputError, RefConflictError, Store

# ---- all or nothing ----------------------------------------------------------------------------------------------


def test_several_names_change_in_one_commit(any_store: Store) -> None:
    any_store.save("a", 1)
    any_store.save("gone", 1)
    before = commits(any_store)
    with any_store.transaction(message="publish") as change:
        a = change.save("a", 2, metadata={"m": 1}, aliases=["prod"])
        b = change.save("b", b"bytes", parents=[a, "gone"])
        change.alias("a@v1", "old")
        change.remove("gone")

    assert commits(any_store) == before + 1
    assert (a.selector, b.selector) == ("a@v2", "b@v1")
    assert (a.created_new, a.metadata, a.created.tzinfo is not None) == (True, {"m": 1}, True)
    assert b.parents[0] == a.digest
    assert any_store.load("a@prod") == 2
    assert any_store.load("a@old") == 1
    assert any_store.load("b") == b"bytes"
    assert not any_store.exists("gone")
    assert any_store.resolve("a@prod") == a
    entry = next(any_store.history())
    assert entry.message == "publish"
    assert sorted(entry.changes) == ["a v2", "a@old v1", "a@prod v2", "b v1", "gone removed"]
    assert any_store.fsck(read_data=True).ok


def test_an_exception_in_the_block_changes_nothing(store: Store) -> None:
    store.save("a", 1)
    before = commits(store)
    with pytest.raises(ZeroDivisionError), store.transaction() as change:  # noqa: PT012
        version = change.save("a", 2)
        change.save("b", 1)
        raise ZeroDivisionError

    assert commits(store) == before
    assert store.load("a") == 1
    assert not store.exists("b")
    with pytest.raises(InvalidInputError, match="ended without a commit"):
        _ = version.number


def test_a_refused_step_is_no_part_of_what_is_committed(store: Store) -> None:
    store.save("a", 1)
    with store.transaction() as change:
        change.save("b", 1)
        with pytest.raises(keepstone.SerializerError):
            change.save("c", object())
        with pytest.raises(keepstone.ArtifactNotFoundError):
            change.alias("nosuch", "prod")
        with pytest.raises(keepstone.ArtifactNotFoundError):
            change.unalias("a", "prod")

    assert store.names() == ["a", "b"]


@pytest.mark.parametrize("count", [1, 1200])
def test_any_number_of_names_is_one_commit(store: Store, count: int) -> None:
    before = commits(store)
    with store.transaction() as change:
        versions = [change.save(f"n/{n:05}", {"n": n}) for n in range(count)]

    assert commits(store) == before + 1
    assert {version.number for version in versions} == {1}
    assert store.load(f"n/{count - 1:05}") == {"n": count - 1}
    assert len(store.names("n/")) == count
    with store.transaction() as change:
        for version in versions:
            change.remove(version.name)
    assert commits(store) == before + 2
    assert not store.names("n/")


def test_content_of_any_size_takes_part(store: Store) -> None:
    large = os.urandom(3_500_000)
    with store.transaction() as change:
        version = change.save("large", large)
        assert change.load("large") == large
        assert version.open().read() == large
        change.save("small", 1)

    assert store.load("large") == version.load() == large
    assert store.fsck(read_data=True).ok


def test_an_empty_block_and_one_that_only_reads_make_no_commit(store: Store, other: Store) -> None:
    store.save("a", 1)
    before = commits(store)
    with store.transaction():
        pass
    with store.transaction() as change:
        assert change.load("a") == 1
        assert not change.exists("b")
        other.save("a", 2)
    with store.transaction() as change:
        same = change.save("a", 2)

    assert commits(store) == before + 1
    assert (same.number, same.created_new) == (2, False)


def test_two_saves_of_one_name_are_two_versions(store: Store) -> None:
    store.save("a", 0)
    with store.transaction() as change:
        one = change.save("a", 1)
        two = change.save("a", 2)
        assert change.load("a") == 2
        again = change.save("a", 2)

    assert [one.number, two.number, again.number] == [2, 3, 3]
    assert (two.created_new, again.created_new) == (True, False)
    assert [store.load(f"a@v{n}") for n in (1, 2, 3)] == [0, 1, 2]
    assert next(store.history()).changes == ("a v2 to v3",)


def test_what_is_saved_and_removed_in_one_block_leaves_only_its_number(store: Store) -> None:
    with store.transaction() as change:
        change.save("a", 1)
        change.remove("a")
        assert not change.exists("a")

    assert not store.exists("a")
    assert store.save("a", 1).number == 2


# ---- what it sees ------------------------------------------------------------------------------------------------


def test_a_block_sees_its_own_changes_and_the_store_as_it_began(store: Store, other: Store) -> None:
    store.save("a", 1, aliases=["prod"])
    with store.transaction() as change:
        other.save("b", "later")
        with pytest.raises(keepstone.ArtifactNotFoundError):
            change.alias("b", "prod")
        change.save("a", 2)
        change.alias("a", "prod")
        change.alias("a@v1", "old")
        assert change.load("a") == change.load("a@prod") == 2
        assert change.load("a@old") == change.load("a@v1") == 1
        change.unalias("a", "old")
        assert not change.exists("a@old")
        assert store.load("a") == 1
        change.remove("a@v1")
        assert not change.exists("a@v1")
        with pytest.raises(keepstone.ConflictError, match="alias 'prod'"):
            change.remove("a@latest")

    assert store.aliases("a") == {"prod": 2}
    assert [version.number for version in store.versions("a")] == [2]


def test_a_version_has_no_number_before_the_end(store: Store) -> None:
    with store.transaction() as change:
        version = change.save("a", {"x": 1})
        assert (version.load(), version.size_bytes, version.name) == ({"x": 1}, 7, "a")
        for ask in (
            lambda: version.number,
            lambda: version.selector,
            lambda: version.created,
            lambda: version.created_new,
            lambda: pickle.dumps(version),
        ):
            with pytest.raises(InvalidInputError, match="has not ended yet"):
                ask()
        assert not change.exists("a@v1")
        with pytest.raises(keepstone.ArtifactNotFoundError, match="does not exist yet"):
            change.alias("a@v1", "prod")
        kept = {version}
        assert "a@v?" in repr(version)

    assert version in kept
    assert pickle.loads(pickle.dumps(version)) == version == store.resolve("a")


def test_collections_take_no_part(store: Store) -> None:
    store.collection("c")["k"] = 1
    with store.transaction() as change:
        assert change.exists("c")
        for refused in (lambda: change.remove("c"), lambda: change.save("c", 1), lambda: change.load("c")):
            with pytest.raises(keepstone.KindError):
                refused()


# ---- who may use it, and when ------------------------------------------------------------------------------------


def test_a_transaction_is_used_in_its_block_only(store: Store) -> None:
    change = store.transaction()
    with pytest.raises(InvalidInputError, match="has not begun"):
        change.save("a", 1)
    with change:
        change.save("a", 1)
        with pytest.raises(InvalidInputError, match="begun before"):
            change.__enter__()
    for use in (
        lambda: change.save("a", 2),
        lambda: change.load("a"),
        lambda: change.exists("a"),
        lambda: change.alias("a", "x"),
    ):
        with pytest.raises(InvalidInputError, match="has ended"):
            use()
    with pytest.raises(InvalidInputError, match="begun before"):
        change.__enter__()
    assert store.load("a") == 1


def test_a_store_that_is_only_read_begins_no_transaction(store: Store, folder: Path) -> None:
    store.save("a", 1)
    with keepstone.open(folder, mode="r") as reader, pytest.raises(keepstone.StoragePermissionError):
        reader.transaction()


def test_a_forked_child_cannot_commit_its_parents_transaction(store: Store) -> None:
    with store.transaction() as change:
        change.save("a", 1)

        def child() -> None:
            with pytest.raises(InvalidInputError, match="another process"):
                change.save("a", 2)
            with pytest.raises(InvalidInputError, match="another process"):
                change.__exit__(None, None, None)

        assert finished(forked(child))

    assert [version.number for version in store.versions("a")] == [1]


def test_one_transaction_serves_many_threads(store: Store) -> None:
    with store.transaction() as change:

        def work(thread: int) -> None:
            for n in range(20):
                change.save(f"t/{thread}/{n}", n)
                assert change.load(f"t/{thread}/{n}") == n

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(store.names("t/")) == 80
    assert commits(store) == 1


def test_transactions_inside_of_each_other_are_strangers(store: Store) -> None:
    store.save("a", 1)
    with pytest.raises(RefConflictError), store.transaction() as outer:  # noqa: PT012
        outer.save("b", outer.load("a"))
        with store.transaction() as inner:
            inner.save("a", inner.load("a") + 1)

    assert (store.load("a"), store.exists("b")) == (2, False)


def test_asking_for_a_new_name_among_many_does_not_look_at_them_all(store: Store) -> None:
    with store.transaction() as change:
        for number in range(2_000):
            change.save(f"runs/{number:05d}/model", 1)
    begun = time.process_time()
    with store.transaction() as change:
        assert not any(change.exists(f"runs/{number}/models") for number in range(50))
        change.save("new", 1)
    assert not any(store.exists(f"runs/{number}/models") for number in range(50))

    # Names that are spelled alike are looked for where an error tells of them: that takes 50 ms each.
    assert time.process_time() - begun < 1
