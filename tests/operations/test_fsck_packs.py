"""The check of packs: each is there, says what its frames say, and has the bytes of its name."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.operations.conftest import ANSWERS, check, damage_of, fill, flip

import keepstone
from keepstone.foundation.errors import CorruptionError
from keepstone.operations.fsck import Severity

Snapshot = Callable[[Path], object]


def test_a_flipped_byte_in_a_value_names_its_key(root: Path, packs: dict[str, Path]) -> None:
    flip(packs["answers"], 20)

    assert check(root).ok
    finding = damage_of(check(root, read_data=True))
    assert finding.invariant == "I7"
    assert packs["answers"].name in finding.where
    (touched,) = finding.touches
    with keepstone.open(root) as store, pytest.raises(CorruptionError):
        store.collection("answers")[touched.removeprefix("answers[").removesuffix("]")]


def test_a_flipped_byte_in_a_large_blob_names_the_version_and_its_alias_still_resolves(
    root: Path, packs: dict[str, Path]
) -> None:
    flip(packs["model"], 100)

    assert damage_of(check(root, read_data=True)).touches == ("models/email@v1",)


def test_a_frame_header_that_contradicts_the_footer_is_found_without_reading_data(
    root: Path, packs: dict[str, Path]
) -> None:
    flip(packs["answers"], 8)

    finding = damage_of(check(root))
    assert (finding.invariant, len(finding.touches)) == ("I7", 1)


@pytest.mark.parametrize("read_data", [False, True])
def test_a_pack_that_is_gone_names_what_it_held(root: Path, packs: dict[str, Path], read_data: bool) -> None:
    packs["answers"].unlink()
    finding = damage_of(check(root, read_data=read_data))
    assert finding.invariant == "I3"
    assert finding.touches == ("answers[*]",)

    shutil.rmtree(root)
    fill(root)
    min((root / "packs").rglob("*-*"), key=lambda path: path.name).unlink()
    assert damage_of(check(root, read_data=read_data)).touches == ("models/email@v1",)


def test_a_lost_footer_is_told_with_the_blobs_that_a_scan_finds(root: Path, packs: dict[str, Path]) -> None:
    flip(packs["answers"], -60)

    finding = damage_of(check(root))

    assert f"{len(ANSWERS)} blobs can still be found" in finding.problem
    assert finding.touches == ("answers[*]",)


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_cut_pack_is_damage(root: Path, packs: dict[str, Path], cut: int) -> None:
    data = packs["model"].read_bytes()
    packs["model"].write_bytes(data[:-cut])

    report = check(root)

    assert not report.ok
    assert "models/email@v1" in {selector for finding in report.damage for selector in finding.touches}


def test_what_another_pack_supplies_is_not_lost(root: Path, packs: dict[str, Path]) -> None:
    with keepstone.open(root) as store:
        answers = store.collection("answers")
        answers.update(ANSWERS)
        answers.flush()
    flip(packs["answers"], 20)

    assert damage_of(check(root, read_data=True)).touches == ()


def test_a_damaged_inline_pack_names_its_version(root: Path) -> None:
    slot = next(path for path in sorted((root / "log").iterdir()) if b"first text" in path.read_bytes())
    flip(slot, slot.read_bytes().index(b"first text"))

    assert check(root).ok
    assert damage_of(check(root, read_data=True)).touches == ("prompts/reader@v1",)


def test_a_trimmed_slot_whose_inline_pack_is_live_is_damage(root: Path) -> None:
    slot = next(path for path in sorted((root / "log").iterdir()) if b"first text" in path.read_bytes())
    data = slot.read_bytes()
    slot.write_bytes(data[: data.index(b"Kf")])

    finding = damage_of(check(root))

    assert "inline pack" in finding.problem
    assert finding.touches == ("prompts/reader@v1",)


def test_packs_in_no_commit_are_litter_and_no_damage(root: Path, packs: dict[str, Path]) -> None:
    orphan = packs["model"].parent / packs["model"].name.replace("0000-", "0001-")
    shutil.copy(packs["model"], orphan)

    report = check(root, read_data=True)

    assert report.ok
    assert report.orphans == 1
    (finding,) = report.findings
    assert finding.severity == Severity.LITTER


def test_two_packs_with_swapped_footers_are_found(root: Path, packs: dict[str, Path]) -> None:
    one, two = packs["model"], packs["answers"]
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)

    report = check(root)

    touched = {selector for finding in report.damage for selector in finding.touches}
    assert {"models/email@v1", "answers[*]"} <= touched


@pytest.mark.parametrize("loss", ["footer", "pack"])
def test_damage_to_one_pack_leaves_all_that_fsck_does_not_name_readable_and_writable(
    root: Path, packs: dict[str, Path], loss: str
) -> None:
    if loss == "footer":
        flip(packs["model"], -60)
    else:
        packs["model"].unlink()
    assert damage_of(check(root)).touches == ("models/email@v1",)

    with keepstone.open(root) as store:
        assert store.load("prompts/reader") == "second text"
        assert store.collection("answers")["q1"] == ANSWERS["q1"]
        assert store.save("prompts/reader", "third text").number == 3


def test_a_removal_that_cannot_be_read_costs_only_versions_that_it_may_be_about(root: Path) -> None:
    with keepstone.open(root) as store:
        store.save("kept", "never removed")
        store.save("thinned", "first")
        store.save("thinned", "second")
        store.save("thinned", "third")
        store.remove("thinned@v1")
    flip(max((root / "log").iterdir()), -60)

    assert damage_of(check(root)).touches == ("thinned@v1", "thinned@v2")
    with keepstone.open(root, mode="r") as store:
        assert store.load("kept") == "never removed"
        assert store.load("thinned") == "third"
        assert store.load("models/email@prod")
        for doubtful in ("thinned@v1", "thinned@v2"):
            with pytest.raises(CorruptionError):
                store.load(doubtful)


def test_a_frame_whose_check_alone_is_damaged_is_named_since_readers_may_refuse_it(
    root: Path, packs: dict[str, Path]
) -> None:
    flip(packs["answers"], 12)

    (touched,) = damage_of(check(root, read_data=True)).touches
    assert touched.startswith("answers[")


def test_damage_to_a_value_that_only_a_snapshot_still_has_names_the_snapshot(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with keepstone.open(root) as store:
        answers = store.collection("answers")
        answers.update({f"q{i}": random.Random(i).randbytes(20_000) for i in range(30)})
        answers.snapshot()
        answers.update({f"q{i}": b"another" for i in range(30)})
        answers.flush()
        answers.snapshot()
    assert check(root, read_data=True).ok
    pack = max((root / "packs").rglob("*-*"), key=lambda path: path.stat().st_size)

    flip(pack, 10 * 20_000)
    (flipped,) = damage_of(check(root, read_data=True)).touches
    pack.unlink()
    lost = damage_of(check(root)).touches

    assert re.fullmatch(r"answers@v1\[q\d+\]", flipped)
    assert {name for name in lost if "@v" in name} == {f"answers@v1[q{i}]" for i in range(30)}
