"""Pinning, restoring and bundling on a medium whose calls fail: nothing is lost, nothing is half there."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.operations.handing import content_of, fill_small
from tests.storage.faulty_calls import FaultyCalls

import keepstone
from keepstone import KeepstoneError, StorageError
from keepstone.operations.bundle import bundle
from keepstone.operations.lock import parse_lock
from keepstone.operations.pins import pin
from keepstone.operations.restore import restore
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.repository import Repository
from keepstone.storage.local import LocalStorage

NAMES: Final = {"a": "a@v1", "b": "b@prod", "c": "c@latest"}
WAYS: Final = list(itertools.product((errno.EIO, errno.ENOSPC), (False, True), (False, True)))
"""(error, for ever, the call is made and its answer lost)."""
EVERYDAY_STRIDE: Final = 29


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, a lock of it and a bundle."""
    folder = tmp_path_factory.mktemp("original")
    fill_small(folder / "store")
    with keepstone.open(folder / "store") as store:
        store.pin(["a"], folder / "x.lock")
        store.pin(["a", "b@prod", "c"], folder / "whole.lock")
        store.bundle(folder / "whole.lock", folder / "whole.bundle")
    return folder


def attempts(
    original: Path, tmp_path: Path, long: bool, act: Callable[[Repository, Path], object], target: str
) -> Iterator[tuple[Path, KeepstoneError | None, FaultyCalls]]:
    """Let the k-th call of `act` fail, for every k and in every way; yield where, what was raised, and the calls."""
    for way, (error, forever, after) in enumerate(WAYS):
        for k in range(1 if long else 1 + 3 * way, 2000, 1 if long else EVERYDAY_STRIDE):
            place = tmp_path / f"{way}-{k}"
            shutil.copytree(original, place)
            # Fails from the k-th call of `act` on, not of opening.
            calls = FaultyCalls(error=error, forever=forever, after=after)
            repository = open_repository(
                LocalStorage(place / target, calls=calls), create=not (place / target).exists(), writable=True
            )
            calls._count, calls._fail_at = 0, k
            raised: KeepstoneError | None = None
            try:
                act(repository, place)
            except KeepstoneError as caught:
                raised = caught
            calls._fail_at = 0
            close_repository(repository)
            yield place, raised, calls
            shutil.rmtree(place)
            if not calls.failed:
                break


def check_error(raised: KeepstoneError | None, calls: FaultyCalls) -> None:
    assert calls.failed
    if raised is not None:
        assert isinstance(raised, StorageError), repr(raised)
        assert raised.hint
        assert not raised.path or raised.path in str(raised)


def litter_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".tmp-")]


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.mark.timeout(3_600)
def test_a_pin_whose_calls_fail_leaves_the_old_lock_or_the_new_one(
    original: Path, tmp_path: Path, long: bool, record_property: Callable[[str, object], None]
) -> None:
    old = (original / "x.lock").read_bytes()
    whole = (original / "whole.lock").read_bytes()
    count = 0

    def act(repository: Repository, place: Path) -> None:
        pin(repository, ["a", "b@prod", "c"], place / "x.lock")

    for place, raised, calls in attempts(original, tmp_path, long, act, "store"):
        count += 1
        text = (place / "x.lock").read_bytes()
        assert text in (old, whole)
        if raised is None:
            assert text == whole
        if calls.failed:
            check_error(raised, calls)
        with keepstone.open(place / "store") as store:
            protected = [p.names for p in store.pins() if p.path == str(place / "x.lock")]
            # What the file names is protected, whatever happened; and once more is enough.
            assert parse_lock(text, where="x.lock").names in protected
            store.pin(["a", "b@prod", "c"], place / "x.lock")
            assert (place / "x.lock").read_bytes() == whole
            with keepstone.locked(place / "x.lock") as locked:
                assert locked.load("b") == "second " * 40
            assert store.fsck().ok
    record_property("failing calls", count)
    assert count > 8


@pytest.mark.timeout(3_600)
def test_a_restore_whose_calls_fail_changes_nothing_or_all(
    original: Path, tmp_path: Path, long: bool, record_property: Callable[[str, object], None]
) -> None:
    with keepstone.open(original / "store") as store:
        wanted = content_of(store, NAMES)
    count = 0

    def act(repository: Repository, place: Path) -> None:
        restore(repository, place / "whole.bundle")

    for place, raised, calls in attempts(original, tmp_path, long, act, "new"):
        count += 1
        if calls.failed:
            check_error(raised, calls)
        with keepstone.open(place / "new") as store:
            names = store.names()
            assert names in ([], ["a", "b", "c"])
            if raised is None or getattr(raised, "landed", False):
                assert names
            again = store.restore(place / "whole.bundle")
            assert (again.commit is None) == bool(names)
            assert content_of(store, {"a": "a", "b": "b", "c": "c@latest"}) == wanted
            assert store.fsck(read_data=True).ok
    record_property("failing calls", count)
    assert count > 8


@pytest.mark.timeout(3_600)
def test_a_bundle_whose_calls_fail_is_absent_or_whole(
    original: Path, tmp_path: Path, long: bool, record_property: Callable[[str, object], None]
) -> None:
    whole = (original / "whole.bundle").read_bytes()
    count = 0

    def act(repository: Repository, place: Path) -> None:
        bundle(repository, place / "whole.lock", place / "new.bundle", replace=False)

    for place, raised, calls in attempts(original, tmp_path, long, act, "store"):
        count += 1
        if calls.failed:
            check_error(raised, calls)
        target = place / "new.bundle"
        if target.exists():
            assert target.read_bytes() == whole
        else:
            assert raised is not None
            assert not getattr(raised, "landed", False)
    record_property("failing calls", count)
    assert count > 8
