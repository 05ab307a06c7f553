"""The store as it was: names, versions, aliases and items at any earlier moment."""

from __future__ import annotations

import datetime
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.repository.conftest import now

import keepstone
from keepstone import ArtifactNotFoundError, HistoryGoneError, InvalidInputError, Past, Store
from keepstone.history.commit import Draft, RefChange
from keepstone.history.validate import horizon_value
from keepstone.repository.merging import merge


def test_names_versions_and_aliases_are_as_they_were(any_store: Store) -> None:
    store = any_store
    store.save("a", "one", metadata={"x": 1}, aliases=["prod"])
    store.save("gone", 1)
    then = now()
    store.save("a", "two", metadata={"x": 2}, aliases=["prod", "late"])
    store.save("b", 3)
    store.remove("gone")
    store.unalias("a", "late")

    past = store.at(then)
    assert past.load("a") == past.load("a@prod") == past.load("a@v1") == "one"
    assert past.load("gone") == 1
    assert past.names() == ["a", "gone"]
    assert past.names("g", kind="artifact") == ["gone"]
    assert [v.selector for v in past.versions("a")] == ["a@v1"]
    assert (past.aliases("a"), store.aliases("a")) == ({"prod": 1}, {"prod": 2})
    assert (past.kind("a"), past.kind("b")) == ("artifact", None)
    assert [past.exists(s) for s in ("a", "a@v2", "a@late", "b", "gone")] == [True, False, False, False, True]
    assert [v.selector for v in past.find(where=lambda v: v.metadata["x"] == 1)] == ["a@v1"]
    assert past.find(where=lambda v: v.metadata["x"] == 2) == []
    assert [entry.number for entry in past.history()] == [1, 0]
    assert [entry.number for entry in past.history("a")] == [0]
    assert past.commit == 1
    assert abs(past.when - then) < datetime.timedelta(microseconds=1)
    for selector in ("b", "a@v2", "a@late"):
        with pytest.raises(ArtifactNotFoundError):
            past.load(selector)


def test_a_version_that_was_removed_later_is_there_and_one_removed_before_is_not(store: Store) -> None:
    for value in "abc":
        store.save("x", value)
    store.remove("x@v2")
    between = now()
    store.remove("x")
    past = store.at(between)
    assert [v.number for v in past.versions("x")] == [3, 1]
    assert (past.load("x@v1"), past.load("x")) == ("a", "c")
    with pytest.raises(ArtifactNotFoundError, match="version 2 of 'x' was removed"):
        past.load("x@v2")
    with pytest.raises(ArtifactNotFoundError, match="version 4 of 'x' does not exist yet"):
        past.load("x@v4")
    assert store.at(1).load("x") == "b"
    assert [v.number for v in store.at(2).versions("x")] == [3, 2, 1]
    assert store.at(4).names() == []


def test_what_was_removed_and_given_back_is_there_when_it_was(store: Store) -> None:
    """Commits: 0-2 saves, 3 removes v1, 4 removes the name, 5 and 6 give both back, 7 removes v1 again."""
    for value in "abc":
        store.save("x", value)
    first = store.resolve("x@v1").created
    store.remove("x@v1")
    store.remove("x")
    store.undo(4)
    store.undo(3)
    store.remove("x@v1")
    expected = [[1], [2, 1], [3, 2, 1], [3, 2], [], [3, 2], [3, 2, 1], [3, 2]]
    for _ in range(2):
        for commit, numbers in enumerate(expected):
            past = store.at(commit)
            assert [v.number for v in past.versions("x")] == numbers, commit
            assert past.exists("x@v1") == (1 in numbers), commit
            if numbers:
                assert past.load("x") == "abc"[numbers[0] - 1], commit
                assert past.resolve("x").created <= past.when, commit
        assert store.at(2).resolve("x@v1").created == first
        merge(store.repository.session, packs_min=2)


def test_a_collection_is_as_it_was_in_journals_and_in_packs(any_store: Store) -> None:
    items = any_store.collection("c")
    items.update({"a": 1, "b": 1, "gone": 1})
    first = now()
    items["a"] = 2
    del items["gone"]
    items["big"] = bytes(9_000_000)
    second = now()
    items.update({"a": 3, "gone": 3, "late": 3})
    expected = {first: {"a": 1, "b": 1, "gone": 1}, second: {"a": 2, "b": 1, "big": bytes(9_000_000)}}

    for settle in (lambda: None, any_store.flush, lambda: merge(any_store.repository.session, packs_min=2)):
        settle()
        for moment, held in expected.items():
            past = any_store.at(moment).collection("c")
            assert dict(past) == held
            assert (list(past), len(past)) == (sorted(held), len(held))
            assert list(past.missing(["a", "gone", "late"])) == [
                k for k in ("a", "gone", "late") if k not in held
            ]
            assert "late" not in past
            with pytest.raises(keepstone.KeyNotFoundError):
                _ = past["late"]


def test_a_collection_has_the_snapshots_that_it_had(store: Store) -> None:
    items = store.collection("c")
    items["k"] = 1
    items.snapshot()
    then = now()
    items["k"] = 2
    items.snapshot(aliases=["prod"])
    past = store.at(then)
    assert dict(past.collection("c@latest")) == {"k": 1}
    assert [v.number for v in past.versions("c")] == [1]
    assert past.aliases("c") == {}
    assert past.names(kind="collection") == ["c"]
    with pytest.raises(ArtifactNotFoundError):
        past.collection("c@prod")


def test_moments_can_be_named_in_many_ways(store: Store) -> None:
    store.save("a", "one")
    then = now()
    store.save("a", "two")
    text = then.isoformat()
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    for when in (then, text, text.replace("+00:00", "Z"), then.astimezone(zone), 0):
        assert store.at(when).load("a") == "one", when
    today = datetime.datetime.now(datetime.UTC).date()
    tomorrow = today + datetime.timedelta(days=1)
    for when in (1, tomorrow, tomorrow.isoformat(), "2999-01-01"):
        assert store.at(when).load("a") == "two", when
    assert "2999" not in repr(store.at("2999-01-01"))


def test_before_the_first_commit_the_store_is_empty(store: Store) -> None:
    store.save("a", 1)
    store.collection("c")["k"] = 1
    past = store.at("2001-01-01")
    assert (past.names(), past.find(), list(past.history()), past.exists("a"), past.commit) == (
        [],
        [],
        [],
        False,
        -1,
    )
    with pytest.raises(ArtifactNotFoundError, match="there is no artifact 'a'"):
        past.load("a")
    with pytest.raises(ArtifactNotFoundError, match="there was no collection 'c' at 2001-01-01T23:59:59Z"):
        past.collection("c")


def test_the_future_is_now_and_stays_as_it_is_now(store: Store) -> None:
    store.save("a", 1)
    items = store.collection("c")
    items["k"] = 1
    past = store.at("2999-12-31")
    held = past.collection("c")
    store.save("a", 2)
    items.update({"k": 2, "l": 2})
    assert (past.load("a"), dict(held), dict(past.collection("c"))) == (1, {"k": 1}, {"k": 1})


def test_a_stamp_ahead_of_this_clock_is_seen_now(folder: Path) -> None:
    with keepstone.open(folder) as store:
        clock = store.repository.session.clock
        clock.now_ns, real = lambda: time.time_ns() + 1_800 * 10**9, clock.now_ns
        store.collection("c")["k"] = "stamped in half an hour"
        clock.now_ns = real
        assert dict(store.at("2999-01-01").collection("c")) == {"k": "stamped in half an hour"}


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("yesterday", "not a date or time: 'yesterday'"),
        ("0", "not a date or time: '0'"),
        (datetime.datetime(2026, 11, 20), "has no zone"),
        (-1, "commits are numbered from 0"),
        (2.5, "when is of type float"),
        (True, "when is of type bool"),
        (None, "when is of type NoneType"),
    ],
)
def test_what_is_no_moment_is_refused(store: Store, when: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        store.at(when)


def test_a_commit_that_is_not_there_yet_is_not_found(store: Store) -> None:
    store.save("a", 1)
    with pytest.raises(keepstone.NotFoundError, match="the log has no commit 7"):
        store.at(7)


@pytest.mark.parametrize(
    "write",
    [
        lambda past: past.save("a", 2),
        lambda past: past.alias("a@v1", "prod"),
        lambda past: past.unalias("a", "prod"),
        lambda past: past.remove("a"),
        lambda past: past.flush(),
        lambda past: past.recover(),
        lambda past: past.register(object()),
        lambda past: past.collection("c").__setitem__("k", 2),
        lambda past: past.collection("c").clear(),
        lambda past: past.collection("c").snapshot(),
    ],
)
def test_the_past_cannot_be_changed(store: Store, write: Callable[[Past], object]) -> None:
    store.save("a", 1)
    store.collection("c")["k"] = 1
    store.flush()
    past = store.at("2999-01-01")
    tip = store.repository.session.log.state.number
    with pytest.raises(InvalidInputError, match=r"as it was at|is how collection 'c' was") as caught:
        write(past)
    assert "store" in caught.value.hint
    assert store.repository.session.log.state.number == tip
    assert not hasattr(past, "nosuch")


def test_what_a_store_can_do_its_past_can_or_refuses(store: Store) -> None:
    past = store.at("2999-01-01")
    of_now = {"bundle", "close", "diff", "fsck", "pins", "stats", "verify"}
    for name, member in vars(Store).items():
        if callable(member) and not name.startswith("_") and name not in of_now | {"at"}:
            assert callable(getattr(past, name)), name


def test_the_past_crosses_processes_by_pickle(store: Store) -> None:
    store.save("a", 1)
    store.collection("c")["k"] = 1
    past = store.at(now())
    store.save("a", 2)
    store.collection("c")["k"] = 2
    again, items = pickle.loads(pickle.dumps((past, past.collection("c"))))
    assert (again.load("a"), again.when, dict(items)) == (1, past.when, {"k": 1})


def test_what_a_horizon_took_is_an_error_and_not_absence(store: Store) -> None:
    items = store.collection("c")
    items["old"] = 1
    store.flush()
    before = now()
    horizon = horizon_value(store.repository.session.clock.stamp())
    store.repository.session.log.append(lambda state: Draft(refs=(RefChange(":horizon/c", None, horizon),)))
    items["new"] = 2
    with pytest.raises(
        HistoryGoneError, match=r"what collection 'c' held at .* is not kept any more"
    ) as caught:
        store.at(before).collection("c")
    assert (caught.value.name, caught.value.since[:2]) == ("c", "20")
    assert dict(store.at(now()).collection("c")) == {"new": 2}
    assert store.at(now()).collection("c").get("old") is None
