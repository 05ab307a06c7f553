"""Snapshots: a collection's content at one moment, as a version that never changes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.repository.conftest import newest_commit

import keepstone
from keepstone import ArtifactNotFoundError, InvalidInputError, KindError, Store
from keepstone.history.commit import Commit
from keepstone.history.validate import horizon_value
from keepstone.repository.entries import pack_place


class Answer(msgspec.Struct):
    text: str


def blobs_of(store: Store, commit: Commit) -> int:
    """Return how many blobs a commit added."""
    session = store.repository.session
    packs = [session.log.state.packs[record.name] for record in commit.added]
    return sum(session.blobs.index(pack_place(pack)).blob_count for pack in packs)


def test_a_snapshot_stays_as_it_was(any_store: Store) -> None:
    answers = any_store.collection("answers")
    answers.update({"a": 1, "b": "two", "c": b"3", "big": bytes(9_000_000), "gone": 0})
    del answers["gone"]
    then = dict(answers)
    version = answers.snapshot(message="first", metadata={"accuracy": 0.5}, aliases=["prod"])
    answers["a"] = 100
    del answers["b"]

    frozen = any_store.collection("answers@v1")
    assert dict(frozen) == then
    assert (len(frozen), list(frozen)) == (4, ["a", "b", "big", "c"])
    assert ("b" in frozen, "gone" in frozen, "0" in frozen, "zz" in frozen) == (True, False, False, False)
    assert list(frozen.missing(["a", "zz"])) == ["zz"]
    with pytest.raises(keepstone.KeyNotFoundError, match="has no key 'gone'"):
        _ = frozen["gone"]
    assert any_store.load("answers@prod") == version.load() == then
    assert (version.selector, version.number, version.created_new) == ("answers@v1", 1, True)
    assert version.metadata == {"accuracy": 0.5}
    assert dict(answers) == {key: 100 if key == "a" else value for key, value in then.items() if key != "b"}


def test_selectors_of_a_collection_mean_its_snapshots(store: Store) -> None:
    answers = store.collection("answers")
    answers["k"] = "one"
    first = answers.snapshot(aliases=["prod"])
    answers["k"] = "two"
    second = answers.snapshot()

    for selector, value in {
        "@v1": "one",
        "@prod": "one",
        "@latest": "two",
        f"@{first.digest[:20]}": "one",
        "@2999-01-01": "two",
    }.items():
        assert dict(store.collection("answers" + selector)) == {"k": value}, selector
        assert store.exists("answers" + selector)
    assert store.versions("answers") == [second, first]
    assert store.aliases("answers") == {"prod": 1}
    assert store.names(kind="collection") == ["answers"]
    assert store.names(kind="artifact") == []
    with pytest.raises(KindError, match="'answers' is a collection, not an artifact"):
        store.load("answers")
    with pytest.raises(KindError, match="'answers' is a collection, not an artifact"):
        store.save("answers", 1)


def test_what_equals_the_newest_snapshot_makes_no_new_one(store: Store) -> None:
    answers = store.collection("answers")
    answers.update({str(i): i for i in range(50)})
    first = answers.snapshot()
    tip = store.repository.session.log.state.number

    again = answers.snapshot()
    assert (again.digest, again.number, again.created_new) == (first.digest, 1, False)
    assert store.repository.session.log.state.number == tip
    moved = answers.snapshot(aliases=["prod"])
    assert (moved.number, moved.created_new, store.aliases("answers")) == (1, False, {"prod": 1})
    other = answers.snapshot(metadata={"x": 1})
    assert (other.number, other.created_new) == (2, True)
    assert blobs_of(store, newest_commit(store)) == 1, "the leaves are there already"


def test_equal_items_have_equal_digests_whatever_their_history(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "one") as one, keepstone.open(tmp_path / "two") as two:
        a, b = one.collection("a", durability="process"), two.collection("b", durability="process")
        a.update({f"k{i}": i for i in range(3_000)})
        b["other"] = 1
        for i in reversed(range(3_000)):
            b[f"k{i}"] = -i
        b.flush()
        b.update({f"k{i}": i for i in range(3_000)})
        del b["other"]
        assert a.snapshot().digest == b.snapshot().digest


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_one_changed_key_stores_one_leaf_and_the_root(folder: Path, count: int) -> None:
    with keepstone.open(folder) as store:
        answers = store.collection("answers", durability="process")
        answers.add_many((f"question-{i:06d}", i) for i in range(count))
        first = answers.snapshot()
        answers["question-004321"] = "changed"
        store.flush()
        second = answers.snapshot()

        added = newest_commit(store)
        assert blobs_of(store, added) == 2
        changed = {p.digest for p in second.parts} - {p.digest for p in first.parts}
        assert len(changed) == 1
        leaf = next(part.size for part in second.parts if part.digest in changed)
        assert sum(record.size for record in added.added) < leaf + 64 * len(second.parts) + 1_000
        assert len(first.parts) > count // 2_000
        assert store.collection("answers@v1")["question-004321"] == 4321
        assert store.collection("answers@v2")["question-004321"] == "changed"
        assert len(store.collection("answers@v1")) == count


def test_an_empty_collection_can_be_kept_and_one_that_is_not_there_cannot(store: Store) -> None:
    answers = store.collection("answers")
    with pytest.raises(
        keepstone.ArtifactNotFoundError, match="no collection 'answers' to take a snapshot of"
    ):
        answers.snapshot()
    answers["k"] = 1
    answers.clear()
    with pytest.raises(keepstone.ArtifactNotFoundError, match="collection 'answers' has no snapshot"):
        store.collection("answers@latest")
    assert store.versions("answers") == []
    assert answers.snapshot().load() == {}
    assert not store.collection("answers@v1")


def test_types_are_built_and_values_of_parts_are_kept(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("content")
    answers = store.collection("answers", type=Answer)
    answers["one"] = Answer("72")
    answers.snapshot()
    assert store.collection("answers@v1", type=Answer)["one"] == Answer("72")
    assert store.load("answers@v1", type=Answer) == {"one": Answer("72")}
    mixed = store.collection("mixed")
    mixed["file"] = tmp_path / "file.txt"
    mixed.snapshot()
    del mixed["file"]
    assert dict(store.collection("mixed@v1")) == {"file": b"content"}


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.__setitem__("a", 2),
        lambda c: c.__delitem__("a"),
        lambda c: c.add_many([("a", 2)]),
        lambda c: c.update(a=2),
        lambda c: c.setdefault("z", 2),
        lambda c: c.pop("a"),
        lambda c: c.popitem(),
        lambda c: c.clear(),
        lambda c: c.create(),
        lambda c: c.flush(),
        lambda c: c.snapshot(),
    ],
)
def test_every_write_is_refused(store: Store, write: Callable[[Any], object]) -> None:
    answers = store.collection("answers")
    answers["a"] = 1
    answers.snapshot()
    tip = store.repository.session.log.state.number

    with pytest.raises(InvalidInputError, match="answers@v1 is how collection 'answers' was") as caught:
        write(store.collection("answers@v1"))

    assert "store.collection('answers')" in caught.value.hint
    assert dict(answers) == {"a": 1}
    assert store.repository.session.log.state.number == tip


def test_a_snapshot_has_no_files_and_an_artifact_no_items(store: Store, tmp_path: Path) -> None:
    store.save("a", 1)
    store.collection("c")["k"] = 1
    version = store.collection("c").snapshot()
    with pytest.raises(KindError, match="'a' is an artifact, not a collection"):
        store.collection("a@v1")
    with pytest.raises(InvalidInputError, match="c@v1 is a snapshot of a collection"):
        version.checkout(tmp_path / "out")
    with pytest.raises(InvalidInputError, match="c@v1 is a snapshot of a collection"):
        version.open()
    assert not (tmp_path / "out").exists()


def test_a_collection_where_a_version_is_meant_is_told_of_its_snapshots(store: Store) -> None:
    items = store.collection("c")
    items["k"] = 1
    with pytest.raises(KindError) as caught:
        store.diff("c", "c")
    assert "`keepstone snapshot c` makes one" in caught.value.hint
    items.snapshot()
    with pytest.raises(KindError) as caught:
        store.alias("c", "prod")
    assert "c@latest is its newest snapshot" in caught.value.hint
    store.remove("c")
    for selector in ("c", "c@v1", "c@latest"):
        with pytest.raises(ArtifactNotFoundError, match="there is no collection 'c' any more"):
            store.resolve(selector)


def test_removing_a_snapshot_and_the_whole_collection(store: Store) -> None:
    answers = store.collection("answers")
    for value in (1, 2, 3):
        answers["k"] = value
        answers.snapshot(aliases=["first"] if value == 1 else ())
    assert store.remove("answers@v3") == ("answers@v3",)
    assert [v.number for v in store.versions("answers")] == [2, 1]
    assert dict(store.collection("answers@latest")) == {"k": 2}
    with pytest.raises(keepstone.ConflictError, match="alias 'first' means v1"):
        store.remove("answers@v1")
    answers["k"] = 4
    assert answers.snapshot().number == 4

    assert store.remove("answers") == ("answers", "answers@v4", "answers@v2", "answers@v1")
    assert (store.names(), store.aliases("answers"), store.versions("answers")) == ([], {}, [])
    assert store.fsck().findings == ()
    answers = store.collection("answers")
    answers["k"] = 5
    assert answers.snapshot().number == 5, "numbers are never given again"
    lines = [line for entry in store.history("answers") for line in entry.changes]
    assert lines[:2] == ["answers v5", "answers created as a collection"]
    assert "answers v3 removed; newest v2" in lines


def test_a_snapshot_crosses_processes_by_pickle(store: Store) -> None:
    store.collection("c").update({"a": 1, "b": 2})
    store.collection("c").snapshot()
    del store.collection("c")["a"]
    assert dict(pickle.loads(pickle.dumps(store.collection("c@v1")))) == {"a": 1, "b": 2}


def test_entries_below_the_horizon_are_in_no_snapshot(store: Store) -> None:
    from keepstone.history.commit import Draft, RefChange

    answers = store.collection("answers")
    answers["old"] = 1
    store.flush()
    session = store.repository.session
    horizon = horizon_value(session.clock.stamp())
    session.log.append(lambda state: Draft(refs=(RefChange(":horizon/answers", None, horizon),)))
    answers["new"] = 2
    assert answers.snapshot().load() == {"new": 2}
