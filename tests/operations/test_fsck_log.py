"""The check of the log: every slot, the chain, the checkpoints, and what lies behind damage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.operations.conftest import ANSWERS, check, damage_of, flip

import keepstone
from keepstone.cli import exit_codes
from keepstone.cli.main import main
from keepstone.foundation.format import log_key
from keepstone.history.commit import Draft, RefChange
from keepstone.operations.fsck import Severity

Snapshot = Callable[[Path], object]


def test_every_slot_that_is_damaged_is_named_with_what_lies_behind_it(root: Path) -> None:
    slots = sorted((root / "log").iterdir())
    for number, slot in enumerate(slots):
        data = slot.read_bytes()
        flip(slot, 120)
        report = check(root)
        slot.write_bytes(data)

        assert not report.ok
        assert report.tip == number - 1
        assert {finding.where for finding in report.damage} == {log_key(number)}
        touched = {selector for finding in report.damage for selector in finding.touches}
        assert {"answers[q7]"} <= touched


def test_a_missing_slot_is_a_gap(root: Path) -> None:
    (root / log_key(1)).unlink()

    report = check(root)

    assert any(f.where == log_key(1) and "missing" in f.problem for f in report.damage)
    assert {f.invariant for f in report.damage} == {"I3", "I4"}


def test_slots_that_changed_places_are_found(root: Path) -> None:
    one, two = root / log_key(1), root / log_key(2)
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)

    assert any(f.invariant == "I4" and "holds commit 2" in f.problem for f in check(root).damage)


def test_packs_behind_a_damaged_slot_are_never_called_litter(root: Path) -> None:
    flip(root / log_key(0), 120)

    assert not [f for f in check(root).findings if f.severity == Severity.LITTER]


def test_a_slot_behind_a_checkpoint_costs_no_name(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with keepstone.open(root) as store:
        for i in range(140):
            store.save("counter", {"i": i})
    assert [path.name for path in (root / "checkpoints").iterdir() if path.name != "LAST"]
    flip(root / log_key(3), 90)

    finding = damage_of(check(root))

    assert finding.where == log_key(3)
    assert check(root).tip == len(list((root / "log").iterdir())) - 1


def test_a_wrong_checkpoint_is_a_warning_since_it_can_be_deleted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with keepstone.open(root) as store:
        for i in range(135):
            store.save("counter", {"i": i})
    checkpoint = next(path for path in (root / "checkpoints").iterdir() if path.name != "LAST")
    flip(checkpoint, -5)
    (root / "checkpoints" / "LAST").write_bytes(b"nonsense")

    report = check(root)

    assert report.ok
    assert {f.where for f in report.findings} == {f"checkpoints/{checkpoint.name}", "checkpoints/LAST"}
    assert {f.severity for f in report.findings} == {Severity.WARNING}


def test_a_hint_of_who_waits_is_nothing_to_wonder_about_and_stays_where_it_is(
    root: Path, tmp_path: Path
) -> None:
    (root / "turns").mkdir()
    (root / "turns" / "waiting").write_bytes(b"\x01" * 24)

    assert not check(root, read_data=True).findings
    keepstone.clone(root, tmp_path / "twin")

    assert (tmp_path / "twin" / "log").exists()
    assert not (tmp_path / "twin" / "turns").exists()


def test_a_commit_of_an_unknown_feature_says_upgrade(root: Path) -> None:
    store = keepstone.open(root)
    value = b"\x82\xa4read\x91\xa6future\xa5write\x90"
    log = store.repository.session.log
    import keepstone.history.log as log_module

    real = log_module.check_draft
    try:
        log_module.check_draft = lambda view, draft: None  # a newer release judges by rules of its own
        with pytest.raises(keepstone.UnsupportedFormatError):
            log.append(lambda state: Draft(refs=(RefChange(":features", None, value),)))
    finally:
        log_module.check_draft = real

    assert "I15" in {finding.invariant for finding in check(root).damage}


def test_a_store_whose_identity_is_damaged_is_checked_all_the_same(root: Path) -> None:
    (root / "store.json").write_bytes(b"{")
    finding = damage_of(check(root, read_data=True))
    assert finding.where == "store.json"

    (root / "store.json").unlink()
    report = check(root)
    assert damage_of(report).where == "store.json"
    assert "is missing" in damage_of(report).problem
    assert report.entries == len(ANSWERS) + 3
    assert main(["--store", str(root), "fsck"]) == exit_codes.CORRUPTION
    assert main(["--store", str(root), "list"]) == exit_codes.CORRUPTION
    assert main(["--store", str(root), "init"]) == exit_codes.CORRUPTION
    assert not (root / "store.json").exists()


def test_a_folder_called_log_is_not_yet_a_store(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train.txt").write_text("epoch 1")
    with pytest.raises(keepstone.StoreNotFoundError):
        keepstone.open(tmp_path, create=False)
    with pytest.raises(keepstone.InvalidInputError, match=r"not a store: it holds 'log/train\.txt'"):
        keepstone.open(tmp_path)
    assert main(["--store", str(tmp_path), "list"]) == exit_codes.NOT_FOUND


def test_one_attempt_that_landed_twice_is_found() -> None:
    location = "memory://fsck-" + os.urandom(4).hex()
    with keepstone.open(location) as store:
        log, txn = store.repository.session.log, bytes(range(16))
        for text in ("one", "two"):
            # The log remembers no attempt that ended well: a retry after a success is a second commit.
            log.append(lambda state, text=text: Draft(message=text), txn=txn)

        finding = damage_of(store.fsck())
    assert (finding.invariant, finding.where) == ("I5", log_key(1))


def test_unfinished_writes_are_litter(root: Path) -> None:
    (root / "log" / ".tmp-1").write_bytes(b"half")
    (root / "packs" / "ab").mkdir(exist_ok=True)
    (root / "packs" / "ab" / ".tmp-2").write_bytes(b"half")

    assert {(f.where, f.severity) for f in check(root).findings} == {
        ("log/", Severity.LITTER),
        ("packs/", Severity.LITTER),
    }
