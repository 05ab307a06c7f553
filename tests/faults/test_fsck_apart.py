"""A check is a question: it changes nothing, holds nobody up, and takes no work under way for damage."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults import small_store
from tests.faults.processes import dead, finished, forked

import keepstone
from keepstone.operations.fsck import Severity, fsck_location

ITEMS_EACH = 120


def everything_in(folder: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """All that a folder holds, to the last byte and time; only the times of reading are left out."""
    found: dict[str, tuple[int, int, int, int, bytes]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (facts.st_mtime_ns, facts.st_mode, facts.st_ino, facts.st_ctime_ns, content)
    return found


def _leave_live(root: Path) -> Callable[[], object]:
    store = keepstone.open(root)
    store.collection("answers")["live"] = "in a journal that is held"
    return store.close


def _leave_litter(root: Path) -> Callable[[], object]:
    (root / "journals" / ".tmp-unborn").write_bytes(b"")
    (root / "log" / ".tmp-1234").write_bytes(b"half a commit")
    (root / "packs" / "zz").mkdir()
    return lambda: None


def _damage(root: Path) -> Callable[[], object]:
    for path in [
        *(root / "packs").rglob("*-*"),
        *(root / "checkpoints").iterdir(),
        *(root / "log").iterdir(),
    ]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    return lambda: None


def _make_stale(root: Path) -> Callable[[], object]:
    with keepstone.open(root) as store:
        store.save("newer", "than the catalog")
    return lambda: None


def _break_catalog(root: Path) -> Callable[[], object]:
    (database,) = (root / "cache").glob("*/catalog.sqlite")
    data = bytearray(database.read_bytes())
    data[len(data) // 3 :: 7] = bytes(len(data[len(data) // 3 :: 7]))
    database.write_bytes(data)
    return lambda: None


def _forbid_writing(root: Path) -> Callable[[], object]:
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def allow() -> None:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)

    return allow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("apart") / "store"
    with pytest.MonkeyPatch.context() as patch:
        small_store.make(root, patch)
    return root


@pytest.mark.parametrize("read_data", [False, True])
@pytest.mark.parametrize(
    "prepare",
    [None, _leave_live, _leave_litter, _damage, _make_stale, _break_catalog, _forbid_writing],
    ids=["dead journal", "live journal", "litter", "damage", "stale catalog", "broken catalog", "read-only"],
)
def test_a_check_changes_nothing_whatever_it_finds(
    made: Path, tmp_path: Path, prepare: Callable[[Path], Callable[[], object]] | None, read_data: bool
) -> None:
    root = tmp_path / "store"
    shutil.copytree(made, root)
    undo = prepare(root) if prepare else lambda: None
    try:
        before = everything_in(root)
        report = fsck_location(str(root), read_data=read_data)

        assert everything_in(root) == before
        assert report.ok == (prepare is not _damage)
    finally:
        undo()


def test_a_check_does_not_take_the_locks_of_writers(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(made, root)
    names = [".sealer", *(path.name for path in (root / "journals").iterdir() if path.name[0] != ".")]
    held = [os.open(root / "journals" / name, os.O_RDWR) for name in names]
    try:
        for descriptor in held:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert fsck_location(str(root), read_data=True).ok
    finally:
        for descriptor in held:
            os.close(descriptor)
    # Nobody is held up afterwards, either.
    with keepstone.open(root) as store:
        assert store.recover().journals == 1


def _write(root: Path, name: str, count: int) -> None:
    """Write, seal and merge all the time, as a busy program does in an hour."""
    store = keepstone.open(root)
    store.repository.session.spool.journal_bytes = 6_000
    answers = store.collection("busy", durability="process")
    for n in range(count):
        answers[f"{name}/{n}"] = {"n": n, "text": f"{name} " * (n % 60)}
        answers["shared"] = [name, n]
        if n % 10 == 9:
            store.save(f"models/{name}", {"n": n}, aliases=["last"])
            store.flush()
        if n % 40 == 39:
            del answers[f"{name}/{n - 1}"]
            if n > 40:
                store.remove(f"models/{name}@v{n // 40}")
    store.close()


def test_four_busy_writers_are_never_called_damage(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = tmp_path / "store"
    count = ITEMS_EACH * (20 if request.config.getoption("--long") else 1)
    dead(lambda: keepstone.open(root).close())
    writers = [forked(lambda name=name: _write(root, name, count)) for name in "abcd"]
    checks = 0
    try:
        while len(writers) > sum(os.waitid(os.P_PID, p, _LOOK) is not None for p in writers):
            report = fsck_location(str(root), read_data=checks % 2 == 0)
            assert report.ok, report.damage
            strange = [f for f in report.findings if f.severity != Severity.LITTER]
            assert not strange, strange
            checks += 1
    finally:
        ended = [finished(pid) for pid in writers]
    assert all(ended)
    assert checks > 3
    report = fsck_location(str(root), read_data=True)
    assert report.ok
    print(f"{checks} checks beside 4 writers, {report.commits:,} commits")
    with keepstone.open(root) as store:
        assert len(store.collection("busy")) == 4 * (count - count // 40) + 1


_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT
