"""Snapshots and the past, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Shown, printed, saved

import keepstone
from keepstone.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")


def test_a_snapshot_is_taken_shown_and_loaded(capsys: Shown) -> None:
    with keepstone.open(".keepstone") as store:
        store.collection("answers").update({"q1": 72, "q2": {"text": "ü"}})
    assert main(["snapshot", "answers", "--alias", "prod", "--metadata", "accuracy=0.5"]) == 0
    assert capsys.readouterr().out.startswith("answers@v1  2 items  b3:")
    assert main(["snapshot", "answers", "--metadata", "accuracy=0.5"]) == 0
    assert capsys.readouterr().out == "answers@v1 is the same already; no new version\n"
    with keepstone.open(".keepstone") as store:
        del store.collection("answers")["q2"]
    facts = printed(capsys, "snapshot", "answers")
    assert isinstance(facts, dict)
    assert (facts["selector"], facts["items"], facts["created_new"]) == ("answers@v2", 1, True)

    shown = printed(capsys, "show", "answers@prod")
    assert isinstance(shown, dict)
    assert (shown["kind"], shown["items"], shown["metadata"]) == ("snapshot", 2, {"accuracy": 0.5})
    assert main(["show", "answers@prod"]) == 0
    assert "size     2 items\n" in capsys.readouterr().out
    assert main(["load", "answers@prod", "--key", "q2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"text": "ü"}
    assert main(["load", "answers@v1", "all.jsonl"]) == 0
    assert "answers@v1 is in all.jsonl (2 items)" in capsys.readouterr().err
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert lines == [{"key": "q1", "value": 72}, {"key": "q2", "value": {"text": "ü"}}]


def test_a_snapshot_of_bytes_cannot_be_written_as_lines(capsys: Shown) -> None:
    with keepstone.open(".keepstone") as store:
        store.collection("c")["raw"] = b"\0"
        store.collection("c").snapshot()
    assert main(["load", "c@v1", "out"]) == 2
    assert "item 'raw' of c@v1 is bytes" in capsys.readouterr().err
    assert not Path("out").exists()
    assert main(["snapshot", "nosuch"]) == 3


def test_what_was_is_listed_shown_and_loaded(capsys: Shown) -> None:
    saved("a", "one")
    saved("a", "two")
    saved("b")
    with keepstone.open(".keepstone") as store:
        store.collection("c")["k"] = 1
    capsys.readouterr()

    assert main(["load", "a", "--at", "0"]) == 0
    assert capsys.readouterr().out == "one"
    assert main(["list", "--names", "--at", "1"]) == 0
    assert capsys.readouterr().out == "a\n"
    assert printed(capsys, "list", "--at", "2001-01-01") == []
    listed = printed(capsys, "list", "--at", "2999-01-01")
    assert isinstance(listed, list)
    assert [fact["name"] for fact in listed] == ["a", "b", "c"]
    newest = printed(capsys, "show", "a", "--at", "0")
    assert isinstance(newest, dict)
    assert newest["selector"] == "a@v1"
    versions = printed(capsys, "versions", "a", "--at", "0")
    assert isinstance(versions, list)
    assert [fact["number"] for fact in versions] == [1]
    commits = printed(capsys, "history", "--at", "1")
    assert isinstance(commits, list)
    assert [commit["number"] for commit in commits] == [1, 0]
    assert main(["load", "c", "--key", "k", "--at", "2999-01-01"]) == 0
    assert capsys.readouterr().out == "1\n"
    assert main(["load", "b", "--at", "0"]) == 3
    assert main(["load", "b", "--at", "yesterday"]) == 2
    assert main(["load", "b", "--at", "99"]) == 3
