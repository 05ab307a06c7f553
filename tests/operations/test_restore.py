"""Restoring brings exactly what a lock names, once, and from damaged places nothing."""

from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.operations.handing import ANSWERS, LARGE, SELECTORS, content_of, fill, fill_small
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import (
    ArtifactNotFoundError,
    KeepstoneError,
    KindError,
    NotFoundError,
    StorageError,
    StoragePermissionError,
    StoreNotFoundError,
)
from keepstone.operations.restore import restore
from keepstone.repository.opening import close_repository, open_repository
from keepstone.storage.local import LocalStorage

EVERYDAY_FLIPS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and a lock of everything in it."""
    folder = tmp_path_factory.mktemp("made")
    fill(folder / "store", folder)
    with keepstone.open(folder / "store") as store:
        store.pin(SELECTORS, folder / "x.lock")
        store.bundle(folder / "x.lock", folder / "x.bundle")
    return folder


def commits(store: keepstone.Store) -> int:
    return store.stats().commits


@pytest.mark.parametrize("source", ["store", "x.bundle"])
def test_everything_is_there_in_one_commit_and_nothing_more_is_done_the_second_time(
    source: str, made: Path, tmp_path: Path
) -> None:
    with keepstone.open(tmp_path / "new") as new, keepstone.open(made / "store", mode="r") as old:
        report = new.restore(made / "x.lock", source=made / source)
        here = {name.locked: name.selector for name in report.names}

        assert commits(new) == 1
        assert all(name.created_new for name in report.names)
        assert here["turns@v1"] == "turns@v1"
        assert content_of(new, here) == content_of(old, {locked: locked for locked in here})
        assert new.fsck(read_data=True).findings == ()
        assert new.verify(made / "x.lock").ok

        again = new.restore(made / "x.lock", source=made / source)
        assert again.commit is None
        assert not any(name.created_new for name in again.names)
        assert {name.locked: name.selector for name in again.names} == here
        assert commits(new) == 1


def test_a_collection_comes_with_its_items_where_there_was_none(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new:
        new.restore(made / "x.lock", source=made / "x.bundle")
        live, frozen = new.collection("answers"), new.collection("answers@v1")

        assert len(live) == len(frozen) == len(ANSWERS) + 3
        assert dict(live) == dict(frozen)
        assert live["q7"] == "another answer"
        live["q7"] = "mine"
        assert (live["q7"], frozen["q7"]) == ("mine", "another answer")
    with keepstone.open(tmp_path / "new") as new:
        assert new.collection("answers").snapshot().number == 2
        assert new.restore(made / "x.lock", source=made / "x.bundle").commit is None


def test_a_collection_that_is_there_stays_as_it_is(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new:
        new.collection("answers").update({"q1": "mine", "other": 1})
        new.collection("answers").snapshot()
        report = new.restore(made / "x.lock", source=made / "store")

        assert {n.locked: n.selector for n in report.names}["answers@v1"] == "answers@v2"
        assert dict(new.collection("answers")) == {"q1": "mine", "other": 1}
        locked = keepstone.locked(made / "x.lock", new)
        assert locked.collection("answers")["q1"] == ANSWERS["q1"]
        assert pickle.loads(pickle.dumps(locked.collection("answers")))["q1"] == ANSWERS["q1"]
        assert new.fsck(read_data=True).findings == ()


def test_a_name_that_is_there_gets_its_next_numbers(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new:
        new.save("turns", "my own")
        new.save("turns", "second")
        report = new.restore(made / "x.lock", source=made / "store")
        here = {name.locked: (name.selector, name.created_new) for name in report.names}

        assert here["turns@v1"] == ("turns@v3", True)
        assert here["turns@v2"] == ("turns@v2", False), "the same digest is the same version"
        assert [v.load() for v in new.versions("turns")] == ["first", "second", "my own"]
        assert keepstone.locked(made / "x.lock", new).load("turns@v1") == "first"


def test_a_removed_version_comes_back_under_a_new_number(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new:
        new.restore(made / "x.lock", source=made / "store")
        new.remove("text")
        report = new.restore(made / "x.lock", source=made / "store")

        assert {n.locked: n.selector for n in report.names}["text@v1"] == "text@v2"
        assert new.load("text") == "some text"


def test_what_is_here_already_is_not_read_from_the_source(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new, keepstone.open(tmp_path / "other") as other:
        new.save("mine", LARGE)
        new.restore(made / "x.lock", source=made / "store")
        other.restore(made / "x.lock", source=made / "store")

        # Small pieces of it count when it is asked whether a dictionary pays, so the two are not packed alike.
        assert new.stats().pack_bytes - other.stats().pack_bytes < len(LARGE) // 20
        assert new.load("large") == LARGE


def test_a_name_of_the_other_kind_is_refused_before_anything_is_copied(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new:
        new.collection("text")["k"] = 1
        before = commits(new)
        with pytest.raises(KindError):
            new.restore(made / "x.lock", source=made / "store")

        assert commits(new) == before
        assert not list((tmp_path / "new" / "packs").rglob("*-*"))


def test_a_lock_finds_its_store_by_itself_wherever_both_were_moved(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "moved")
    with keepstone.open(tmp_path / "new") as new:
        new.restore(tmp_path / "moved" / "x.lock")

        assert new.load("text") == "some text"


def test_without_the_store_it_says_what_to_do(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "x.lock", tmp_path / "x.lock")
    with keepstone.open(tmp_path / "new") as new, pytest.raises(StoreNotFoundError) as raised:
        new.restore(tmp_path / "x.lock")

    assert "--from" in raised.value.hint


def test_a_source_that_lacks_something_is_an_error_that_names_it(made: Path, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "part") as part:
        part.save("text", "some text")
    with keepstone.open(tmp_path / "new") as new:
        with pytest.raises(ArtifactNotFoundError, match=r"answers@v1 \(b3:.*\) is not in the store at"):
            new.restore(made / "x.lock", source=tmp_path / "part")

        assert new.names() == []
        assert commits(new) == 0


def test_a_store_that_can_only_be_read_is_refused(made: Path) -> None:
    with keepstone.open(made / "store", mode="r") as store, pytest.raises(StoragePermissionError):
        store.restore(made / "x.lock")


def test_a_lock_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as new, pytest.raises(NotFoundError):
        new.restore(tmp_path / "none.lock", source=tmp_path)


# ---- damage --------------------------------------------------------------------------------------------------------


def restore_said(new: keepstone.Store, folder: Path) -> str | None:
    try:
        new.restore(folder / "x.lock", source=folder / "store")
    except KeepstoneError as error:
        return str(error)
    return None


@pytest.mark.timeout(3_600)
def test_one_flipped_byte_in_a_copy_is_an_error_that_names_it_or_harmless(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    names = {"a": "a", "b": "b", "c": "c@latest"}
    fill_small(tmp_path / "store")
    with keepstone.open(tmp_path / "store") as store:
        store.save("large", os.urandom(300_000))
        store.pin(["a", "b@prod", "c"], tmp_path / "x.lock")
        wanted = content_of(store, names)
    files = [
        path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.stat().st_size < 20_000
    ]
    spots = [(path, offset) for path in files for offset in range(path.stat().st_size)]
    if not request.config.getoption("--long"):
        spots = random.Random(1).sample(spots, EVERYDAY_FLIPS)
    refused = harmless = 0
    for number, (path, offset) in enumerate(spots):
        data = path.read_bytes()
        path.write_bytes(data[:offset] + bytes([data[offset] ^ (1 << offset % 8)]) + data[offset + 1 :])
        with keepstone.open(f"memory://flip-{tmp_path}-{number}") as new:
            said = restore_said(new, tmp_path)
            if said is None:
                harmless += 1
                assert content_of(new, names) == wanted, (path, offset)
            else:
                refused += 1
                assert any(name in said for name in ("a@v1", "b@v2", "c@v1")), (path, offset, said)
                assert new.names() == []
        path.write_bytes(data)
    record_property("flips in a copy: refused, harmless", (refused, harmless))
    assert refused > harmless


# ---- interruption --------------------------------------------------------------------------------------------------


RESTORE = """
import sys
import keepstone
with keepstone.open(sys.argv[1]) as store:
    print("open", flush=True)
    store.restore(sys.argv[2])
"""


@pytest.mark.timeout(3_600)
def test_killed_again_and_again_it_ends_right_and_wastes_little(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    """Real kills at random moments of restoring 80 MB, everyday half of it; then once more, to the end."""
    long = bool(request.config.getoption("--long"))
    chance = random.Random(5)
    with keepstone.open(tmp_path / "store") as store:
        for number in range(2):
            store.save(f"large/{number}", chance.randbytes(40_000_000 if long else 8_000_000))
        store.save("small", {"x": 1})
        store.pin(["large/0", "large/1", "small"], tmp_path / "x.lock")
        store.bundle(tmp_path / "x.lock", tmp_path / "x.bundle")
    total = (tmp_path / "x.bundle").stat().st_size
    started = time.monotonic()
    with keepstone.open(tmp_path / "first") as first:
        first.restore(tmp_path / "x.bundle")
    seconds = time.monotonic() - started
    killed = 0
    for _ in range(40 if long else 6):
        with subprocess.Popen(
            [sys.executable, "-c", RESTORE, str(tmp_path / "new"), str(tmp_path / "x.bundle")],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.random() * seconds)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() < 0
        with keepstone.open(tmp_path / "new") as new:
            assert new.names() in ([], ["large/0", "large/1", "small"])
            assert new.fsck().ok
            if new.names() and long:
                new.close()
                shutil.rmtree(tmp_path / "new")
        if killed >= 2 and not long:
            break
    with keepstone.open(tmp_path / "new") as new:
        new.restore(tmp_path / "x.bundle")

        assert new.verify(tmp_path / "x.lock").ok
        assert new.fsck(read_data=True).ok
    written = sum(path.stat().st_size for path in (tmp_path / "new").rglob("*") if path.is_file())
    record_property("kills", killed)
    assert killed
    # What a killed attempt wrote whole was used, so that little is there twice.
    assert written < 1.3 * total + 64 * 1024 * 1024


def test_packs_of_an_interrupted_restore_are_used_and_not_written_again(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(2_500_000)
    with keepstone.open(tmp_path / "store") as store:
        store.save("large", content)
        store.save("another", content[:400_000])
        store.pin(["large"], tmp_path / "x.lock")
        store.pin(["another"], tmp_path / "another.lock")
    calls = FaultyCalls(error=errno.ENOSPC, forever=True, only=("link", "link_open"))
    repository = open_repository(LocalStorage(tmp_path / "new", calls=calls), create=True, writable=True)
    for lock in ("another.lock", "x.lock"):
        # The first name that is given is the pack's, the second would be the commit's.
        calls._count, calls._fail_at = 0, 2
        with pytest.raises(StorageError):
            restore(repository, tmp_path / lock, tmp_path / "store")
    calls._fail_at = 0
    close_repository(repository)
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "new" / "packs").rglob("*-*")}
    with keepstone.open(tmp_path / "new") as new:
        assert new.names() == []
        new.restore(tmp_path / "x.lock", source=tmp_path / "store")
        packs = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "new" / "packs").rglob("*-*")}

        assert len(left) == 2
        assert packs == left
        # The other one's content is not wanted, and does not get in.
        assert sum(p.record.size for p in new.repository.session.log.state.packs.values()) < 2_600_000
        assert new.load("large") == content
        assert [finding.severity for finding in new.fsck(read_data=True).findings] == ["litter"]


def test_a_pack_that_an_interrupted_restore_left_damaged_is_not_used(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(400_000)
    with keepstone.open(tmp_path / "store") as store:
        store.save("large", content)
        store.pin(["large"], tmp_path / "x.lock")
    calls = FaultyCalls(error=errno.ENOSPC, forever=True, only=("link", "link_open"))
    repository = open_repository(LocalStorage(tmp_path / "new", calls=calls), create=True, writable=True)
    calls._count, calls._fail_at = 0, 2
    with pytest.raises(StorageError):
        restore(repository, tmp_path / "x.lock", tmp_path / "store")
    calls._fail_at = 0
    close_repository(repository)
    (pack,) = (tmp_path / "new" / "packs").rglob("*-*")
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)
    with keepstone.open(tmp_path / "new") as new:
        new.save("other", "moves the log on, so that the new pack gets a name of its own")
        new.restore(tmp_path / "x.lock", source=tmp_path / "store")

        assert new.load("large") == content
