"""The check of the catalog: wrong or not, it costs nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.operations.conftest import check

import keepstone
from keepstone.operations.fsck import Severity
from keepstone.repository.catalog import Catalog

Snapshot = Callable[[Path], object]


def with_catalog(root: Path) -> Path:
    """Make the catalog that a larger store would have; return its file."""
    with keepstone.open(root) as store:
        session = store.repository.session
        owner = os.stat(root / "store.json")
        catalog = Catalog(root / "cache", (owner.st_dev, owner.st_ino))
        catalog.fold(session.log.state, session.blobs, lambda: False)
        catalog.close()
    return next((root / "cache").rglob("catalog.sqlite"))


def test_a_catalog_that_agrees_is_no_finding_and_is_not_touched(root: Path, snapshot: Snapshot) -> None:
    with_catalog(root)
    before = snapshot(root)

    assert check(root, read_data=True).findings == ()
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET digest = (SELECT digest FROM entries WHERE key = 'q2') WHERE key = 'q1'",
        "DELETE FROM entries WHERE key = 'q5'",
        "DROP TABLE entries",
    ],
)
def test_a_catalog_that_disagrees_is_a_warning(root: Path, change: str) -> None:
    with contextlib.closing(sqlite3.connect(with_catalog(root), isolation_level=None)) as connection:
        connection.execute(change)

    report = check(root)

    assert report.ok
    (finding,) = report.findings
    assert finding.severity == Severity.WARNING
    assert finding.where.startswith("cache/")
    assert "can be deleted" in finding.problem


def test_a_catalog_that_was_folded_further_than_the_log_was_read_is_not_judged(root: Path) -> None:
    with_catalog(root)
    slots = sorted((root / "log").iterdir())
    slots[-1].unlink()

    report = check(root)

    assert report.tip == len(slots) - 2
    assert [finding for finding in report.findings if finding.where.startswith("cache/")] == []
