"""Where the values of a snapshot are: in packs that are merged, in journals of others, in leaves that are damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.repository.conftest import newest_commit

import keepstone
from keepstone import Store
from keepstone.foundation.digest import Digest
from keepstone.repository import entries
from keepstone.repository.entries import pack_place
from keepstone.repository.merging import merge


@pytest.mark.parametrize("catalog", [True, False])
def test_superseded_values_are_found_after_merging_and_reopening(
    folder: Path, monkeypatch: pytest.MonkeyPatch, catalog: bool
) -> None:
    monkeypatch.setattr(entries, "CATALOG_ENTRIES_MIN", 10 if catalog else 10**9)
    kept: list[dict[str, int]] = []
    with keepstone.open(folder) as store:
        answers = store.collection("answers")
        for round_ in range(6):
            answers.update({f"k{i}": round_ * 100 + i for i in range(0, 40, round_ + 1)})
            kept.append(dict(answers))
            answers.snapshot()
            if round_ == 3:
                store.repository.session.entries.fold(lambda: False)
                merge(store.repository.session, packs_min=2)
        answers.clear()
        store.flush()
        merge(store.repository.session, packs_min=2)
        store.repository.session.entries.fold(lambda: False)

    shutil.rmtree(folder / "journals", ignore_errors=True)
    with keepstone.open(folder) as store:
        assert bool(store.repository.session.entries._covered) == catalog
        for number, items in enumerate(kept, 1):
            frozen = store.collection(f"answers@v{number}")
            assert dict(frozen) == items
            assert frozen["k0"] == items["k0"]
        assert store.fsck(read_data=True).ok


def test_a_snapshot_states_every_pack_that_it_relies_on(store: Store, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(os.urandom(3_000_000))
    answers = store.collection("answers")
    answers["small"] = 1
    store.flush()
    answers["large"] = os.urandom(9_000_000)
    answers["file"] = tmp_path / "part"
    answers["small two"] = 2
    store.flush()
    state = store.repository.session.log.state
    answers.snapshot()
    needs = set(newest_commit(store).needs)
    blobs = store.repository.session.blobs
    holding = {name for name, pack in state.packs.items() if blobs.index(pack_place(pack)).blob_count}
    assert len(needs) > 3
    assert needs == holding, "each of them holds a value, a piece or a part"


_NEIGHBOUR = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    items = store.collection("answers", durability="process")
    items["theirs"] = "from a journal"
    items["shared"] = "later"
    items["large"] = "x" * 3_000_000
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_lies_in_a_neighbours_journal_is_kept_without_it(folder: Path) -> None:
    with keepstone.open(folder) as store:
        answers = store.collection("answers")
        answers.update({"mine": 1, "shared": "early"})
        with subprocess.Popen(
            [sys.executable, "-c", _NEIGHBOUR, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as neighbour:
            assert neighbour.stdout is not None
            assert neighbour.stdout.readline() == b"ready\n"
            version = answers.snapshot()
            neighbour.kill()
        expected = {"mine": 1, "shared": "later", "theirs": "from a journal", "large": "x" * 3_000_000}
        assert version.load() == expected
    for journal in (folder / "journals").glob("[!.]*"):
        journal.unlink()
    with keepstone.open(folder) as store:
        assert dict(store.collection("answers@v1")) == expected
        assert store.fsck(read_data=True).ok


_COUNTER = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    items = store.collection("answers", durability="process")
    for n in range(10**9):
        items[f"k{n % 7}"] = n
        if n % 50 == 49:
            store.flush()
        print(n, flush=True)
"""


def test_a_snapshot_beside_a_writer_holds_what_was_acknowledged_before(folder: Path) -> None:
    with keepstone.open(folder) as store:
        answers = store.collection("answers")
        answers.create()
        with subprocess.Popen(
            [sys.executable, "-c", _COUNTER, str(folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(12):
                acknowledged = [int(writer.stdout.readline()) for _ in range(20)][-1]
                held = answers.snapshot().load()
                for rest in range(7):
                    newest = max(n for n in range(acknowledged + 1) if n % 7 == rest)
                    assert held[f"k{rest}"] >= newest
                    assert held[f"k{rest}"] % 7 == rest
            writer.kill()
        kept = store.versions("answers")
        assert len(kept) > 2
        merge(store.repository.session, packs_min=2)
        assert all(dict(store.collection(v.selector)) == v.load() for v in kept)


def test_a_damaged_leaf_is_an_error(folder: Path) -> None:
    with keepstone.open(folder) as store:
        store.collection("answers").update({f"k{i}": i for i in range(50)})
        version = store.collection("answers").snapshot()
        commit = newest_commit(store)
        leaf = Digest(version.parts[0].digest)
        place = store.repository.session.find_blob(leaf)
    path = folder / "log" / f"{commit.number:020d}"
    data = bytearray(path.read_bytes())
    data[place.pack.offset + place.offset + 60] ^= 1
    path.write_bytes(data)
    with keepstone.open(folder) as store, pytest.raises(keepstone.CorruptionError):
        _ = store.collection("answers@v1")["k7"]
