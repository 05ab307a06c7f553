"""Scripts that shells accept and that complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keepstone.cli.commands import COMMANDS
from keepstone.cli.main import main


def script(shell: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capfd.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capfd)

    assert all(name in text for name in COMMANDS)
    assert ("metadata" if shell == "fish" else "--metadata") in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_parse_it(shell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell, capfd))
    done = subprocess.run(
        [shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def completed(line: list[str], folder: Path) -> list[str]:
    """Return what bash offers for the last word of `line`."""
    words = " ".join(f"'{word}'" for word in line)
    code = f"""
        source {folder}/script
        COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}
        _keepstone
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=environment
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_offers_commands_options_and_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script").write_text(script("bash", capfd))
    launcher = tmp_path / "keepstone"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m keepstone "$@"\n')
    launcher.chmod(0o755)
    subprocess.run(
        [launcher, "save", "models/email", "script"], cwd=tmp_path, check=True, capture_output=True
    )

    hostile = "odd $(touch broken) name"
    subprocess.run([launcher, "save", hostile, "script"], cwd=tmp_path, check=True, capture_output=True)

    assert completed(["keepstone", "vers"], tmp_path) == ["versions"]
    assert completed(["keepstone", "--store", "x", "save", "--al"], tmp_path) == ["--alias"]
    assert completed(["keepstone", "completion", "z"], tmp_path) == ["zsh"]
    assert completed(["keepstone", "load", "mod"], tmp_path) == ["models/email"]
    assert completed(["keepstone", "load", "odd"], tmp_path) == [hostile]
    assert not (tmp_path / "broken").exists()
