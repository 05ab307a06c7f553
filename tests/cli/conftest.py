"""What the tests of the command line share: an empty folder to stand in, and short ways to give and to look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keepstone.cli.main import main

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, empty; no variable names a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEEPSTONE_STORE", raising=False)
    return tmp_path


def saved(name: str, text: str = "text") -> None:
    Path("given.txt").write_text(text)
    assert main(["save", name, "given.txt"]) == 0


def printed(capsys: Shown, *words: str) -> object:
    """Return what a command prints for programs."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
