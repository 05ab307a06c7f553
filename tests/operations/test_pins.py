"""Pins: what a lock file names is protected by a ref, from before the file is there until it is not wanted."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

import keepstone
from keepstone import ArtifactNotFoundError, ConflictError, InvalidInputError, NotFoundError
from keepstone.operations.pins import PIN_PREFIX


@pytest.fixture
def store(tmp_path: Path) -> keepstone.Store:
    opened = keepstone.open(tmp_path / "store")
    opened.save("a", "first", aliases=["prod"])
    opened.save("a", "second")
    opened.save("b", "text")
    return opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keepstone.lock"


def refs(store: keepstone.Store) -> list[str]:
    return [ref for ref in store.repository.session.log.refresh().refs if ref.startswith(PIN_PREFIX)]


def test_a_pin_writes_what_names_mean_now_and_protects_it(store: keepstone.Store, path: Path) -> None:
    pinned = store.pin(["a@prod", "b"], path)

    assert pinned.protected
    assert [(line.selector, str(line.digest)) for line in pinned.lock.names] == [
        ("a@v1", store.resolve("a@v1").digest),
        ("b@v1", store.resolve("b").digest),
    ]
    (found,) = store.pins()
    assert (found.path, found.names) == (str(path), pinned.lock.names)
    assert refs(store) == [PIN_PREFIX + found.id]


def test_pinning_the_same_twice_gives_the_same_bytes_and_no_commit(
    store: keepstone.Store, path: Path
) -> None:
    store.pin(["b", "a@prod", "b"], path)
    before, commits = path.read_bytes(), store.stats().commits
    store.pin(["a@v1", "b@latest"], path)

    assert path.read_bytes() == before
    assert store.stats().commits == commits


def test_pinning_again_replaces_the_file_and_its_protection(store: keepstone.Store, path: Path) -> None:
    store.pin(["a@prod"], path)
    store.pin(["a@prod"], path.with_name("other.lock"))
    store.pin(["a", "b"], path)

    assert [(p.path, [n.selector for n in p.names]) for p in store.pins()] == [
        (str(path), ["a@v2", "b@v1"]),
        (str(path.with_name("other.lock")), ["a@v1"]),
    ]


def test_remotes_stay_until_others_are_given(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path, remotes=["s3://me:secret@bucket/x"])
    assert store.pin(["b"], path).lock.remotes == ("s3://bucket/x",)
    assert store.pin(["b"], path, remotes=[]).lock.remotes == ()
    for ref in store.repository.session.storage.list(""):
        assert b"secret" not in store.repository.session.storage.read(ref.key)


@pytest.mark.parametrize("remotes", ["s3://bucket/x", [""], ["a\0b"], [3], 3])
def test_remotes_are_a_list_of_urls(remotes: object, store: keepstone.Store, path: Path) -> None:
    with pytest.raises(InvalidInputError, match="remote"):
        store.pin(["a"], path, remotes=remotes)  # type: ignore[arg-type]
    assert (store.pins(), path.exists()) == ((), False)


def test_unpin_takes_the_protection_and_leaves_the_file(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path)
    found = store.unpin(path)

    assert [name.selector for name in found.names] == ["a@v2"]
    assert store.pins() == ()
    assert path.exists()
    with pytest.raises(NotFoundError) as raised:
        store.unpin(path)
    assert "list --pins" in raised.value.hint


def test_unpin_finds_a_lock_that_is_gone_or_was_merged_by_hand(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path)
    path.write_text("<<<<<<< HEAD\n" + path.read_text())
    store.unpin(path)
    path.unlink()
    store.pin(["a"], path)
    path.unlink()
    store.unpin(path)

    assert store.pins() == ()


def test_of_several_pins_of_one_path_the_one_that_is_in_the_file_is_meant(
    store: keepstone.Store, path: Path
) -> None:
    store.pin(["a"], path)
    one = path.read_bytes()
    # As another branch has it: checked out, never pinned over.
    path.unlink()
    store.pin(["b"], path)
    assert len(store.pins()) == 2
    path.write_bytes(one)
    assert [n.selector for n in store.unpin(path).names] == ["a@v2"]
    store.pin(["a"], path)
    path.unlink()
    with pytest.raises(ConflictError, match="pinned 2 times") as raised:
        store.unpin(path)
    for pin in store.pins():
        assert pin.id in raised.value.hint
        store.unpin(pin.id)
    assert store.pins() == ()


def test_a_store_that_moves_with_its_lock_knows_it_again(
    store: keepstone.Store, path: Path, tmp_path: Path
) -> None:
    store.pin(["a"], path)
    store.close()
    shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    with keepstone.open(tmp_path.with_name("moved") / "store") as moved:
        (found,) = moved.pins()

        assert found.path == str(tmp_path.with_name("moved") / "keepstone.lock")
        assert keepstone.locked(found.path).load("a") == "second"
        moved.unpin(found.path)


def test_a_name_that_does_not_exist_leaves_everything_as_it_was(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path)
    before, commits = path.read_bytes(), store.stats().commits
    with pytest.raises(ArtifactNotFoundError):
        store.pin(["b", "nosuch"], path)

    assert path.read_bytes() == before
    assert store.stats().commits == commits


def test_what_is_no_lock_is_never_replaced(store: keepstone.Store, path: Path) -> None:
    path.write_text("import keepstone\n")
    with pytest.raises(ConflictError, match="is no lock"):
        store.pin(["a"], path)

    assert path.read_text() == "import keepstone\n"
    assert store.pins() == ()


@pytest.mark.parametrize("names", ["a", [], [3]])
def test_names_are_a_list_of_selectors(names: object, store: keepstone.Store, path: Path) -> None:
    with pytest.raises(InvalidInputError):
        store.pin(names, path)  # type: ignore[arg-type]
    assert not path.exists()


def test_a_folder_that_is_missing_is_said(store: keepstone.Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="there is no folder"):
        store.pin(["a"], tmp_path / "none" / "x.lock")
    assert store.pins() == ()


@pytest.mark.parametrize("path", ["", "a\0b", b"\0", 3, None])
def test_what_no_file_system_can_have_is_no_path(path: object, store: keepstone.Store) -> None:
    for act in (lambda: store.pin(["a"], path), lambda: store.unpin(path), lambda: keepstone.locked(path)):  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match=r"not a path|is of type"):
            act()


def test_paths_of_any_bytes_work(store: keepstone.Store, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/odd \xff%"
    os.mkdir(folder)
    with keepstone.open(os.fsdecode(folder) + "/store") as odd:
        odd.save("a", "text")
        odd.pin(["a"], folder + b"/x\xfe.lock")
        with keepstone.locked(folder + b"/x\xfe.lock") as locked:
            assert locked.load("a") == "text"
        assert len(odd.pins()) == 1
        odd.unpin(folder + b"/x\xfe.lock")
    store.pin(["a"], folder + b"/y.lock")
    store.unpin(folder + b"/y.lock")
    assert store.pins() == ()


def test_a_link_is_written_through(store: keepstone.Store, path: Path, tmp_path: Path) -> None:
    (tmp_path / "real.lock").write_text("")
    path.symlink_to("real.lock")
    store.pin(["a"], path)

    assert path.is_symlink()
    assert keepstone.locked(tmp_path / "real.lock").load("a") == "second"


def test_a_store_that_can_only_be_read_gets_the_file_alone(store: keepstone.Store, path: Path) -> None:
    with keepstone.open(store.location, mode="r") as reader:
        pinned = reader.pin(["a"], path)

        assert not pinned.protected
        assert keepstone.locked(path).load("a") == "second"
        assert reader.pins() == ()


def test_fsck_and_history_know_pins(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path)
    store.unpin(path)

    assert store.fsck(read_data=True).findings == ()
    assert [entry.message for entry in store.history()][:2] == ["unpin 1 version", "pin 1 version"]


def test_fsck_misses_what_only_a_pin_names(store: keepstone.Store, path: Path, tmp_path: Path) -> None:
    store.save("large", os.urandom(400_000))
    store.pin(["large"], path)
    store.remove("large")
    assert store.fsck(read_data=True).ok
    store.close()
    pack = next(p for p in (tmp_path / "store" / "packs").rglob("*-*") if p.stat().st_size > 300_000)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)
    with keepstone.open(tmp_path / "store") as damaged:
        (finding,) = damaged.fsck(read_data=True).damage
        assert finding.touches == ("large@v1 (pinned in ../keepstone.lock)",)
        pack.unlink()
        (gone,) = damaged.fsck().damage
        assert gone.touches == ("large@v1 (pinned in ../keepstone.lock)",)


# ---- reading by a lock ---------------------------------------------------------------------------------------------


def test_locked_reads_what_was_pinned_whatever_came_since(store: keepstone.Store, path: Path) -> None:
    store.pin(["a@prod", "b"], path)
    store.alias("a@v2", "prod")
    store.save("b", "changed")
    store.remove("a@v1")
    with keepstone.locked(path) as found:
        assert found.names() == ["a", "b"]
        assert found.selectors() == ["a@v1", "b@v1"]
        assert (found.load("a"), found.load("b"), found.load("b@v1")) == ("first", "text", "text")
        assert found.resolve("b").created == store.resolve("b@v1").created
        assert found.resolve("b").open().read() == b"text"
        with pytest.raises(ArtifactNotFoundError, match="does not name 'c'"):
            found.load("c")
        assert pickle.loads(pickle.dumps(found)).load("a") == "first"


def test_a_closed_lock_is_not_read_from(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path)
    with keepstone.locked(path) as found:
        assert found.load("a") == "second"
    found.close()
    with pytest.raises(keepstone.StorageError, match=r"the lock .* was closed"):
        found.load("a")


def test_locked_with_another_store_says_what_is_not_there(
    store: keepstone.Store, path: Path, tmp_path: Path
) -> None:
    store.pin(["a", "b"], path)
    with keepstone.open(tmp_path / "other") as other:
        other.save("elsewhere", "text")
        found = keepstone.locked(path, other)
        # Content is what counts: the same bytes are there under another name.
        assert found.load("b") == "text"
        with pytest.raises(ArtifactNotFoundError, match=r"a@v2 \(b3:.*\) is not in the store"):
            found.load("a")


def test_damage_is_an_error_that_names_the_version(
    store: keepstone.Store, path: Path, tmp_path: Path
) -> None:
    version = store.save("large", os.urandom(400_000))
    store.pin(["large", "b"], path)
    pack = next(p for p in (tmp_path / "store" / "packs").rglob("*-*") if p.stat().st_size > 300_000)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)
    store.close()
    with keepstone.locked(path) as found, pytest.raises(keepstone.CorruptionError) as raised:
        found.load("large")

    assert str(raised.value).startswith(f"{version.selector} cannot be read whole: ")


# ---- collections ---------------------------------------------------------------------------------------------------


def test_a_collection_is_pinned_as_the_snapshot_of_now(store: keepstone.Store, path: Path) -> None:
    answers = store.collection("answers")
    answers.update({"q1": 1, "q2": 2})
    assert [n.selector for n in store.pin(["answers"], path).lock.names] == ["answers@v1"]
    before = path.read_bytes()
    # Unchanged, so it is the snapshot that it was.
    store.pin(["answers"], path)
    assert path.read_bytes() == before
    answers["q1"] = "changed"
    with keepstone.locked(path) as locked:
        assert dict(locked.collection("answers")) == {"q1": 1, "q2": 2}
        assert locked.load("answers") == {"q1": 1, "q2": 2}
        with pytest.raises(InvalidInputError, match="cannot be changed"):
            locked.collection("answers")["q1"] = 2
        store.remove("answers")
        assert dict(locked.collection("answers")) == {"q1": 1, "q2": 2}
    assert "collection" in before.decode()


def test_an_artifact_is_no_collection_in_a_lock_either(store: keepstone.Store, path: Path) -> None:
    store.pin(["a"], path)
    with keepstone.locked(path) as locked, pytest.raises(keepstone.KindError):
        locked.collection("a")


def test_where_it_can_only_be_read_a_collection_needs_a_snapshot_of_what_it_holds(
    store: keepstone.Store, path: Path
) -> None:
    store.collection("answers").update({"q1": 1})
    with keepstone.open(store.location, mode="r") as reader:
        with pytest.raises(keepstone.StoragePermissionError, match="has changed since its newest snapshot"):
            reader.pin(["answers"], path)
        store.collection("answers").snapshot()
        assert [n.selector for n in reader.pin(["answers"], path).lock.names] == ["answers@v1"]
        store.collection("answers")["q2"] = 2
        with pytest.raises(keepstone.StoragePermissionError):
            reader.pin(["answers"], path)
        assert not reader.pin(["answers@latest"], path).protected


def test_a_pinned_collection_crosses_processes_though_no_name_means_it_any_more(
    store: keepstone.Store, path: Path
) -> None:
    store.collection("items")["k"] = 1
    store.pin(["items"], path)
    store.remove("items")
    with keepstone.locked(path) as found:
        items = pickle.loads(pickle.dumps(found.collection("items")))

        assert dict(items) == {"k": 1}
        assert dict(pickle.loads(pickle.dumps(items))) == {"k": 1}


def test_an_error_that_comes_again_neither_grows_nor_keeps_who_met_it_before(
    store: keepstone.Store, path: Path
) -> None:
    store.save("large", os.urandom(400_000))
    store.pin(["large"], path)
    store.close()
    (pack,) = (p for p in (path.parent / "store" / "packs").rglob("*-*") if p.stat().st_size > 400_000)
    damaged = bytearray(pack.read_bytes())
    damaged[-30] ^= 1
    pack.write_bytes(damaged)
    said: list[tuple[str, int]] = []
    with keepstone.locked(path) as found:
        for _ in range(5):
            with pytest.raises(keepstone.CorruptionError) as raised:
                found.load("large")
            said.append((str(raised.value), len(raised.traceback)))

    assert len(set(said)) == 1
    assert said[0][0].count("large@v1") == 1
