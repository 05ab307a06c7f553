"""Pushing, pulling and cloning: what one store has comes to the other, once, as it is, and nothing else."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.operations.bucket import Requests, bucket
from tests.operations.handing import ANSWERS, LARGE, seen

import keepstone
from keepstone import InvalidInputError, Store
from keepstone.operations import sync_outbox, sync_reading, sync_survey

CONTENT = random.Random(5).randbytes(40_000)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_everything_comes_as_it_is(kind: str, full_store: Path, tmp_path: Path, net: Requests) -> None:
    place = str(tmp_path / "other") if kind == "folder" else f"bucket://{tmp_path.name}"
    with keepstone.open(full_store) as store:
        report = store.push(place, create=True)
        assert len(report.changes[0].versions) == 9
        with keepstone.open(place) as other:
            assert seen(other) == seen(store)
            assert other.id != store.id
            assert dict(other.collection("answers@submitted")) == dict(store.collection("answers@submitted"))
            assert other.collection("answers@v1")["q8"] == ANSWERS["q8"]
            assert other.fsck(read_data=True).findings == ()
            assert other.stats().commits == 1
        assert store.push(place).is_nothing
    keepstone.clone(place, tmp_path / "cloned")
    with keepstone.open(tmp_path / "cloned") as cloned, keepstone.open(full_store) as store:
        assert seen(cloned) == seen(store)
        assert cloned.fsck(read_data=True).findings == ()
        assert cloned.sync(place).is_nothing
        # Before so much is written, a note says that it was begun.
        assert cloned.stats().commits == 2


def test_what_is_new_goes_and_nothing_else(here: Store, there: Store) -> None:
    here.save("m", CONTENT)
    here.collection("c").update({"a": 1, "b": 2})
    here.push(there)
    here.save("m", CONTENT + b"more")
    here.collection("c")["a"] = 3
    del here.collection("c")["b"]
    (changes,) = here.push(there).changes

    assert [version.target for version in changes.versions] == ["m@v2"]
    assert (changes.items, changes.names) == (2, ())
    assert changes.bytes < 2 * len(CONTENT)
    assert dict(there.collection("c")) == {"a": 3}
    assert there.load("m") == CONTENT + b"more"


def test_content_that_is_there_is_not_copied_and_its_packs_are_needed(here: Store, there: Store) -> None:
    there.save("theirs", LARGE)
    here.save("mine", LARGE)
    here.save("another", LARGE + b"end")
    (changes,) = here.push(there).changes

    assert changes.bytes < 1024 * 1024 + 10_000
    assert there.load("mine") == LARGE
    assert there.load("another") == LARGE + b"end"
    commit = next(there.repository.session.log.commits_backwards())
    assert commit.needs
    assert there.fsck(read_data=True).findings == ()


def test_removed_items_are_removed_there_and_removed_versions_stay(here: Store, there: Store) -> None:
    for value in ("one", "two"):
        here.save("m", value)
    here.collection("c").update({"a": 1, "b": 2})
    here.push(there)
    here.remove("m@v1")
    here.remove("c")
    here.push(there)

    assert [v.load() for v in there.versions("m")] == ["two", "one"]
    assert len(there.collection("c")) == 0


def test_a_version_that_was_removed_there_does_not_come_back(here: Store, there: Store) -> None:
    for value in ("one", "two", "three"):
        here.save("m", value)
    here.push(there)
    there.remove("m@v1")
    here.save("m", "four")
    (changes,) = here.push(there).changes
    assert changes.withheld == ("m@v1",)
    assert [(v.number, v.load()) for v in there.versions("m")] == [(4, "four"), (3, "three"), (2, "two")]
    # The same content saved anew is a new version.
    here.save("m", "one")
    here.push(there)
    assert there.load("m") == "one"
    assert there.resolve("m").number == 5


def test_what_was_saved_here_and_removed_there_without_a_sync_stays_away(here: Store, there: Store) -> None:
    there.save("m", "both had it")
    there.save("m", "another")
    there.remove("m@v1")
    here.save("m", "both had it")
    here.save("m", "new")
    (changes,) = here.push(there).changes
    assert changes.withheld == ("m@v1",)
    assert [v.load() for v in there.versions("m")] == ["new", "another"]


def test_versions_of_both_stand_in_both_under_their_own_numbers(here: Store, there: Store) -> None:
    here.save("m", "first")
    here.push(there)
    here.save("m", "mine")
    there.save("m", "theirs")
    report = here.sync(there)

    assert [v.load() for v in here.versions("m")] == ["theirs", "mine", "first"]
    assert [v.load() for v in there.versions("m")] == ["mine", "theirs", "first"]
    assert [(v.source, v.target) for way in report.changes for v in way.versions] == [
        ("m@v2", "m@v3"),
        ("m@v2", "m@v3"),
    ]
    assert "m@v2 is m@v3 there" in str(report)
    assert {v.created for v in here.versions("m")} == {v.created for v in there.versions("m")}
    assert here.sync(there).is_nothing
    assert there.sync(here).changes[0].versions == ()


def test_equal_versions_of_both_are_one(here: Store, there: Store) -> None:
    for value in ("a", "b", "a"):
        here.save("m", value)
    there.save("m", "a")
    here.push(there)
    assert [v.load() for v in there.versions("m")] == ["a", "b", "a"]
    assert there.pull(here).changes[0].versions == ()
    assert here.pull(there).changes[0].versions == ()


# ---- packs ---------------------------------------------------------------------------------------------------------


def test_a_large_pack_is_copied_as_it_is_only_if_all_of_it_is_wanted(
    here: Store, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_survey, "WHOLE_PACK_BYTES_MIN", 100_000)
    here.collection("c").update({f"k{i}": random.Random(i).randbytes(2_000) for i in range(200)})
    here.flush()
    here.save("m", random.Random(1).randbytes(2_000_000))
    here.push(there)
    ours = {name.digest: pack for name, pack in here.repository.session.log.state.packs.items()}
    theirs = {name.digest: pack for name, pack in there.repository.session.log.state.packs.items()}
    same = ours.keys() & theirs.keys()
    assert sorted(ours[digest].record.size > 100_000 for digest in same) == [True, True]

    del here.collection("c")["k7"]
    here.flush()
    with keepstone.open(str(there.location) + "2") as another:
        here.push(another)
        again = {name.digest for name in another.repository.session.log.state.packs}
        assert len(again & ours.keys()) == 1
        assert len(another.collection("c")) == 199
        assert another.fsck(read_data=True).findings == ()
    assert there.fsck(read_data=True).findings == ()


def test_many_packs_become_few_and_dictionaries_travel(
    here: Store, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_outbox, "_DICTIONARIES_MAX", 3)
    items = here.collection("c")
    for round_ in range(8):
        items.update({f"k{round_}/{i}": {"text": f"word {i} " * 40, "n": i} for i in range(1_600)})
        items.flush()
    here.push(there)
    packs = there.repository.session.log.state.packs.values()
    assert len(packs) < 6
    assert dict(there.collection("c")) == dict(items)
    assert there.fsck(read_data=True).findings == ()


# ---- beside others -------------------------------------------------------------------------------------------------


def test_many_push_at_once_and_nothing_is_lost_or_twice(tmp_path: Path, net: Requests) -> None:
    place = f"bucket://{tmp_path.name}"
    keepstone.open(place, create=True).close()
    stores = [keepstone.open(tmp_path / str(number)) for number in range(4)]
    for number, store in enumerate(stores):
        store.save("same", "same content")
        store.save("m", f"from {number}", aliases=[f"by-{number}"])
        store.collection("c").update({f"{number}/{i}": i for i in range(50)} | {"shared": number})

    def work(store: Store) -> None:
        for value in ("second", "third"):
            store.push(place)
            store.save("m", f"{value} of {store.location[-1]}")
        store.push(place)

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(work, stores))
    with keepstone.open(place) as other:
        assert [v.load() for v in other.versions("same")] == ["same content"]
        assert sorted(v.load() for v in other.versions("m")) == sorted(
            v.load() for store in stores for v in store.versions("m")
        )
        assert {alias: other.load(f"m@{alias}") for alias in other.aliases("m")} == {
            f"by-{number}": f"from {number}" for number in range(4)
        }
        assert len(other.collection("c")) == 201
        assert other.fsck(read_data=True).findings == ()
    for store in stores:
        assert not store.sync(place).conflicts
        assert len(store.versions("m")) == 12
        store.close()


def test_progress_counts_bytes(here: Store, there: Store) -> None:
    here.save("m", CONTENT)
    told: list[tuple[int, int | None]] = []
    here.push(there, progress=lambda done, size: told.append((done, size)))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] == told[0][1]
    assert told[-1][0] >= len(CONTENT)


def test_what_a_killed_program_left_in_its_journal_comes_too(here: Store, tmp_path: Path) -> None:
    program = """
import os, keepstone
store = keepstone.open("other")
store.collection("c").update({"a": 1, "b": 2})
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    here.pull(tmp_path / "other")
    assert dict(here.collection("c")) == {"a": 1, "b": 2}
    subprocess.run([sys.executable, "-c", program.replace('"a": 1', '"a": 3')], cwd=tmp_path, check=False)
    here.pull(tmp_path / "other")
    assert here.collection("c")["a"] == 3
    assert here.pull(tmp_path / "other").is_nothing


def test_a_collection_that_was_removed_there_is_listed_again_with_a_new_item(
    here: Store, there: Store
) -> None:
    here.collection("c").update({"a": 1})
    here.push(there)
    there.remove("c")
    here.push(there)
    assert there.names() == []
    here.collection("c")["b"] = 2
    here.push(there)
    assert there.names() == ["c"]
    assert dict(there.collection("c")) == {"b": 2}


def test_copies_of_a_folder_that_went_on_by_themselves_come_together_again(
    here: Store, tmp_path: Path
) -> None:
    here.save("m", "first", aliases=["prod"])
    here.close()
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    with keepstone.open(tmp_path / "here") as one, keepstone.open(tmp_path / "copy") as two:
        assert one.id == two.id
        one.save("m", "mine")
        two.save("m", "theirs", aliases=["new"])
        one.sync(two)
        assert {v.load() for v in one.versions("m")} == {v.load() for v in two.versions("m")}
        assert one.load("m@new") == two.load("m@new") == "theirs"
        assert one.fsck(read_data=True).findings == two.fsck(read_data=True).findings == ()


def test_large_packs_come_whole_from_a_bucket(
    here: Store, tmp_path: Path, net: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_survey, "WHOLE_PACK_BYTES_MIN", 100_000)
    monkeypatch.setattr(sync_reading, "RUN_BYTES_MAX", 100_000)
    place = f"bucket://{tmp_path.name}"
    with keepstone.open(place, create=True) as store:
        store.save("m", LARGE)
        store.collection("c").update({f"k{i}": random.Random(i).randbytes(2_000) for i in range(500)})
    here.pull(place)
    assert here.load("m") == LARGE
    assert here.collection("c")["k7"] == random.Random(7).randbytes(2_000)
    assert {name.digest for name in here.repository.session.log.state.packs} & {
        bytes.fromhex(key[-64:]) for key in bucket(tmp_path.name).objects if key.startswith("packs/")
    }
    assert here.fsck(read_data=True).findings == ()


def test_a_clone_that_was_cut_off_goes_on_when_it_is_called_again(full_store: Path, tmp_path: Path) -> None:
    def cut_off(done: int, size: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keepstone.clone(full_store, tmp_path / "copy", progress=cut_off)
    with keepstone.open(tmp_path / "copy", mode="r") as copy:
        assert copy.names() == []
    keepstone.clone(full_store, tmp_path / "copy")
    with keepstone.open(tmp_path / "copy") as copy, keepstone.open(full_store) as store:
        assert seen(copy) == seen(store)
    with pytest.raises(InvalidInputError, match=r"there is a store at .* already"):
        keepstone.clone(full_store, tmp_path / "copy")
