"""Snapshots: a collection's content at one moment, as a version that never changes."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import keepstone
from keepstone import InvalidInputError, KindError, MalformedError, Store
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import LEAF_BYTES_MAX, LEAF_KEYS_MAX, Form
from keepstone.history.commit import Commit
from keepstone.history.validate import horizon_value
from keepstone.repository import entries
from keepstone.repository.entries import pack_place
from keepstone.repository.leaves import Leaf, LeafRow, cut_leaves, decode_leaf, encode_leaf
from keepstone.repository.merging import merge
from keepstone.repository.sealing import seal_free


class Answer(msgspec.Struct):
    text: str


def newest_commit(store: Store) -> Commit:
    log = store.repository.session.log
    return log.commit_at(log.state.number)


def blobs_of(store: Store, commit: Commit) -> int:
    """Return how many blobs a commit added."""
    session = store.repository.session
    packs = [session.log.state.packs[record.name] for record in commit.added]
    return sum(session.blobs.index(pack_place(pack)).blob_count for pack in packs)


# ---- what it is ----------------------------------------------------------------------------------------------------


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
    assert "answers lost a version; newest v2" in lines


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


# ---- where its values are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("catalog", [True, False])
def test_superseded_values_are_found_after_merging_and_reopening(
    folder: Path, monkeypatch: pytest.MonkeyPatch, catalog: bool
) -> None:
    monkeypatch.setattr(entries, "CATALOG_ENTRIES_MIN", 10 if catalog else 10**9)
    kept: list[dict[str, int]] = []
    with keepstone.open(folder) as store:
        answers = store.collection("answers")
        for round_ in range(6):
            answers.update({f"k{i}": round_ * 100 + i for i in range(0, 40, round_ + 1)})
            kept.append(dict(answers))
            answers.snapshot()
            if round_ == 3:
                store.repository.session.entries.fold(lambda: False)
                merge(store.repository.session, packs_min=2)
        answers.clear()
        store.flush()
        merge(store.repository.session, packs_min=2)
        store.repository.session.entries.fold(lambda: False)

    shutil.rmtree(folder / "journals", ignore_errors=True)
    with keepstone.open(folder) as store:
        assert bool(store.repository.session.entries._covered) == catalog
        for number, items in enumerate(kept, 1):
            frozen = store.collection(f"answers@v{number}")
            assert dict(frozen) == items
            assert frozen["k0"] == items["k0"]
        assert store.fsck(read_data=True).ok


def test_a_snapshot_states_every_pack_that_it_relies_on(store: Store, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(os.urandom(3_000_000))
    answers = store.collection("answers")
    answers["small"] = 1
    store.flush()
    answers["large"] = os.urandom(9_000_000)
    answers["file"] = tmp_path / "part"
    answers["small two"] = 2
    store.flush()
    state = store.repository.session.log.state
    answers.snapshot()
    needs = set(newest_commit(store).needs)
    blobs = store.repository.session.blobs
    holding = {name for name, pack in state.packs.items() if blobs.index(pack_place(pack)).blob_count}
    assert len(needs) > 3
    assert needs == holding, "each of them holds a value, a piece or a part"


_NEIGHBOUR = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    items = store.collection("answers", durability="process")
    items["theirs"] = "from a journal"
    items["shared"] = "later"
    items["large"] = "x" * 3_000_000
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_lies_in_a_neighbours_journal_is_kept_without_it(folder: Path) -> None:
    with keepstone.open(folder) as store:
        answers = store.collection("answers")
        answers.update({"mine": 1, "shared": "early"})
        with subprocess.Popen(
            [sys.executable, "-c", _NEIGHBOUR, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as neighbour:
            assert neighbour.stdout is not None
            assert neighbour.stdout.readline() == b"ready\n"
            version = answers.snapshot()
            neighbour.kill()
        expected = {"mine": 1, "shared": "later", "theirs": "from a journal", "large": "x" * 3_000_000}
        assert version.load() == expected
    for journal in (folder / "journals").glob("[!.]*"):
        journal.unlink()
    with keepstone.open(folder) as store:
        assert dict(store.collection("answers@v1")) == expected
        assert store.fsck(read_data=True).ok


_COUNTER = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    items = store.collection("answers", durability="process")
    for n in range(10**9):
        items[f"k{n % 7}"] = n
        if n % 50 == 49:
            store.flush()
        print(n, flush=True)
"""


def test_a_snapshot_beside_a_writer_holds_what_was_acknowledged_before(folder: Path) -> None:
    with keepstone.open(folder) as store:
        answers = store.collection("answers")
        answers.create()
        with subprocess.Popen(
            [sys.executable, "-c", _COUNTER, str(folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(12):
                acknowledged = [int(writer.stdout.readline()) for _ in range(20)][-1]
                held = answers.snapshot().load()
                for rest in range(7):
                    newest = max(n for n in range(acknowledged + 1) if n % 7 == rest)
                    assert held[f"k{rest}"] >= newest
                    assert held[f"k{rest}"] % 7 == rest
            writer.kill()
        kept = store.versions("answers")
        assert len(kept) > 2
        merge(store.repository.session, packs_min=2)
        assert all(dict(store.collection(v.selector)) == v.load() for v in kept)


def test_a_damaged_leaf_is_an_error(folder: Path) -> None:
    with keepstone.open(folder) as store:
        store.collection("answers").update({f"k{i}": i for i in range(50)})
        version = store.collection("answers").snapshot()
        commit = newest_commit(store)
        leaf = Digest(version.parts[0].digest)
        place = store.repository.session.find_blob(leaf)
    path = folder / "log" / f"{commit.number:020d}"
    data = bytearray(path.read_bytes())
    data[place.pack.offset + place.offset + 60] ^= 1
    path.write_bytes(data)
    with keepstone.open(folder) as store, pytest.raises(keepstone.CorruptionError):
        _ = store.collection("answers@v1")["k7"]


# ---- leaves --------------------------------------------------------------------------------------------------------


def rows_of(keys: set[str]) -> list[LeafRow]:
    return [LeafRow(key, Digest.of(key.encode()), Form.JSON) for key in sorted(keys)]


@given(st.integers(0, 3_000), st.integers(0, 3_500), st.text(max_size=5))
@settings(max_examples=6, deadline=None)
def test_one_key_changes_one_leaf_or_two(count: int, at: int, tail: str) -> None:
    keys = {f"key {i:05d}" for i in range(count)}
    new = f"key {at:05d}{tail}"
    before = {encode_leaf(leaf) for leaf in cut_leaves(rows_of(keys - {new}))}
    after = [encode_leaf(leaf) for leaf in cut_leaves(rows_of(keys | {new}))]

    assert len(set(after) - before) <= 2
    assert [row for raw in after for row in decode_leaf(raw, where="it").rows()] == rows_of(keys | {new})


def test_leaves_stay_within_their_limits() -> None:
    long = [LeafRow(f"{i:04d}" + "é" * 2_046, Digest.of(b""), Form.JSON) for i in range(600)]
    sizes = [len(encode_leaf(leaf)) for leaf in cut_leaves(long)]
    assert max(sizes) <= LEAF_BYTES_MAX
    assert len(sizes) < 15
    never = (LeafRow(key, Digest.of(b""), Form.JSON) for key in sorted(_uncut(LEAF_KEYS_MAX + 5)))
    assert [len(leaf.keys) for leaf in cut_leaves(never)] == [LEAF_KEYS_MAX, 5]


def _uncut(count: int) -> list[str]:
    """Return keys behind which no leaf ends."""
    from blake3 import blake3

    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        if int.from_bytes(blake3(str(number).encode()).digest(4), "little") % 1024:
            found.append(str(number))
    return found


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf((), b"", b""),
        Leaf(("b", "a"), bytes(64), b"\3\3"),
        Leaf(("a", "a"), bytes(64), b"\3\3"),
        Leaf(("a",), bytes(31), b"\3"),
        Leaf(("a",), bytes(32), b"\3\3"),
        Leaf(("a",), bytes(32), b"\7"),
        Leaf(("x" * 5_000,), bytes(32), b"\3"),
        Leaf(tuple(f"{i:05d}" for i in range(8_193)), bytes(32 * 8_193), b"\3" * 8_193),
    ],
)
def test_what_is_no_leaf_is_refused(leaf: Leaf) -> None:
    with pytest.raises(MalformedError, match="leaf"):
        decode_leaf(encode_leaf(leaf), where="answers@v1")


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_bytes_at_random_are_no_leaf_or_a_sound_one(data: bytes) -> None:
    try:
        leaf = decode_leaf(data, where="it")
    except MalformedError:
        return
    assert list(leaf.rows())


# ---- any order of events -------------------------------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b", "c", "d/e", "ü", ""])
_VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=8), st.binary(max_size=8))


class SnapshotMachine(RuleBasedStateMachine):
    """One collection and its snapshots, against dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.items: dict[str, Any] = {}
        self.kept: dict[int, dict[str, Any]] = {}
        self.newest = 0

    @initialize()
    def begin(self) -> None:
        self.store = keepstone.open(self.folder / "s")
        self.store.collection("c").create()

    @rule(pairs=st.dictionaries(_KEYS, _VALUES, min_size=1))
    def put(self, pairs: dict[str, Any]) -> None:
        self.store.collection("c", durability="process").add_many(pairs)
        self.items.update(pairs)

    @rule(key=_KEYS)
    def delete(self, key: str) -> None:
        if key in self.items:
            del self.store.collection("c")[key]
            del self.items[key]

    @rule()
    def snapshot(self) -> None:
        version = self.store.collection("c").snapshot()
        same = self.newest in self.kept and self.kept[self.newest] == self.items
        assert version.created_new != same
        self.kept[version.number] = dict(self.items)
        self.newest = version.number

    @rule()
    def seal(self) -> None:
        self.store.repository.session.spool.finish()
        seal_free(self.store.repository.session)

    @rule()
    def merge(self) -> None:
        merge(self.store.repository.session, packs_min=2)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = keepstone.open(self.folder / "s")

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "store"):
            return
        for number, items in self.kept.items():
            frozen = self.store.collection(f"c@v{number}")
            assert dict(frozen) == items
            assert list(frozen) == sorted(items)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestSnapshotMachine = SnapshotMachine.TestCase
TestSnapshotMachine.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
