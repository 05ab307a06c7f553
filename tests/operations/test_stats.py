"""Statistics: what is said is what lies on the disk."""

from __future__ import annotations

from pathlib import Path

from tests.operations.conftest import ANSWERS

import keepstone


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


def test_everything_is_counted_once(root: Path) -> None:
    with keepstone.open(root, mode="r") as store:
        found = store.stats()

    assert (found.artifacts, found.versions, found.collections) == (2, 3, 1)
    assert found.entries == len(ANSWERS) + 1
    assert found.commits == len(list((root / "log").iterdir()))
    assert (found.packs, found.journals) == (5, 1)
    assert found.location == str(root)


def test_sizes_are_those_of_the_files(root: Path) -> None:
    with keepstone.open(root, mode="r") as store:
        found = store.stats()

    assert found.pack_bytes == bytes_below(root / "packs")
    assert found.log_bytes == bytes_below(root / "log")
    assert found.journal_bytes == bytes_below(root / "journals")
    assert found.total_bytes == found.pack_bytes + found.log_bytes + found.journal_bytes


def test_removed_versions_and_keys_do_not_count(root: Path) -> None:
    with keepstone.open(root) as store:
        before = store.stats()
        store.remove("prompts/reader@v1")
        del store.collection("answers")["q1"]

        after = store.stats()

    assert (after.versions, after.entries) == (before.versions - 1, before.entries - 1)


def test_an_empty_store_is_all_zeros(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "new") as store:
        assert set(store.stats()[1:]) == {0}
        assert store.stats().total_bytes == 0
