"""docs/invariants.md: each number has its statement, tests, reason, and code that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
FSCK = sorted((ROOT / "src" / "keepstone" / "operations").glob("f*.py"))
NUMBERS = [f"I{number}" for number in range(1, 16)]


def test_every_invariant_names_tests_and_says_why() -> None:
    rows = dict(re.findall(r"^\| (I\d+) \| (.+) \|$", TEXT, re.MULTILINE))

    assert list(rows) == NUMBERS
    assert all("tests/" in row for row in rows.values())
    assert re.findall(r"^\*\*(I\d+)\.\*\*", TEXT, re.MULTILINE) == NUMBERS


def test_what_fsck_checks_is_told_of_every_invariant() -> None:
    told = dict(re.findall(r"^\| \*\*(I\d+)\*\* \| (.+) \|$", TEXT, re.MULTILINE))
    source = "".join(path.read_text(encoding="utf-8") for path in FSCK)

    assert list(told) == NUMBERS
    # A number that `fsck` prints has something to be checked.
    for number in set(re.findall(r'"(I\d+)"', source)):
        assert not told[number].startswith("nothing"), number


def test_code_and_names_that_reasons_mention_exist() -> None:
    for paths in re.findall(r"`([a-z]+/[a-z_]+\.py)`", TEXT):
        assert (ROOT / "src" / "keepstone" / paths).is_file(), paths
    for path, name in re.findall(r"`([a-z]+/[a-z_]+\.py)`, `(\w+)`", TEXT):
        assert f"def {name}(" in (ROOT / "src" / "keepstone" / path).read_text(encoding="utf-8")
