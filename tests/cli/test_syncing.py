"""`push`, `pull`, `sync` and `clone` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import keepstone
from keepstone.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEEPSTONE_STORE", raising=False)
    with keepstone.open(".keepstone") as store:
        store.save("m", "one")
        store.save("m", "two", aliases=["prod"])
        store.collection("c")["k"] = 1
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_push_pull_and_clone_bring_everything(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "push", "shared")
    assert (code, out) == (3, "")
    assert "there is no store at" in err
    assert "--create" in err

    code, out, _ = run(capsys, "push", "shared", "--create", "--dry-run")
    assert code == 0
    assert "2 versions" in out
    assert not (here / "shared").exists()

    code, out, _ = run(capsys, "push", "shared", "--create")
    assert code == 0
    assert out.startswith(f"push {here}/.keepstone → {here}/shared: 2 versions, 1 item, 2 new names")
    assert "m@prod → v2" in out
    assert run(capsys, "push", "shared")[:2] == (
        0,
        f"push {here}/.keepstone → {here}/shared: nothing new\n",
    )

    assert run(capsys, "clone", "shared", "copy")[0] == 0
    with keepstone.open("copy") as copy:
        assert (copy.load("m@prod"), dict(copy.collection("c"))) == ("two", {"k": 1})
    assert run(capsys, "clone", "shared", "copy")[0] == 2
    assert run(capsys, "clone", "nowhere", "copy2")[0] == 3
    assert not (here / "copy2").exists()
    assert run(capsys, "--store", "new", "pull", "shared", "--select", "m@v1")[0] == 0
    with keepstone.open("new") as new:
        assert [v.selector for v in new.versions("m")] == ["m@v1"]


def test_conflicts_are_listed_and_end_with_4(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "push", "shared", "--create")[0] == 0
    with keepstone.open(".keepstone") as store, keepstone.open("shared") as shared:
        store.save("m", "mine", aliases=["prod"])
        theirs = shared.save("m", "theirs", aliases=["prod"]).digest
    for words in (["sync", "shared", "--dry-run"], ["sync", "shared"], ["sync", "shared"]):
        code, out, err = run(capsys, *words)
        assert code == 4
        assert "conflict: m@prod" in out
        assert "set each on one side" in err
    assert f"here and {theirs[:15]} there" in out
    assert err.strip().endswith(f"`keepstone alias m@{theirs[:15]} prod`")
    code, out, _ = run(capsys, "sync", "shared", "--json")
    facts = json.loads(out)
    assert code == 4
    assert [way["way"] for way in facts["ways"]] == ["pull", "push"]
    assert facts["ways"][0]["conflicts"][0]["alias"] == "m@prod"
    with keepstone.open("shared") as shared:
        shared.alias("m@v4", "prod")
    assert run(capsys, "sync", "shared")[0] == 0


def test_json_says_what_came(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "push", "shared", "--create", "--json")
    (way,) = json.loads(out)["ways"]
    assert (way["way"], way["items"], way["names"], way["commit"]) == ("push", 1, ["c", "m"], 0)
    assert [version["target"] for version in way["versions"]] == ["m@v1", "m@v2"]
    assert way["aliases"] == [{"alias": "m@prod", "number": 2}]


def test_lineage_and_afresh_are_passed_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with keepstone.open(".keepstone") as store:
        store.save("made", 1, parents=["m@v1"])
    words = ["push", "shared", "--create", "--select", "made", "--lineage"]
    assert run(capsys, *words)[0] == 0
    with keepstone.open("shared") as shared:
        assert shared.names() == ["m", "made"]
        assert [v.selector for v in shared.versions("m")] == ["m@v1"]
    assert run(capsys, "push", "shared", "--afresh")[0] == 0
    with keepstone.open("shared") as shared:
        assert [v.selector for v in shared.versions("m")] == ["m@v2", "m@v1"]


def test_a_name_of_two_kinds_says_which_is_where_and_how_the_rest_comes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with keepstone.open("shared") as shared:
        shared.save("c", "an artifact here")
        shared.save("fine", 1)
    code, _, err = run(capsys, "pull", "shared")
    assert code == 4
    assert f"'c' is of kind artifact where it comes from, and of kind collection at {here}/.keepstone" in err
    assert "--select" in err
    assert run(capsys, "pull", "shared", "--select", "fine")[0] == 0
