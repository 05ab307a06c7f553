"""Collections as mappings: keys, values, levels, many writers, sealing and merging underneath."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import keepstone
from keepstone.api import Store
from keepstone.history.commit import Draft, RefChange
from keepstone.history.validate import horizon_value
from keepstone.repository.merging import plan_merge


@dataclass
class Answer:
    value: int


def test_mapping_keeps_what_it_is_given(any_store: Store) -> None:
    items = any_store.collection("c")
    items["a"] = {"x": 1}
    items["b"] = "text"
    items["c"] = b"bytes"
    items["d"] = None

    assert dict(items) == {"a": {"x": 1}, "b": "text", "c": b"bytes", "d": None}
    assert len(items) == 4
    assert "a" in items
    assert "z" not in items
    assert 3 not in items
    assert items.get("z", 7) == 7


def test_a_missing_key_is_a_key_error(store: Store) -> None:
    items = store.collection("c")
    for ask in (lambda: items["z"], lambda: items.__delitem__("z"), lambda: items.digest_of("z")):
        with pytest.raises(KeyError) as caught:
            ask()
        assert isinstance(caught.value, keepstone.KeyNotFoundError)
        assert "'c' has no key 'z'" in str(caught.value)


@pytest.mark.parametrize("key", ["", "a/b", "@", "\n", "x" * 4096, "ü" * 2048, ":", "../..", "🦆"])
def test_any_text_of_four_kilobytes_is_a_key(store: Store, key: str) -> None:
    items = store.collection("c")
    items[key] = 1
    assert list(items) == [key]
    items.flush()
    assert items[key] == 1
    assert list(items) == [key]


@pytest.mark.parametrize("key", ["x" * 4097, "\ud800", 3, None, b"a"])
def test_other_keys_are_refused(store: Store, key: str) -> None:
    with pytest.raises(keepstone.InvalidInputError, match="key"):
        store.collection("c")[key] = 1


def test_values_come_as_the_type_that_was_asked_for(store: Store) -> None:
    items = store.collection("c", type=Answer)
    items["a"] = Answer(72)
    assert items["a"] == Answer(72)
    items.flush()
    assert items["a"] == Answer(72)
    assert list(items.values()) == [Answer(72)]


def test_the_newest_value_wins_across_flushes(store: Store) -> None:
    items = store.collection("c")
    for value in range(5):
        items["k"] = value
        items.flush()
    items["k"] = 99
    assert items["k"] == 99
    assert len(items) == 1
    items.flush()
    assert items["k"] == 99
    assert list(items) == ["k"]


def test_removed_keys_stay_removed_across_flushes_and_reopening(store: Store, folder: Path) -> None:
    items = store.collection("c")
    items["a"], items["b"] = 1, 2
    items.flush()
    del items["a"]
    assert "a" not in items
    assert list(items) == ["b"]
    assert list(items.missing(["a", "b"])) == ["a"]
    items.flush()
    store.close()
    with keepstone.open(folder) as again:
        reopened = again.collection("c")
        assert list(reopened) == ["b"]
        assert "a" not in reopened
        reopened["a"] = 3
        assert dict(reopened) == {"a": 3, "b": 2}


def test_missing_keeps_the_order_and_streams(store: Store) -> None:
    items = store.collection("c")
    items.add_many((f"k{i}", i) for i in range(0, 100, 2))

    asked = iter(f"k{i}" for i in range(10))
    absent = items.missing(asked)
    assert next(absent) == "k1"
    assert next(asked) == "k2"
    assert list(absent) == ["k3", "k5", "k7", "k9"]


def test_add_many_keeps_what_came_before_an_error(store: Store) -> None:
    items = store.collection("c")

    def pairs() -> Iterator[tuple[str, int]]:
        yield from (("a", 1), ("b", 2))
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        items.add_many(pairs())
    assert dict(items) == {"a": 1, "b": 2}


def test_update_and_clear_are_those_of_a_mapping(store: Store) -> None:
    items = store.collection("c")
    items.update({"a": 1}, b=2)
    items.update([("c", 3)])
    assert dict(items) == {"a": 1, "b": 2, "c": 3}
    items.clear()
    assert dict(items) == {}
    assert len(items) == 0
    assert items.setdefault("x", 5) == 5
    assert items.pop("x") == 5
    assert "x" not in items


def test_large_values_bypass_the_journal(store: Store) -> None:
    items = store.collection("c")
    content = bytes(range(256)) * 40_000
    items["big"] = content
    items["small"] = 1

    assert store.stats().journal_bytes < 4096
    assert items["big"] == content
    items.flush()
    assert items["big"] == content
    assert sorted(items) == ["big", "small"]
    items["big"] = b"small now"
    items.flush()
    assert items["big"] == b"small now"


def test_folders_can_be_values(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.txt").write_text("hello")
    items = store.collection("c", type=dict)
    items["folder"] = tmp_path / "f"  # type: ignore[assignment]

    assert items["folder"] == {"a.txt": b"hello"}


def test_unknown_durability_is_refused(store: Store) -> None:
    with pytest.raises(keepstone.InvalidInputError, match="durability 'fast'"):
        store.collection("c", durability="fast")  # type: ignore[call-overload]


@pytest.mark.parametrize("durability", ["process", "disk", "store"])
def test_another_session_sees_items_at_once(store: Store, folder: Path, durability: str) -> None:
    store.collection("c", durability=durability)["a"] = 1  # type: ignore[call-overload]
    with keepstone.open(folder, mode="r") as reader:
        items = reader.collection("c")
        assert items["a"] == 1
        store.collection("c")["b"] = 2
        assert items["b"] == 2
        assert sorted(items) == ["a", "b"]
        with pytest.raises(keepstone.StoragePermissionError):
            items["c"] = 3


def test_opening_a_collection_writes_nothing(store: Store) -> None:
    items = store.collection("c")
    assert len(items) == 0
    assert "x" not in items
    assert list(items.missing(["x"])) == ["x"]
    assert store.names() == []
    assert store.stats().commits == 0


def test_removing_a_collection_removes_its_keys(store: Store) -> None:
    items = store.collection("c")
    items.add_many((str(i), i) for i in range(10))
    assert store.remove("c") == ("c",)
    assert store.names() == []
    assert len(store.collection("c")) == 0
    store.collection("c")["new"] = 1
    assert store.names() == ["c"]
    assert dict(store.collection("c")) == {"new": 1}


def test_many_threads_lose_nothing(store: Store) -> None:
    items = store.collection("c")

    def work(thread: int) -> None:
        for i in range(100):
            items[f"{thread}-{i}"] = i
            if i % 40 == 39:
                items.flush()

    threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(items) == 600
    assert all(items[f"{t}-{i}"] == i for t in range(6) for i in range(0, 100, 7))


def test_many_small_packs_are_merged(store: Store) -> None:
    items = store.collection("c")
    for i in range(40):
        items[f"k{i}"] = {"n": i}
        items.flush()
    items["k0"] = {"n": -1}
    del items["k1"]
    items.flush()

    packs = store.repository.session.log.state.packs
    assert len(packs) < 20
    assert not plan_merge(store.repository.session.log.state)
    assert {k: v["n"] for k, v in items.items()} == {"k0": -1, **{f"k{i}": i for i in range(2, 40)}}


def test_collection_pickles_as_its_place(store: Store) -> None:
    items = store.collection("c", type=Answer, durability="process")
    items["a"] = Answer(1)
    again = pickle.loads(pickle.dumps(items))

    assert again["a"] == Answer(1)
    assert again.durability == "process"


def test_digest_of_is_that_of_the_stored_bytes(store: Store) -> None:
    items = store.collection("c")
    items["a"], items["b"] = b"same", b"same"
    assert items.digest_of("a") == items.digest_of("b") == keepstone.Digest.of(b"same")


def test_setting_an_item_after_the_collection_was_removed_lists_it_again(store: Store) -> None:
    items = store.collection("items")
    items["a"] = 1
    store.remove("items")
    assert store.names() == []

    items["b"] = 2

    assert store.names() == ["items"]
    assert dict(items) == {"b": 2}


def test_an_item_set_by_one_who_did_not_know_of_the_removal_lists_the_collection_again(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    # The same folder by another name is a session of its own.
    (tmp_path / "other").symlink_to(folder)
    with keepstone.open(tmp_path / "other") as other:
        items = other.collection("items", durability="process")
        items["a"] = 1
        store.remove("items")

        items["b"] = 2
        other.flush()

    assert store.names() == ["items"]
    assert dict(store.collection("items")) == {"b": 2}


def test_a_journal_from_before_the_removal_does_not_list_the_collection_again(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").symlink_to(folder)
    with keepstone.open(tmp_path / "other") as other:
        other.collection("items", durability="process")["a"] = 1
        store.remove("items")

        other.flush()

    assert store.names() == []
    assert dict(store.collection("items")) == {}


@pytest.mark.parametrize("ahead_ns", [0, 600 * 10**9, 7_200 * 10**9])
@pytest.mark.parametrize("published", [True, False])
def test_entries_below_the_horizon_are_dead_and_those_that_are_set_now_are_not(
    folder: Path, published: bool, ahead_ns: int
) -> None:
    with keepstone.open(folder) as store:
        items = store.collection("items", durability="process")
        items.update(old=1, again=1)
        if published:
            store.flush()
        session = store.repository.session
        horizon = horizon_value(session.clock.stamp() + ahead_ns)
        session.log.append(lambda state: Draft(refs=(RefChange(":horizon/items", None, horizon),)))
        session.refresh()
        assert dict(items) == {}
        items.update(again=2, new=3)
        items["large"] = b"x" * 9_000_000
        items["again"] = 4

        assert "old" not in items
        assert list(items.missing(["old", "new"])) == ["old"]
        assert sorted(items) == ["again", "large", "new"]
        assert (len(items), items["again"], items["new"]) == (3, 4, 3)
        assert sorted(items.snapshot().items()) == ["again", "large", "new"]
    with keepstone.open(folder) as store:
        assert sorted(store.collection("items")) == ["again", "large", "new"]
