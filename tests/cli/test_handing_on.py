"""pin, unpin, restore, verify and bundle from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.permissions import only_readable

import keepstone
from keepstone.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEEPSTONE_STORE", raising=False)
    with keepstone.open(".keepstone") as store:
        store.save("a", "first", aliases=["prod"])
        store.save("a", "second")
        store.save("large", os.urandom(400_000))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(words)) == code, capsys.readouterr()
    captured = capsys.readouterr()
    return captured.out + captured.err


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    return json.loads(said(capsys, *words, "--json", code=code))


def damage(place: Path) -> None:
    pack = next(path for path in (place / "packs").rglob("*-*") if path.stat().st_size > 300_000)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)


def test_a_pin_is_listed_until_it_is_taken_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pinned 2 versions in keepstone.lock" in said(capsys, "pin", "a@prod", "large")
    (pin,) = told(capsys, "list", "--pins")
    assert (pin["lock"], pin["names"]) == (str(folder / "keepstone.lock"), ["a@v1", "large@v1"])
    assert pin["id"] in said(capsys, "list", "--pins")
    assert told(capsys, "list", "nosuch", "--pins") == []
    assert "unpinned 2 versions" in said(capsys, "unpin", pin["id"])
    assert "nothing is pinned" in said(capsys, "list", "--pins")
    assert "is not pinned" in said(capsys, "unpin", code=3)


def test_json_says_what_was_pinned_and_restored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pinned = told(capsys, "pin", "a@prod")
    restored = told(capsys, "restore", "keepstone.lock", "--to", "new")

    assert pinned["protected"] is True
    assert pinned["names"][0]["digest"] == restored["names"][0]["digest"]
    assert restored["names"][0]["created_new"] is True
    assert told(capsys, "restore", "keepstone.lock", "--to", "new")["commit"] is None
    assert "nothing to restore: 1 version of the lock" in said(
        capsys, "restore", "keepstone.lock", "--to", "new"
    )
    assert "artifact  v1" in said(capsys, "list", "--store", "new")


def test_a_typo_makes_no_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pin", "a@prod")
    (folder / "bad.lock").write_text("keepstone-lock 1\n")
    for words, code in (
        (["none.lock"], 3),
        (["bad.lock"], 5),
        (["keepstone.lock", "--from", "nosuch"], 3),
        (["keepstone.lock", "--from", "keepstone.lock"], 5),
    ):
        said(capsys, "restore", *words, "--to", "new", code=code)
        assert not (folder / "new").exists(), words
    assert "restored 1 version" in said(capsys, "restore", "--to", "new"), "keepstone.lock is what is meant"
    assert "there is no file" in said(capsys, "restore", "none.lock", "--to", "new", code=3)


def test_a_pinned_number_that_is_another_one_here_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "pin", "a@v2")

    assert "a@v1  b3:" in (text := said(capsys, "restore", "keepstone.lock", "--to", "new"))
    assert "(pinned as a@v2)" in text


def test_exit_codes_tell_missing_from_damaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pin", "a", "large")
    said(capsys, "bundle", "keepstone.lock", "x.bundle")
    assert "2 of 2 versions right" in said(capsys, "verify")
    assert "2 of 2 versions right" in said(capsys, "verify", "x.bundle")
    with keepstone.open("part") as part:
        part.save("a", "second")
    assert "missing large@v1" in said(capsys, "verify", "--store", "part", code=3)
    assert "large@v1" in said(capsys, "restore", "keepstone.lock", "--from", "part", "--to", "new", code=3)
    damage(folder / ".keepstone")
    assert "damaged large@v1" in (text := said(capsys, "verify", code=5))
    assert "right   a@v2" in text
    assert told(capsys, "verify", code=5)["ok"] is False
    assert "large@v1 cannot be read whole" in said(capsys, "restore", "keepstone.lock", "--to", "new", code=5)
    assert "large@v1 cannot be read whole" in said(capsys, "bundle", "keepstone.lock", "y.bundle", code=5)
    assert not (folder / "y.bundle").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".tmp-")]


def test_a_bundle_replaces_nothing_without_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pin", "a")
    (folder / "x.bundle").write_text("mine")

    assert "exists already" in said(capsys, "bundle", "keepstone.lock", "x.bundle", code=4)
    said(capsys, "bundle", "keepstone.lock", "x.bundle", "--force")
    assert "restored 1 version" in said(capsys, "restore", "x.bundle", "--to", "new")


def test_on_a_store_that_can_only_be_read_it_says_that_nothing_is_protected(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_readable(folder / ".keepstone"):
        assert "garbage collection does not know" in said(capsys, "pin", "a")
