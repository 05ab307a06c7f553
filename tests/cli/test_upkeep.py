"""stats, fsck and recover, on stores that are whole, damaged, and left behind by a killed program."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Shown

import keepstone
from keepstone.cli.main import main


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEEPSTONE_STORE", raising=False)
    with keepstone.open(".keepstone") as opened:
        opened.save("models/email", random.Random(1).randbytes(900_000))
        opened.collection("answers").update({f"q{i}": {"output": i} for i in range(50)})
    return tmp_path / ".keepstone"


def test_stats_for_people_and_for_programs(store: Path, capsys: Shown) -> None:
    assert main(["stats"]) == 0
    shown = capsys.readouterr().out
    assert "1 artifact (1 version), 1 collection (50 items)" in shown

    assert main(["stats", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["artifacts"], facts["entries"]) == (1, 50)
    assert facts["total_bytes"] > 0


def test_what_is_one_is_counted_as_one(store: Path, capsys: Shown) -> None:
    with keepstone.open("single") as single:
        single.save("note", "text")
    assert main(["--store", "single", "fsck"]) == 0
    assert "checked 1 commit, 1 pack, 0 journals, " in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--read-data"]])
def test_fsck_of_a_whole_store(options: list[str], store: Path, capsys: Shown) -> None:
    assert main(["fsck", *options]) == 0
    assert "nothing is damaged" in capsys.readouterr().out
    assert main(["fsck", "--json", *options]) == 0
    facts = json.loads(capsys.readouterr().out)

    assert (facts["ok"], facts["findings"]) == (True, [])


def test_fsck_names_what_is_damaged(store: Path, capsys: Shown) -> None:
    pack = max((store / "packs").rglob("*-*"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 0xFF
    pack.chmod(0o644)
    pack.write_bytes(data)

    assert main(["fsck", "--read-data"]) == 5
    shown = capsys.readouterr().out
    assert "models/email" in shown
    assert main(["load", "models/email", "out"]) == 5
    assert not Path("out").exists()
    assert main(["fsck", "--read-data", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["findings"]


def test_recover_publishes_what_a_killed_program_left(store: Path, capsys: Shown) -> None:
    code = (
        "import keepstone, time, sys; store = keepstone.open('.keepstone'); "
        "store.collection('answers', durability='process')['late'] = 1; print('kept', flush=True); time.sleep(60)"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "kept\n"
    program.send_signal(signal.SIGKILL)
    program.communicate()

    assert main(["load", "answers", "--key", "late"]) == 0
    capsys.readouterr()
    assert main(["recover"]) == 0
    assert "published" in capsys.readouterr().out
    assert main(["recover"]) == 0
    assert capsys.readouterr().out == "nothing was left behind\n"
    assert main(["recover", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["journals"] == 0
    assert main(["load", "answers", "--key", "late"]) == 0


def test_doctor_says_where_no_store_can_be_made_and_where_there_is_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    capsys.readouterr()
    assert main(["doctor", "."]) == 6
    said = capsys.readouterr().out
    assert "there is no store, and none can be made: " in said
    assert "is not empty and not a store: it holds " in said
    assert said.endswith(f"there is one at {folder / '.keepstone'}\n")
    assert main(["doctor", "new one"]) == 0
    assert f"`keepstone init '{folder / 'new one'}'` makes one" in capsys.readouterr().out
    assert main(["doctor", ""]) == 2
    assert main(["doctor"]) == 0
    assert not (folder / "new one").exists()
