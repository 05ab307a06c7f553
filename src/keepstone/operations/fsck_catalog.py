"""Checking the catalog: does it say of keys what the footers say?

Layer: operations. SQLite may write beside a database that it only reads, so a copy is looked at. A catalog that is
wrong costs nothing: it can be deleted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from keepstone.history.state import State
from keepstone.operations.findings import UNREADABLE, Findings, told
from keepstone.operations.fsck_packs import CheckedPack
from keepstone.repository.catalog import Catalog, CatalogAhead, CatalogUnusable
from keepstone.storage.base import Storage
from keepstone.storage.local import LocalStorage

FOLDER: Final = "cache"
_SAMPLE_MAX: Final = 2_000
"""Entries of one collection in one pack that are compared; all of a smaller one."""
_ENTRIES_MAX: Final = 50_000
"""Small packs are compared first, until this many entries were; every hit is checked by itself anyway."""


def check_catalog(
    storage: Storage,
    state: State,
    packs: Sequence[CheckedPack],
    findings: Findings,
    hash_at: Callable[[int], bytes | None],
) -> None:
    """Compare a copy of the catalog, if there is one, with the footers."""
    if not isinstance(storage, LocalStorage):
        return
    source = Path(storage.location, FOLDER)
    try:
        generations = sorted(path for path in source.iterdir() if (path / "catalog.sqlite").exists())
        owner = os.stat(Path(storage.location, "store.json"))
    except OSError:
        return
    for generation in generations:
        with tempfile.TemporaryDirectory(prefix="keepstone-fsck-") as folder:
            try:
                shutil.copytree(generation, Path(folder, generation.name))
            except (OSError, shutil.Error):
                # Given up or replaced while it was copied: nobody relies on it.
                continue
            catalog = Catalog(Path(folder), (owner.st_dev, owner.st_ino))
            try:
                _compare(catalog, state, packs, findings, f"{FOLDER}/{generation.name}", hash_at)
            finally:
                catalog.close()


def _compare(
    catalog: Catalog,
    state: State,
    packs: Sequence[CheckedPack],
    findings: Findings,
    where: str,
    hash_at: Callable[[int], bytes | None],
) -> None:
    compared = wrong = 0
    try:
        covered = catalog.covered(state, hash_at)
        inside = [pack for pack in packs if pack.pack.name in covered]
        for pack in sorted(inside, key=lambda p: p.pack.record.entries):
            if compared + pack.pack.record.entries > _ENTRIES_MAX:
                break
            more, contradicted = _wrong_keys(catalog, pack)
            compared, wrong = compared + more, wrong + contradicted
    except CatalogAhead:
        # Folded since the log was read here.
        return
    except CatalogUnusable:
        findings.warn("I11", where, "is damaged; it can be deleted, and is made anew")
    except UNREADABLE as error:
        findings.warn("I11", where, f"cannot be compared: {told(error)}")
    if wrong:
        findings.warn(
            "I4", where, f"says something else than the footers about {wrong:,} keys; it can be deleted"
        )


def _wrong_keys(catalog: Catalog, pack: CheckedPack) -> tuple[int, int]:
    """Return how many entries of a pack were compared, and how many the catalog does not know or contradicts."""
    compared = wrong = 0
    for collection, section in pack.contents.sections.items():
        step = max(1, section.count // _SAMPLE_MAX)
        for entry, _ in pack.contents.entries(collection)[::step]:
            compared += 1
            row = catalog.find(collection, entry.key)
            if row is None or (row.stamp, row.writer) < (entry.stamp, entry.writer):
                wrong += 1
            elif (row.stamp, row.writer) == (entry.stamp, entry.writer):
                # A newer row of the key is another pack's, and is compared there.
                wrong += (row.digest, row.form) != (entry.digest, entry.form)
    return compared, wrong
