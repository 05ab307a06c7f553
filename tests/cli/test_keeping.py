"""init, save and load: as a person uses them."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Shown, printed, saved

import keepstone
from keepstone.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")


def give_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# ---- init ---------------------------------------------------------


def test_init_makes_a_store_that_commands_below_find(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["init"]) == 0
    (folder / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(folder / "deep" / "er")
    saved("a")

    assert (folder / ".keepstone" / "store.json").exists()
    assert not (folder / "deep" / "er" / ".keepstone").exists()


def test_init_twice_says_that_it_is_there(capsys: Shown) -> None:
    assert main(["init", "runs"]) == 0
    assert main(["init", "runs"]) == 0

    assert "already" in capsys.readouterr().out


def test_init_refuses_a_folder_with_other_things(folder: Path, capsys: Shown) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("x")

    assert main(["init", "full"]) == 2
    assert "full" in capsys.readouterr().err


# ---- the store ---------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["list"], ["show", "a"], ["load", "a"], ["versions", "a"], ["remove", "a"], ["fsck"]]
)
def test_commands_that_do_not_keep_anything_never_make_a_store(
    words: list[str], folder: Path, capsys: Shown
) -> None:
    assert main(words) == 3

    shown = capsys.readouterr().err
    assert "no store at" in shown
    assert "keepstone init" in shown
    assert os.listdir(folder) == []


def test_the_environment_names_the_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPSTONE_STORE", str(folder / "elsewhere"))
    saved("a")

    assert (folder / "elsewhere" / "store.json").exists()
    assert not (folder / ".keepstone").exists()


# ---- save and load ---------------------------------------------------------


@pytest.mark.parametrize("name", ["models/email", "🦊 fox/日本", "-dash", "with space", "a:b", "--json"])
def test_a_file_comes_back_under_any_name(name: str, folder: Path) -> None:
    content = bytes(range(256)) * 50
    (folder / "in.bin").write_bytes(content)

    assert main(["save", "--", name, "in.bin"]) == 0
    assert main(["load", "--", name, "out.bin"]) == 0
    assert (folder / "out.bin").read_bytes() == content


def test_a_file_goes_to_standard_output_byte_by_byte(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (folder / "in.bin").write_bytes(b"\x00\xff\r\n" * 1000)
    main(["save", "a", "in.bin"])
    capfdbinary.readouterr()

    assert main(["load", "a"]) == 0
    assert capfdbinary.readouterr().out == b"\x00\xff\r\n" * 1000


def test_a_reader_of_a_large_file_may_go_away(folder: Path) -> None:
    (folder / "big").write_bytes(os.urandom(4_000_000))
    assert main(["save", "big", "big"]) == 0
    command = [sys.executable, "-m", "keepstone", "load", "big"]
    loading = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert loading.stdout is not None
    assert loading.stdout.read(10) == (folder / "big").read_bytes()[:10]
    loading.stdout.close()
    assert loading.stderr is not None

    assert (loading.wait(timeout=20), loading.stderr.read()) == (0, b"")
    loading.stderr.close()


def test_a_path_that_cannot_be_written_whole_is_named_and_left_alone(folder: Path) -> None:
    (folder / "big").write_bytes(os.urandom(400_000))
    assert main(["save", "big", "big"]) == 0
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, "-m", "keepstone"]
    done = subprocess.run([*limited, "load", "big", "out"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (6, "keepstone: file too large: out\n")
    assert sorted(path.name for path in folder.iterdir()) == [".keepstone", "big"]


def test_an_executable_stays_one(folder: Path) -> None:
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    main(["save", "tool", "tool"])
    main(["load", "tool", "again"])

    assert (folder / "again").stat().st_mode & stat.S_IXUSR


def test_a_folder_comes_back_whole(folder: Path, capsys: Shown) -> None:
    (folder / "data" / "sub").mkdir(parents=True)
    (folder / "data" / "sub" / "x.txt").write_text("x")
    (folder / "data" / "empty").mkdir()
    assert main(["save", "data", "data"]) == 0
    assert main(["load", "data", "out"]) == 0

    assert (folder / "out" / "sub" / "x.txt").read_text() == "x"
    assert (folder / "out" / "empty").is_dir()
    assert main(["load", "data"]) == 2
    assert "PATH" in capsys.readouterr().err


def test_standard_input_is_bytes_text_or_json(monkeypatch: pytest.MonkeyPatch, capsys: Shown) -> None:
    for form, data in (("bytes", b"\xff"), ("text", "né".encode()), ("json", b'{"b": [1, 2.5], "a": null}')):
        give_input(monkeypatch, data)
        assert main(["save", form, "-", "--as", form]) == 0

    with keepstone.open(".keepstone", mode="r") as store:
        assert [store.load(form) for form in ("bytes", "text", "json")] == [
            b"\xff",
            "né",
            {"b": [1, 2.5], "a": None},
        ]
    capsys.readouterr()
    assert main(["load", "text"]) == 0
    assert capsys.readouterr().out == "né"
    assert main(["load", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"b": [1, 2.5], "a": None}


@pytest.mark.parametrize(("form", "data"), [("text", b"\xff"), ("json", b"{"), ("file", b"x")])
def test_input_of_another_form_is_refused(form: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    give_input(monkeypatch, data)

    assert main(["save", "a", "-", "--as", form]) == 2


def test_saving_the_same_makes_no_version(capsys: Shown) -> None:
    saved("a")
    saved("a")
    assert "same already" in capsys.readouterr().out

    saved("a", "other")
    assert [v["number"] for v in printed(capsys, "versions", "a")] == [2, 1]  # type: ignore[union-attr]


def test_metadata_parents_aliases_and_message_are_kept(capsys: Shown) -> None:
    saved("prompts/reader")
    Path("m").write_text("m")
    options = ["--metadata", "accuracy=0.87", "--metadata", "by=Ada", "--metadata", '{"deep": {"x": [1]}}']
    options += ["--parent", "prompts/reader", "--alias", "prod", "-m", "first one"]
    assert main(["save", "models/email", "m", *options]) == 0
    facts = printed(capsys, "show", "models/email@prod")

    assert isinstance(facts, dict)
    assert facts["metadata"] == {"accuracy": 0.87, "by": "Ada", "deep": {"x": [1]}}
    assert facts["aliases"] == ["prod"]
    assert len(facts["parents"]) == 1
    history = printed(capsys, "history", "models/email")
    assert isinstance(history, list)
    assert history[0]["message"] == "first one"


@pytest.mark.parametrize("wrong", ["accuracy", "=1", "{broken"])
def test_metadata_that_is_not_understood(wrong: str, capsys: Shown) -> None:
    Path("m").write_text("m")

    assert main(["save", "a", "m", "--metadata", wrong]) == 2
    assert "--metadata" in capsys.readouterr().err


def test_a_missing_file_and_a_missing_version_are_not_found(capsys: Shown) -> None:
    assert main(["save", "a", "nowhere.txt"]) == 3
    saved("models/email")
    capsys.readouterr()
    assert main(["load", "models/email@v7"]) == 3
    assert main(["load", "models/emial"]) == 3
    assert "models/email" in capsys.readouterr().err


def test_an_existing_path_stays_unless_forced(folder: Path, capsys: Shown) -> None:
    saved("a", "from the store")
    (folder / "out").write_text("mine")

    assert main(["load", "a", "out"]) == 4
    assert "--force" in capsys.readouterr().err
    assert (folder / "out").read_text() == "mine"
    assert main(["load", "a", "out", "--force"]) == 0
    assert (folder / "out").read_text() == "from the store"
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_a_folder_takes_the_place_of_another_only_when_forced(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "new").write_text("n")
    (folder / "out").mkdir()
    (folder / "out" / "old").write_text("o")
    main(["save", "d", "in"])

    assert main(["load", "d", "out"]) == 4
    assert os.listdir("out") == ["old"]
    assert main(["load", "d", "out", "--force"]) == 0
    assert os.listdir("out") == ["new"]


def test_a_folder_that_cannot_be_replaced_is_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "new").write_text("n")
    (folder / "out").mkdir()
    (folder / "out" / "mine").write_text("kept nowhere else")
    main(["save", "d", "in"])
    rename = os.rename

    def interrupted(source: str, target: str) -> None:
        if target == str(folder / "out") and source.endswith("new"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)

    assert main(["load", "d", "out", "--force"]) == 130
    assert (folder / "out" / "mine").read_text() == "kept nowhere else"
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_one_item_of_a_collection(capsys: Shown) -> None:
    with keepstone.open(".keepstone") as store:
        store.collection("answers")["q 1\x1b"] = {"output": 72}
    assert main(["load", "answers", "--key", "q 1\x1b"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": 72}
    assert main(["load", "answers", "--key", "none"]) == 3
    assert main(["load", "answers"]) == 4


# ---- checkout ---------------------------------------------------------


def test_checkout_makes_a_folder_and_updates_it_and_loses_nothing(folder: Path, capsys: Shown) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "x.txt").write_text("one")
    (folder / "in" / "old.txt").write_text("old")
    main(["save", "data", "in"])
    (folder / "in" / "x.txt").write_text("two")
    (folder / "in" / "old.txt").unlink()
    main(["save", "data", "in"])
    capsys.readouterr()

    assert main(["checkout", "data@v1", "out"]) == 0
    assert capsys.readouterr().err == "data@v1 is in out (6 B)\n"
    assert main(["checkout", "data", "out"]) == 4
    assert "or update it" in capsys.readouterr().err
    assert main(["checkout", "data", "out", "--update"]) == 0
    assert {path.name: path.read_text() for path in (folder / "out").iterdir()} == {"x.txt": "two"}

    (folder / "out" / "mine.txt").write_text("my own")
    capsys.readouterr()
    assert main(["checkout", "data@v1", "out", "--update"]) == 4
    assert "1 file that this store does not hold: 'mine.txt'" in capsys.readouterr().err
    assert main(["checkout", "data@v1", "out", "--force"]) == 2
    assert main(["checkout", "data@v1", "out", "--update", "--force"]) == 0
    assert {path.name for path in (folder / "out").iterdir()} == {"x.txt", "old.txt"}


def test_a_project_and_the_store_in_it_go_together(folder: Path, capsys: Shown) -> None:
    main(["init"])
    (folder / "a.txt").write_text("one")
    assert main(["save", "project", "."]) == 0
    (folder / "a.txt").write_text("two")
    assert main(["save", "project", "."]) == 0

    assert main(["checkout", "project@v1", ".", "--update", "--force"]) == 0
    assert (folder / "a.txt").read_text() == "one"
    capsys.readouterr()
    assert main(["load", "project", ".", "--force"]) != 0
    assert "is a store, and is not replaced" in capsys.readouterr().err
    assert main(["load", "project", "out"]) == 0
    assert [path.name for path in (folder / "out").iterdir()] == ["a.txt"]


def test_checkout_writes_links_that_lead_outside_only_when_told(folder: Path, capsys: Shown) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "link").symlink_to("../elsewhere")
    main(["save", "data", "in"])

    assert main(["checkout", "data", "out"]) != 0
    assert "--outside-links" in capsys.readouterr().err
    assert main(["checkout", "data", "out", "--outside-links"]) == 0
    assert os.readlink(folder / "out" / "link") == "../elsewhere"
    (folder / "in" / "more").symlink_to("/etc")
    main(["save", "data", "in"])
    assert main(["checkout", "data", "out", "--update"]) != 0
    assert main(["checkout", "data", "out", "--update", "--outside-links"]) == 0
    assert os.readlink(folder / "out" / "more") == "/etc"


def test_checkout_of_a_snapshot_says_that_it_has_items(folder: Path, capsys: Shown) -> None:
    with keepstone.open(".keepstone") as store:
        store.collection("answers")["q1"] = 1
        store.collection("answers").snapshot()
    assert main(["checkout", "answers@v1", "out"]) == 2
    assert "it has items, and no files" in capsys.readouterr().err


# ---- credentials --------------------------------------------------


def test_save_warns_of_credentials_or_refuses_them(folder: Path, capsys: Shown) -> None:
    key = "ghp_" + "R7x2Kq9Zt4" * 4
    (folder / "notes.txt").write_text(f"use {key}\n")

    assert main(["save", "notes", "notes.txt"]) == 0
    shown = capsys.readouterr()
    assert main(["save", "others", "notes.txt", "--secrets", "refuse"]) == 2
    refused = capsys.readouterr()
    assert main(["save", "others", "notes.txt", "--secrets", "off"]) == 0

    said = "'notes' holds what looks like credentials: a GitHub token (notes.txt, line 1)"
    assert shown.err == f"keepstone: {said}; it is saved as it is\n"
    assert shown.out.startswith("notes@v1")
    assert "it was not saved" in refused.err
    assert key not in shown.err + refused.err
    assert capsys.readouterr().err == ""
