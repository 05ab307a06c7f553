"""list, history, alias and remove: as a person uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Shown, printed, saved

import keepstone
from keepstone.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")


def test_list_by_prefix_and_kind(capsys: Shown) -> None:
    saved("models/email")
    saved("models/日本")
    saved("other")
    with keepstone.open(".keepstone") as store:
        store.collection("models/answers")["k"] = 1
    facts = printed(capsys, "list", "models/")

    assert isinstance(facts, list)
    assert [(f["name"], f["kind"]) for f in facts] == [
        ("models/answers", "collection"),
        ("models/email", "artifact"),
        ("models/日本", "artifact"),
    ]
    assert main(["list", "models/", "--kind", "artifact", "--names"]) == 0
    assert capsys.readouterr().out == "models/email\nmodels/日本\n"
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["name", "kind", "newest", "size", "created"]


def test_an_empty_list_says_so_aside(capsys: Shown) -> None:
    main(["init"])
    capsys.readouterr()

    assert main(["list"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "the store is empty\n")


def test_history_tells_the_newest_first(capsys: Shown) -> None:
    saved("a")
    Path("m").write_text("m")
    main(["save", "b", "m", "-m", "second\x1b[31m"])
    facts = printed(capsys, "history")

    assert isinstance(facts, list)
    numbers = [fact["number"] for fact in facts]
    assert numbers == sorted(numbers, reverse=True)
    assert facts[0]["message"] == "second\x1b[31m"
    assert len(printed(capsys, "history", "--limit", "1")) == 1  # type: ignore[arg-type]
    assert main(["history", "b"]) == 0
    shown = capsys.readouterr().out
    assert "second" in shown
    assert "\x1b" not in shown


def test_history_of_a_misspelled_name_is_not_found_and_of_a_removed_one_is_there(capsys: Shown) -> None:
    saved("models/email")
    assert main(["remove", "models/email"]) == 0
    saved("models/other")
    capsys.readouterr()
    assert main(["history", "models/otehr"]) == 3
    assert "did you mean models/other?" in capsys.readouterr().err
    assert main(["history", "models/email"]) == 0
    assert main(["history", "models/other", "--at", "0"]) == 3


def test_of_a_commit_of_many_changes_a_few_are_shown(capsys: Shown) -> None:
    with keepstone.open(".keepstone") as store, store.transaction() as change:
        for n in range(2_000):
            change.save(f"n{n:04}", n)
    assert main(["history"]) == 0
    assert "n0003 v1; n0004 v1; and 1,995 more" in (shown := capsys.readouterr().out)
    assert len(shown) < 500
    assert main(["undo", "0"]) == 0
    assert "n0004 removed; and 1,995 more" in capsys.readouterr().out
    facts = printed(capsys, "history", "--limit", "1")
    assert len(facts[0]["changes"]) == 2_000  # type: ignore[index, arg-type]


# ---- aliases and removal ---------------------------------------------------------


def test_an_alias_moves_only_from_where_it_is_expected(capsys: Shown) -> None:
    saved("a", "1")
    saved("a", "2")
    assert main(["alias", "a@v1", "prod"]) == 0
    assert main(["alias", "a@v2", "prod", "--expected", "a@v2"]) == 4
    assert main(["alias", "a@v2", "prod", "--dry-run"]) == 0
    assert main(["load", "a@prod", "one"]) == 0
    assert main(["alias", "a@v2", "prod", "--expected", "a@v1"]) == 0
    assert main(["load", "a@prod", "two"]) == 0

    assert (Path("one").read_text(), Path("two").read_text()) == ("1", "2")
    assert main(["alias", "a", "latest"]) == 2


def test_remove_says_first_and_then_does(capsys: Shown) -> None:
    saved("a", "1")
    saved("a", "2")
    main(["alias", "a@v1", "prod"])
    capsys.readouterr()
    assert main(["remove", "a", "--dry-run"]) == 0
    assert capsys.readouterr().out == "would remove a with 2 versions\n"

    assert main(["remove", "a@prod"]) == 0
    assert "the alias a@prod" in capsys.readouterr().out
    assert main(["load", "a@prod"]) == 3
    assert main(["remove", "a@v1"]) == 0
    assert main(["load", "a@v1"]) == 3
    assert main(["load", "a@v2", "two"]) == 0
    assert main(["remove", "a"]) == 0
    assert main(["load", "a"]) == 3
    assert main(["remove", "a"]) == 3
