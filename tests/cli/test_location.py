"""Where the store is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.cli.location import check_exists, locate
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
