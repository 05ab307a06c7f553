"""`keepstone run` and `keepstone results`, as a user meets them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from keepstone.cli.main import main

DATA = Path(__file__).parents[1] / "data"
ANSWER = """
import json, sys
for line in sys.stdin:
    item = json.loads(line)
    if item.get("bad"):
        print("oops", flush=True)
    else:
        print(json.dumps({"output": item["n"] * 2, "id": item["id"]}), flush=True)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEEPSTONE_STORE", raising=False)
    (tmp_path / "answer.py").write_text(ANSWER)
    return tmp_path


def write(*items: dict[str, Any]) -> None:
    Path("in.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def run(
    *options: str, name: str = "set", program: tuple[str, ...] = (sys.executable, "-S", "answer.py")
) -> int:
    return main(["run", "--results", name, "--input", "in.jsonl", "--key", "id", *options, "--", *program])


ITEMS = [{"id": f"q{n}", "n": n} for n in range(8)]


def test_it_says_what_is_here_and_does_the_rest(capfd: pytest.CaptureFixture[str]) -> None:
    write(*ITEMS[:5])
    assert run() == 0
    write(*ITEMS)
    assert run() == 0

    out, err = capfd.readouterr()
    assert "5 are here, 3 to do" in err
    assert "set: 3 done" in out


def test_failures_give_exit_code_8_and_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    write(*ITEMS[:2], {"id": "q9", "n": 9, "bad": True})
    assert run() == 8
    assert run() == 8
    assert "failed earlier" in capfd.readouterr().err

    assert main(["results", "set", "--failed"]) == 0
    assert "oops" not in capfd.readouterr().out
    assert main(["results", "set", "--failed", "--key", "q9"]) == 0
    assert json.loads(capfd.readouterr().out)["output"] == "oops"


def test_a_changed_program_gives_exit_code_4_and_another_set_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    write(*ITEMS[:2])
    assert run() == 0
    Path("answer.py").write_text(ANSWER + "# changed\n")

    assert run() == 4
    err = capfd.readouterr().err
    assert "answer.py: b3:" in err
    assert "--set NAME" in err
    assert run("--set", "other") == 0
    assert run("--accept-change") == 0
    assert run("--redo") == 0


def test_an_edited_line_gives_exit_code_4(capfd: pytest.CaptureFixture[str]) -> None:
    write(*ITEMS[:2])
    assert run() == 0
    write({"id": "q0", "n": 50}, ITEMS[1])

    assert run() == 4
    assert "1 answer to other inputs" in capfd.readouterr().err
    assert run("--redo") == 0
    capfd.readouterr()
    assert main(["results", "set", "--key", "q0"]) == 0
    assert json.loads(capfd.readouterr().out)["output"] == 100


def test_a_bad_line_is_named_before_anything_starts(capfd: pytest.CaptureFixture[str]) -> None:
    Path("in.jsonl").write_text('{"id": 1, "n": 1}\n{"n": 2}\n')

    assert run() == 2
    assert "line 2 has no field 'id'" in capfd.readouterr().err
    assert not Path(".keepstone").exists()


def test_a_program_that_does_not_exist_is_refused_before_anything(capfd: pytest.CaptureFixture[str]) -> None:
    write(*ITEMS[:1])

    assert run(program=("no-such-program",)) == 2
    assert "'no-such-program' is not found" in capfd.readouterr().err
    assert run(program=()) == 2
    assert not Path(".keepstone").exists()


def test_the_report_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    write(*ITEMS)
    assert run("--json", "--limit", "3") == 0

    report = json.loads(capfd.readouterr().out)
    assert (report["done"], report["left"]) == (3, 5)


def test_the_template_runs_and_is_never_overwritten(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--template"]) == 2
    assert Path("answer.py").read_text() == ANSWER
    os.remove("answer.py")
    assert main(["run", "--template"]) == 0

    Path("in.jsonl").write_text('{"question": "how?"}\n')
    program = ["--", sys.executable, "answer.py"]
    assert (
        main(["run", "--results", "t", "--input", "in.jsonl", "--key", "question", "--echo", *program]) == 0
    )
    capfd.readouterr()
    assert main(["results", "t", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["output"] == "HOW?"


def test_credentials_of_the_command_are_not_stored(capfd: pytest.CaptureFixture[str], here: Path) -> None:
    write(*ITEMS[:1])
    assert run(program=(sys.executable, "-S", "answer.py", "--api-key", "hunter2secret")) == 0

    assert "credentials removed from the configuration: command[4]" in capfd.readouterr().out
    stored = b"".join(path.read_bytes() for path in (here / ".keepstone").rglob("*") if path.is_file())
    assert b"hunter2secret" not in stored


def test_gsm8k_solutions_are_graded_and_summed_up(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-S", str(DATA / "grade.py"), "175b_verification"]
    given = ["--input", str(DATA / "gsm8k_100.jsonl"), "--key", "question", "--workers", "2"]
    assert main(["run", "--results", "gsm8k/beam", *given, "--", *command]) == 0
    assert main(["results", "gsm8k/beam", "--summary", "--json"]) == 0

    out = capfd.readouterr().out
    summary = json.loads(out[out.index("{") :])
    assert (summary["count"], summary["correct"], summary["graded"]) == (100, 58, 100)


def test_an_unknown_result_set_is_answered_with_near_ones(capfd: pytest.CaptureFixture[str]) -> None:
    write(*ITEMS[:1])
    assert run(name="gsm8k/beam") == 0

    assert main(["results", "gsm8k/baem"]) == 3
    assert "gsm8k/beam" in capfd.readouterr().err
    assert main(["results"]) == 0
    assert "gsm8k/beam" in capfd.readouterr().out
