"""What is known of a program's surroundings: its code in git, its command line, its packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import keepstone
from keepstone.operations.surroundings import DIFF_BYTES_MAX, git_state, imported_packages, surroundings

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    options = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *options, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def no_other_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    # A hook of git that runs the tests says in its environment which repository it is about.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "topic")
    (folder / "train.py").write_text("rate = 0.1\n")
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "begin")
    return folder


def test_a_clean_state_is_commit_and_branch(code: Path) -> None:
    state, removed = git_state(code)

    assert state == {"commit": git(code, "rev-parse", "HEAD"), "branch": "topic", "dirty": False, "diff": ""}
    assert removed == ()


def test_what_differs_is_kept_as_text_without_binary_content(code: Path) -> None:
    (code / "train.py").write_text("rate = 0.2\n")
    (code / "weights.bin").write_bytes(bytes(range(255, -1, -1)))
    (code / "sub").mkdir()

    state, _ = git_state(code / "sub")

    assert state["dirty"] is True
    assert "-rate = 0.1\n+rate = 0.2\n" in state["diff"]
    assert "Binary files a/weights.bin and b/weights.bin differ" in state["diff"]
    assert len(state["diff"]) < 1000


def test_credentials_leave_the_diff(code: Path) -> None:
    key = "R7x2Kq9Zt4Lm8Wn3Vb6Yc1Df5Hg0Js2P"
    (code / "train.py").write_text(
        f'rate = 0.1\napi_key = "{key}"\nurl = "https://ada:hunter2@host/x"\nend = 1\n'
    )

    state, removed = git_state(code)

    assert removed == ("git.diff",)
    assert key not in state["diff"]
    assert "hunter2" not in state["diff"]
    assert '+api_key = "[removed]"' in state["diff"]
    assert "+end = 1" in state["diff"]


def test_a_large_diff_is_cut_at_a_line(code: Path) -> None:
    (code / "train.py").write_text("".join(f"line {i}\n" for i in range(200_000)))

    state, _ = git_state(code)

    assert state["diff_is_cut"] is True
    assert DIFF_BYTES_MAX - 100 < len(state["diff"]) <= DIFF_BYTES_MAX
    assert state["diff"].endswith("\n")


def test_a_detached_head_and_a_repository_without_commits(code: Path, tmp_path: Path) -> None:
    git(code, "checkout", "-q", "--detach")
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q", "-b", "first")

    assert git_state(code)[0]["branch"] is None
    assert git_state(tmp_path / "empty") == ({"commit": None, "branch": "first"}, ())


def test_outside_of_git_and_without_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == ({"missing": "not in a git repository"}, ())
    monkeypatch.setenv("PATH", str(tmp_path))
    state, _ = git_state(tmp_path)
    assert state["missing"].startswith("git could not be started")


def test_the_same_surroundings_are_described_alike() -> None:
    assert surroundings() == surroundings()
    packages = imported_packages()
    assert packages == imported_packages()
    assert {"msgspec", "pytest"} <= packages.keys()
    assert list(packages) == sorted(packages, key=str.lower)


def test_a_program_is_described_by_its_own_code_and_command(code: Path, tmp_path: Path) -> None:
    (code / "train.py").write_text(
        "import sys, keepstone\n"
        "with keepstone.open(sys.argv[1]) as store, store.track('train'):\n"
        "    store.save('model', 1)\n"
    )
    arguments = [str(code / "train.py"), str(tmp_path / "store"), "--api-key", "abcdef"]
    subprocess.run([sys.executable, *arguments], check=True, cwd=tmp_path)

    with keepstone.open(tmp_path / "store") as store:
        kept = store.load("train")
    assert kept["git"]["commit"] == git(code, "rev-parse", "HEAD")
    assert "store.save('model', 1)" in kept["git"]["diff"]
    assert kept["command"][1:] == [*arguments[:-1], "[removed]"]
    assert kept["removed"] == [f"command[{len(arguments)}]"]
