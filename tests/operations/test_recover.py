"""Recovery: what dead processes left is published once, however often one recovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.operations.conftest import ANSWERS

import keepstone
from keepstone.foundation.errors import StoragePermissionError

KILLED = """
import os, signal, sys, keepstone
store = keepstone.open(sys.argv[1])
answers = store.collection("answers", durability="process")
for i in range(int(sys.argv[2])):
    answers[f"killed {i}"] = i
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_after(root: Path, items: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(items)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_process_acknowledged_is_published(root: Path) -> None:
    killed_after(root, 50)
    with keepstone.open(root) as store:
        report = store.recover()

        assert (report.journals, report.entries) == (2, 51)
        assert (report.skipped, report.damaged, report.strangers) == (0, (), ())
        answers = store.collection("answers")
        assert [answers[f"killed {i}"] for i in range(50)] == list(range(50))
        assert len(answers) == len(ANSWERS) + 51
        assert [name for name in os.listdir(root / "journals") if not name.startswith(".")] == []


def test_recovering_again_finds_nothing(root: Path) -> None:
    with keepstone.open(root) as store:
        store.recover()
        commits = store.stats().commits

        again = store.recover()

        assert (again.journals, again.entries, again.swept) == (0, 0, 0)
        assert store.stats().commits == commits


def test_a_journal_that_comes_back_after_it_was_published_changes_nothing(root: Path) -> None:
    journal = next(path for path in (root / "journals").iterdir() if not path.name.startswith("."))
    data = journal.read_bytes()
    with keepstone.open(root) as store:
        store.recover()
        del store.collection("answers")["late"]
        store.flush()
        # As after a crash between the commit and the removal of the file.
        journal.write_bytes(data)

        store.recover()

        assert "late" not in store.collection("answers")
        assert not journal.exists()


def test_the_journal_of_a_living_process_is_left_to_it(root: Path) -> None:
    script = KILLED.replace(
        "os.kill(os.getpid(), signal.SIGKILL)", "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(root), "3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with keepstone.open(root) as store:
            report = store.recover()
            assert (report.journals, report.entries) == (1, 1)
            assert store.collection("answers")["killed 2"] == 2
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_unborn_journals_are_swept(root: Path) -> None:
    (root / "journals" / ".tmp-dead").write_bytes(b"half a header")
    with keepstone.open(root) as store:
        assert store.recover().swept == 1


def test_strangers_are_named_and_kept(root: Path) -> None:
    (root / "journals" / "notes.txt").write_text("mine")
    with keepstone.open(root) as store:
        assert [stranger.name for stranger in store.recover().strangers] == ["notes.txt"]
    assert (root / "journals" / "notes.txt").read_text() == "mine"


def test_damage_below_what_was_synced_is_set_aside_and_the_rest_published(root: Path) -> None:
    with keepstone.open(root) as store:
        answers = store.collection("answers")
        for key in ("first", "second", "third"):
            answers[key] = f"the text of {key}"
    journal = next(p for p in (root / "journals").iterdir() if b"text of second" in p.read_bytes())
    data = bytearray(journal.read_bytes())
    data[data.index(b"text of first")] ^= 1
    journal.write_bytes(data)

    with keepstone.open(root) as store:
        report = store.recover()

        assert report.damaged == (journal.name,)
        assert report.skipped == 1
        answers = store.collection("answers")
        assert (answers["second"], answers["third"]) == ("the text of second", "the text of third")
        assert "first" not in answers
        aside = root / "journals" / f".{journal.name}.damaged"
        assert aside.exists()
        assert aside.read_bytes() == bytes(data)
        assert store.recover().damaged == ()


def test_a_store_open_for_reading_is_not_recovered(root: Path) -> None:
    with keepstone.open(root, mode="r") as store, pytest.raises(StoragePermissionError):
        store.recover()


def test_damage_in_an_old_pack_does_not_stop_publishing(tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "store") as store:
        answers = store.collection("answers")
        for i in range(15):
            answers[f"q{i}"] = os.urandom(3000).hex()
            answers.flush()
    pack = min((tmp_path / "store" / "packs").rglob("*-*"))
    data = bytearray(pack.read_bytes())
    data[500] ^= 1
    pack.write_bytes(data)

    with keepstone.open(tmp_path / "store") as store:
        answers = store.collection("answers")
        answers["one more"] = os.urandom(3000).hex()
        answers.flush()
