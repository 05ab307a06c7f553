"""The check of journals: what is damage in them, and what a loss of power may leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.operations.conftest import check, fill, flip

import keepstone
from keepstone.operations.fsck import Severity, fsck_storage
from keepstone.storage.local import LocalStorage

Snapshot = Callable[[Path], object]


def journal_of(root: Path) -> Path:
    return next(path for path in (root / "journals").iterdir() if not path.name.startswith("."))


def test_damage_below_what_was_synced_is_damage_and_above_it_a_warning(root: Path) -> None:
    with keepstone.open(root) as store:
        answers = store.collection("answers")
        answers["one"] = "synced text"
        answers["two"] = "another text"
    journal = next(path for path in (root / "journals").iterdir() if b"synced text" in path.read_bytes())
    data = journal.read_bytes()

    flip(journal, data.index(b"synced text"))
    assert [f.invariant for f in check(root).damage] == ["I1"]

    journal.write_bytes(data)
    flip(journal, data.index(b"another text"))
    report = check(root)
    assert report.ok
    assert [f.severity for f in report.findings] == [Severity.WARNING]


def test_strangers_and_journals_set_aside_are_told(root: Path) -> None:
    folder = root / "journals"
    (folder / "notes").write_text("not a journal")
    (folder / ".host-1.damaged").write_text("set aside")
    (folder / ".tmp-unborn").write_text("")

    found = {(f.where, f.severity) for f in check(root).findings}

    assert found == {
        ("journals/notes", Severity.DAMAGE),
        ("journals/.host-1.damaged", Severity.WARNING),
        ("journals", Severity.LITTER),
    }


def test_a_journal_of_another_store_is_left_alone(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    fill(other)
    shutil.copy(journal_of(other), root / "journals")

    report = check(root)

    assert report.ok
    assert "another store" in report.findings[0].problem


def test_stamps_far_ahead_are_reported(root: Path) -> None:
    storage = LocalStorage(root, writable=False)

    report = fsck_storage(storage, now_ns=lambda: 10**18)

    assert report.ok
    assert any("ahead" in finding.problem for finding in report.findings)
