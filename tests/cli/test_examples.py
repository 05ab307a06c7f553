"""Every command's help has examples, and they work as they stand."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import keepstone
from keepstone.cli.commands import COMMANDS
from keepstone.cli.main import main


def examples(command: str) -> list[str]:
    text = COMMANDS[command].load().EXAMPLES.replace("\\\n", " ")
    lines = [line.split("   #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `keepstone` and `python` in the path, and a store such as the examples speak of."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in (("keepstone", "-m keepstone"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("KEEPSTONE_STORE", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def fill(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "x.txt").write_text("x")
    with keepstone.open(".keepstone") as store:
        store.save("prompts/reader", "Answer with a number.")
        store.save("models/email", b"1")
        store.save("models/email", b"2", aliases=["prod"])
        store.save("data/train", folder / "in")
        store.collection("answers/gsm8k")["q17"] = {"output": 72}
        store.pin(["models/email"], "keepstone.lock")
        store.bundle("keepstone.lock", "paper.bundle")
        keepstone.clone(".keepstone", "other-store")
        results = keepstone.Results(store, "gsm8k/beam", config={"model": "m"})
        results.add(keepstone.Record(key="q1", input={"question": "q1"}, output="a", correct=True))
        results.add(keepstone.Record(key="q2", input={"question": "q2"}, error="timeout"))


def fill_inputs(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"\x00\x01")
    (folder / "config.json").write_text('{"temperature": 0}')
    (folder / "folder").mkdir()
    (folder / "folder" / "x.txt").write_text("x")
    (folder / "questions.jsonl").write_text(
        "".join(json.dumps({"question": f"question {i}"}) + "\n" for i in range(5))
    )


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"demo"}))
def test_examples_run_as_they_stand(command: str, world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if command not in ("init", "run"):
        fill(world)
    if command in ("save", "run"):
        fill_inputs(world)
    lines = [line for line in examples(command) if "s3://" not in line]
    assert lines

    for line in lines:
        assert "keepstone " in line
        if set("|><") & set(line):
            done = subprocess.run(
                ["bash", "-ec", "set -o pipefail; " + line], capture_output=True, text=True, check=False
            )
            code, said = done.returncode, done.stderr
        else:
            code, said = main(shlex.split(line)[1:]), capfd.readouterr().err
        assert code == 0, f"{line}: {said}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_shows_the_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0

    shown = capsys.readouterr().out
    assert all(line.strip() in shown for line in COMMANDS[command].load().EXAMPLES.splitlines())
    assert shown.startswith(f"usage: keepstone {command}")
