"""Where the store is looked for."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from keepstone.cli.location import check_exists, locate, require_online
from keepstone.cli.main import main
from keepstone.foundation.errors import InvalidInputError, StoreNotFoundError


def test_option_wins_over_environment_and_folders(tmp_path: Path) -> None:
    (tmp_path / ".keepstone").mkdir()

    assert locate("here", {"KEEPSTONE_STORE": "there"}, tmp_path) == "here"


def test_environment_wins_over_folders(tmp_path: Path) -> None:
    (tmp_path / ".keepstone").mkdir()

    assert locate(None, {"KEEPSTONE_STORE": "s3://bucket/x"}, tmp_path) == "s3://bucket/x"


def test_nearest_folder_upwards_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".keepstone").mkdir()
    assert locate(None, {}, deep) == str(tmp_path / ".keepstone")

    (tmp_path / "a" / ".keepstone").mkdir()
    assert locate(None, {}, deep) == str(tmp_path / "a" / ".keepstone")


def test_without_any_it_is_here(tmp_path: Path) -> None:
    assert locate(None, {}, tmp_path) == str(tmp_path / ".keepstone")


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    assert locate("~/runs", {}, Path("/")) == "/home/somebody/runs"


def test_an_empty_option_is_refused_and_an_empty_variable_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--store is empty"):
        locate("", {}, tmp_path)
    assert locate(None, {"KEEPSTONE_STORE": ""}, tmp_path) == str(tmp_path / ".keepstone")


def test_a_place_without_store_is_not_found_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError) as caught:
        check_exists(str(tmp_path / "none"))

    assert "keepstone init" in caught.value.hint
    assert not (tmp_path / "none").exists()
    assert check_exists("s3://bucket/team") == "s3://bucket/team"


def test_a_url_with_a_slash_too_few_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="one slash less"):
        check_exists("s3:/bucket/team")


def test_a_store_close_by_is_named(tmp_path: Path) -> None:
    project, store = tmp_path / "project", tmp_path / "project" / ".keepstone"
    store.mkdir(parents=True)
    (store / "store.json").write_text("{}")
    with pytest.raises(StoreNotFoundError) as found:
        check_exists(str(project))
    assert found.value.hint.startswith(f"there is one at {store}: say so with --store")
    # Who has cloned into a folder stands in the store itself.
    with pytest.raises(StoreNotFoundError) as found:
        check_exists(str(store / ".keepstone"))
    assert found.value.hint.startswith(f"there is one at {store}: ")


def test_what_has_no_server_is_used_offline_and_a_server_is_not(tmp_path: Path) -> None:
    offline = argparse.Namespace(offline=True)
    for place in (None, str(tmp_path), "memory://one", "file:///tmp/a"):
        require_online(offline, place)
    require_online(argparse.Namespace(offline=False), "s3://bucket/team")
    with pytest.raises(InvalidInputError, match="s3://bucket/team is behind one"):
        require_online(offline, None, "s3://key:word@bucket/team")


@pytest.mark.parametrize(
    "words",
    [
        ("push", "s3://bucket/team"),
        ("pull", "s3://bucket/team"),
        ("sync", "s3://bucket/team"),
        ("clone", "s3://bucket/team", "copy"),
        ("init", "s3://bucket/team"),
        ("doctor", "s3://bucket/team"),
        ("restore", "--from", "s3://bucket/team"),
    ],
)
def test_commands_that_need_a_network_are_refused_offline(
    words: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--offline"]) == 2
    assert "with --offline nothing is asked of a network" in capsys.readouterr().err
    assert list(folder.iterdir()) == []
