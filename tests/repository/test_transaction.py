"""Transactions: all or nothing, one commit, and what was read must still be so."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.faults.processes import finished, forked
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import InvalidInputError, RefConflictError, Store, Transaction
from keepstone.repository import opening
from keepstone.repository.merging import merge


@pytest.fixture
def other(store: Store, folder: Path, tmp_path: Path) -> Iterator[Store]:
    """The same store through another door: a session that shares nothing with the first."""
    (tmp_path / "door").symlink_to(folder)
    with keepstone.open(tmp_path / "door") as opened:
        assert opened.repository is not store.repository
        yield opened


def commits(store: Store) -> int:
    store.repository.session.refresh()
    return store.repository.session.log.state.length


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


# ---- faults ------------------------------------------------------------------------------------------------------

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
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[bool] = set()
    for nth in range(1, 100):
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


# ---- against a model -----------------------------------------------------------------------------------------------

_NAMES = st.sampled_from("abc")
_STEPS = st.one_of(
    st.tuples(st.just("save"), _NAMES, st.integers(0, 3)),
    st.tuples(st.just("add"), _NAMES, _NAMES),
    st.tuples(st.just("remove"), _NAMES, st.none()),
    st.tuples(st.just("other"), _NAMES, st.integers(4, 6)),
)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(blocks=st.lists(st.tuples(st.lists(_STEPS, max_size=5), st.booleans()), max_size=4))
def test_any_transactions_give_what_a_dict_gives(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[list[tuple[str, Any, Any]], bool]]
) -> None:
    """`other` saves through a second session while the block lasts: a conflict if and only if its name was read."""
    place = tmp_path_factory.mktemp("model")
    with keepstone.open(place / "s") as store:
        (place / "door").symlink_to(place / "s")
        with keepstone.open(place / "door") as second:
            model: dict[str, int] = {}
            for steps, fails in blocks:
                model = run_block(store, second, model, steps, fails)
                assert {name: store.load(name) for name in store.names()} == model
                assert {name: second.load(name) for name in second.names()} == model
        assert store.fsck().ok


def run_block(
    store: Store, second: Store, model: dict[str, int], steps: list[tuple[str, Any, Any]], fails: bool
) -> dict[str, int]:
    """Run one transaction; return what a dict would hold after it."""
    theirs = dict(model)
    replayed: list[Callable[[dict[str, int]], object]] = []
    mine, own = dict(model), set[str]()
    read: set[str] = set()
    moved: set[str] = set()
    """Names of which `other` made a version; that the value is what it was before changes nothing."""
    expected: type[Exception] = ZeroDivisionError
    try:
        with store.transaction() as change:
            for verb, name, value in steps:
                if verb == "save":
                    change.save(name, value)
                    mine[name] = value
                    own.add(name)
                    replayed.append(lambda d, n=name, v=value: d.update({n: v}))
                elif verb == "add":
                    for asked in (name, value):
                        assert change.exists(asked) == (asked in mine)
                        if asked not in own:
                            read.add(asked)
                    total = sum(change.load(asked) if asked in mine else 0 for asked in (name, value))
                    assert total == mine.get(name, 0) + mine.get(value, 0)
                    change.save(name, total)
                    mine[name] = total
                    own.add(name)
                    replayed.append(lambda d, n=name, v=total: d.update({n: v}))
                elif verb == "remove" and name in mine:
                    change.remove(name)
                    del mine[name]
                    own.add(name)
                    replayed.append(lambda d, n=name: d.pop(n))
                elif verb == "other":
                    second.save(name, value)
                    if theirs.get(name) != value:
                        moved.add(name)
                    theirs[name] = value
            if fails:
                raise expected
    except ZeroDivisionError:
        return theirs
    except RefConflictError:
        conflict = True
    else:
        conflict = False
    assert conflict == (bool(replayed) and not read.isdisjoint(moved))
    if conflict:
        return theirs
    for step in replayed:
        step(theirs)
    return theirs
