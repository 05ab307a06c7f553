"""The check of a store: finds what is wrong, names what it costs, changes nothing, and never raises."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.operations.conftest import ANSWERS, check

import keepstone
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import StoreNotFoundError
from keepstone.history.commit import Draft, RefChange
from keepstone.operations.fsck import FsckReport, fsck_storage
from keepstone.storage.memory import MemoryStorage

Snapshot = Callable[[Path], object]


# ---- a sound store ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_store_has_no_findings(root: Path, read_data: bool) -> None:
    report = check(root, read_data=read_data)

    assert report.findings == ()
    assert report.ok
    assert (report.packs, report.journals, report.orphans) == (5, 1, 0)
    assert report.entries == len(ANSWERS) + 3
    assert report.commits == report.tip + 1 == len(list((root / "log").iterdir()))


@pytest.mark.parametrize("read_data", [False, True])
def test_checking_changes_nothing(root: Path, snapshot: Snapshot, read_data: bool) -> None:
    before = snapshot(root)

    check(root, read_data=read_data)

    assert snapshot(root) == before


def test_a_store_that_cannot_be_written_is_checked(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert check(root, read_data=True).ok
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_an_open_store_with_a_journal_in_use_is_sound(root: Path) -> None:
    with keepstone.open(root) as store:
        store.collection("answers")["now"] = 1

        report = store.fsck(read_data=True)

    assert report.findings == ()
    assert report.journals == 2


def test_a_store_in_memory_is_checked() -> None:
    location = "memory://fsck-" + os.urandom(4).hex()
    with keepstone.open(location) as store:
        store.save("a", {"x": 1})

        assert store.fsck(read_data=True).findings == ()


def test_a_whole_pack_is_hashed_when_data_is_read(root: Path) -> None:
    stored = sum(path.stat().st_size for path in (root / "packs").rglob("*-*"))

    assert check(root, read_data=True).bytes_read >= stored


def test_a_place_without_a_store_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        check(tmp_path)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_ref_that_leads_nowhere_is_found(root: Path) -> None:
    from keepstone.repository.refs import AliasRef, NameRef

    with keepstone.open(root) as store:
        ghost = bytes(Digest.of(b"ghost"))
        changes = (
            RefChange("ghost", None, NameRef("artifact", 1, 1, ghost).encoded()),
            RefChange("models/email@stale", None, AliasRef(9, ghost).encoded()),
        )
        store.repository.session.log.append(lambda state: Draft(refs=changes))

    report = check(root)

    assert {finding.touches for finding in report.damage} == {("ghost@v1",), ("models/email@stale",)}
    assert {finding.invariant for finding in report.damage} == {"I3"}


def test_removed_versions_are_not_missed(root: Path) -> None:
    with keepstone.open(root) as store:
        store.remove("prompts/reader@v1")
        store.remove("models/email")
        del store.collection("answers")["q3"]
        store.flush()

    assert check(root, read_data=True).findings == ()


# ---- never raises ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 10**6), offset=st.integers(0, 10**6), bit=st.integers(0, 7), read_data=st.booleans()
)
def test_no_flipped_bit_makes_a_check_fail_and_none_in_a_pack_or_slot_goes_unseen(
    root: Path, which: int, offset: int, bit: int, read_data: bool
) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[which % len(files)]
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[offset % len(data)] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        report = check(root, read_data=read_data)
    finally:
        path.write_bytes(data)

    if path.parent.name == "log" or "packs" in path.parts:
        assert report.ok is False or not read_data


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 10**6), keep=st.floats(0, 1))
def test_no_cut_file_makes_a_check_fail(root: Path, which: int, keep: float) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    path = files[which % len(files)]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    try:
        report = check(root, read_data=True)
    finally:
        path.write_bytes(data)

    assert isinstance(report, FsckReport)


def test_objects_that_cannot_be_read_are_findings() -> None:
    class Failing(MemoryStorage):
        def read_range(self, key: str, start: int, end: int) -> bytes:
            if key.startswith("packs/"):
                raise keepstone.StorageError("input/output error", path=key)
            return super().read_range(key, start, end)

    location = "memory://fsck-" + os.urandom(4).hex()
    with keepstone.open(location) as store:
        store.save("model", bytes(Digest.of(b"x")) * 9_000 + os.urandom(300_000))

    report = fsck_storage(Failing(location), read_data=True)

    assert "model@v1" in {selector for finding in report.damage for selector in finding.touches}
