from __future__ import annotations

import errno
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.storage.faulty_calls import FaultyCalls
from tests.storage.local_kinds import DATA, each_kind, litter, local

from keepstone.foundation.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    UnsafeStorageError,
)
from keepstone.storage.calls import Calls
from keepstone.storage.local import LocalStorage


@each_kind
@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@pytest.mark.parametrize("after", [False, True], ids=["call-failed", "answer-lost"])
@pytest.mark.parametrize(
    "error", [errno.EIO, errno.ENOSPC, errno.EINTR, errno.EACCES], ids=errno.errorcode.get
)
def test_whatever_call_fails_an_object_is_absent_or_whole(
    tmp_path: Path, kind: str, error: int, after: bool, forever: bool
) -> None:
    for k in range(1, 1000):
        root = tmp_path / str(k)
        calls = FaultyCalls(fail_at=k, error=error, forever=forever, after=after, write_bytes_max=400)
        raised = _write(local(root, kind, calls))
        if not calls.failed:
            assert raised is None
            break
        _check_after_fault(root, calls, raised, certain=not (after and forever))
        if error == errno.EINTR and not forever:
            assert raised is None
        if not forever:
            assert litter(root) == []
        if isinstance(raised, StorageFullError):
            assert raised.needed == len(DATA)
            assert str(root) in raised.path
    assert k > 10


def _write(storage: LocalStorage) -> StorageError | None:
    try:
        storage.write_new("packs/ab/x", DATA)
    except StorageError as error:
        return error
    return None


def _check_after_fault(root: Path, calls: FaultyCalls, raised: StorageError | None, certain: bool) -> None:
    clean = LocalStorage(root)
    found = [info.key for info in clean.list("")]
    assert calls.open_fds == set()
    assert found in ([], ["packs/ab/x"])
    if found:
        assert clean.read("packs/ab/x") == DATA
    if raised is None or raised.landed:
        assert found
    elif certain:
        assert not found
    if not found:
        clean.write_new("packs/ab/x", DATA)
        assert clean.read("packs/ab/x") == DATA


@each_kind
def test_a_failed_fsync_is_never_tried_again_on_the_same_file(tmp_path: Path, kind: str) -> None:
    local(tmp_path, kind).write_new("log/0", b"")
    calls = FaultyCalls(fail_at=3, error=errno.EIO, only=("fsync",))
    storage = local(tmp_path, kind, calls)

    with pytest.raises(StorageError) as caught:
        storage.write_new("log/1", DATA)

    names = [name for name, _ in calls.made]
    assert not caught.value.landed
    assert "link" not in names
    assert "link_open" not in names
    assert names.count("fsync") == 3
    assert [info.key for info in storage.list("log/")] == ["log/0"]


@each_kind
def test_a_failing_fsync_of_the_folder_says_that_the_object_landed(tmp_path: Path, kind: str) -> None:
    calls = FaultyCalls(fail_at=4, error=errno.ENOSPC, only=("fsync",))
    local(tmp_path, kind).write_new("log/0", b"")

    with pytest.raises(StorageFullError, match="may not survive a power loss") as caught:
        local(tmp_path, kind, calls).write_new("log/1", DATA)

    assert caught.value.landed
    assert LocalStorage(tmp_path).read("log/1") == DATA
    assert pickle.loads(pickle.dumps(caught.value)).landed


@each_kind
def test_a_taken_key_is_made_durable_before_it_is_reported(tmp_path: Path, kind: str) -> None:
    local(tmp_path, kind).write_new("log/1", b"theirs")
    calls = FaultyCalls()
    storage = local(tmp_path, kind, calls)
    with pytest.raises(ObjectExistsError):
        storage.write_new("log/1", b"mine")
    calls.made.clear()

    with pytest.raises(ObjectExistsError):
        storage.write_new("log/1", b"mine")

    assert [name for name, _ in calls.made if name in ("fsync", "write")] == ["fsync"]


@each_kind
def test_the_order_is_write_fsync_link_fsync_of_the_folder(tmp_path: Path, kind: str) -> None:
    calls = FaultyCalls()
    storage = local(tmp_path, kind, calls)
    storage.write_new("log/1", b"x")
    calls.made.clear()

    storage.write_new("log/2", b"y")

    order = [name for name, _ in calls.made if name in ("write", "fsync", "link", "link_open")]
    assert order == ["write", "fsync", "link" if kind == "named" else "link_open", "fsync"]


@each_kind
@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_disk_without_hard_links_is_refused(tmp_path: Path, kind: str, error: int) -> None:
    calls = FaultyCalls(fail_at=1, error=error, forever=True, only=("link", "link_open"))

    with pytest.raises(UnsafeStorageError, match="no hard links") as caught:
        local(tmp_path, kind, calls).write_new("log/1", DATA)

    assert not caught.value.landed
    assert list(LocalStorage(tmp_path).list("")) == []
    assert litter(tmp_path) == []


def test_where_unnamed_files_cannot_be_named_named_ones_are_used(tmp_path: Path) -> None:
    for error in (errno.EXDEV, errno.ENOENT, errno.EPERM):
        calls = FaultyCalls(fail_at=1, error=error, forever=True, only=("link_open",))
        storage = LocalStorage(tmp_path / str(error), calls=calls)
        storage.write_new("log/1", DATA)
        storage.write_new("log/2", DATA)

        assert storage.read("log/2") == DATA
        assert [name for name, _ in calls.made].count("link_open") <= 1
        assert litter(tmp_path) == []
        assert calls.open_fds == set()


def test_where_a_mounted_folder_has_no_unnamed_files_named_ones_are_used(tmp_path: Path) -> None:
    class NoUnnamed(Calls):
        refused = False

        def open(self, path: str, flags: int, mode: int = 0o666, *, dir_fd: int | None = None) -> int:
            if self.refused and path == ".":
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return super().open(path, flags, mode, dir_fd=dir_fd)

    calls = NoUnnamed()
    storage = LocalStorage(tmp_path, calls=calls)
    storage.write_new("log/1", DATA)
    calls.refused = True
    storage.write_new("log/2", DATA)

    assert storage.read("log/2") == DATA
    assert litter(tmp_path) == []


def _error_of(call: Callable[[], object]) -> StorageError | None:
    try:
        result = call()
        if isinstance(result, Iterator):
            list(result)
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize("verb", ["write_hint", "delete", "settle", "read", "read_range", "size", "list"])
@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.EMFILE], ids=errno.errorcode.get)
def test_every_failing_call_becomes_a_storage_error_with_a_hint(
    tmp_path: Path, verb: str, error: int
) -> None:
    clean = LocalStorage(tmp_path)
    arguments: dict[str, tuple[object, ...]] = {"write_hint": (b"new",), "read_range": (0, 3)}
    failures = 0
    for k in range(1, 100):
        clean.write_hint("packs/ab/x", b"old")
        calls = FaultyCalls(fail_at=k, error=error)
        key = "packs/ab/" if verb in ("settle", "list") else "packs/ab/x"
        storage = LocalStorage(tmp_path, calls=calls)
        raised = _error_of(lambda s=storage, k=key: getattr(s, verb)(k, *arguments.get(verb, ())))
        storage.close()
        assert calls.open_fds == set()
        if raised:
            failures += 1
            assert raised.hint
            assert isinstance(raised, StoragePermissionError) == (error == errno.EACCES)
            assert not raised.landed
            assert clean.read("packs/ab/x") == b"old"
        if not calls.failed:
            break
    assert failures >= 1
    assert litter(tmp_path) == []


def test_deleting_a_folder_does_nothing_where_the_system_calls_it_a_lack_of_permission(
    tmp_path: Path,
) -> None:
    calls = FaultyCalls(fail_at=1, error=errno.EPERM, forever=True, only=("unlink",))
    storage = LocalStorage(tmp_path, calls=calls)
    storage.write_hint("packs/ab/x", DATA)

    storage.delete("packs/ab")

    assert calls.failed
    with pytest.raises(StoragePermissionError):
        storage.delete("packs/ab/x")
    assert storage.read("packs/ab/x") == DATA


def test_a_stale_handle_reads_as_absent(tmp_path: Path) -> None:
    LocalStorage(tmp_path).write_new("packs/ab/x", DATA)
    storage = LocalStorage(tmp_path, calls=FaultyCalls(fail_at=2, error=errno.ESTALE, only=("pread",)))
    assert storage.read_range("packs/ab/x", 0, 3) == b"012"

    with pytest.raises(ObjectNotFoundError):
        storage.read_range("packs/ab/x", 0, 3)

    assert storage.read_range("packs/ab/x", 0, 3) == b"012"
