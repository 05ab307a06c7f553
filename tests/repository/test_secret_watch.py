"""What looks like a credential is said or refused when it is saved; the content stays as it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import pytest
from tests.repository.conftest import commits

import keepstone
from keepstone import InvalidInputError, SecretsWarning, Store
from keepstone.objects.secret_scan import SCAN_BYTES_MAX

KEY: Final = "ghp_" + "R7x2Kq9Zt4" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return keepstone.open(tmp_path / "store")


def test_a_warning_names_kind_and_place_and_never_the_key(store: Store) -> None:
    with pytest.warns(SecretsWarning) as caught:
        store.save("prompts/a", f"line one\nuse {KEY}")

    assert [str(warning.message) for warning in caught] == [
        "'prompts/a' holds what looks like credentials: a GitHub token (line 2); it is saved as it is"
    ]
    assert caught[0].filename == __file__
    assert store.load("prompts/a") == f"line one\nuse {KEY}"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"messages": [{"content": f"use {KEY}"}]}, "messages[0].content"),
        (f"use {KEY}".encode(), "line 1"),
        ([KEY], "[0]"),
    ],
)
def test_refused_it_is_not_saved(store: Store, value: object, place: str) -> None:
    before = commits(store)
    with pytest.raises(InvalidInputError) as caught:
        store.save("prompts/a", value, secrets="refuse")

    assert f"a GitHub token ({place})" in str(caught.value)
    assert KEY not in str(caught.value) + caught.value.hint
    assert commits(store) == before
    assert not store.exists("prompts/a")


def test_off_says_nothing(store: Store) -> None:
    store.save("prompts/a", KEY, secrets="off")

    assert store.load("prompts/a") == KEY


def test_files_of_a_folder_are_looked_at_up_to_a_mebibyte(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / ".env").write_text(f"A=1\nHF_TOKEN={KEY}\n")
    (folder / "large.txt").write_text(KEY.ljust(SCAN_BYTES_MAX + 1))
    (folder / "weights.bin").write_bytes(KEY.encode() + b"\0")

    with pytest.warns(SecretsWarning, match=r"a GitHub token \(deep/\.env, line 2\)") as caught:
        store.save("data", folder)
    assert "large" not in str(caught[0].message)
    assert "weights" not in str(caught[0].message)
    with pytest.raises(InvalidInputError, match="not saved"):
        store.save("data", folder, secrets="refuse")


def test_content_that_the_store_has_is_not_warned_about_again(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".env").write_text(f"HF_TOKEN={KEY}\n")
    (folder / "notes.txt").write_text("one")
    with pytest.warns(SecretsWarning):
        store.save("data", folder)

    (folder / "notes.txt").write_text("two")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecretsWarning)
        assert store.save("data", folder).number == 2
        store.save("other", folder)

    (folder / ".env").write_text(f"A=1\nHF_TOKEN={KEY}\n")
    with pytest.warns(SecretsWarning, match=r"a GitHub token \(\.env, line 2\)"):
        store.save("data", folder)


def test_known_content_is_refused_all_the_same(store: Store) -> None:
    store.save("a", KEY, secrets="off")

    with pytest.raises(InvalidInputError, match="not saved"):
        store.save("b", KEY, secrets="refuse")
    assert store.names() == ["a"]


def test_a_save_that_failed_leaves_content_to_be_warned_about(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecretsWarning)
        for _ in range(2):
            with pytest.raises(SecretsWarning):
                store.save("a", KEY)


def test_the_same_content_twice_in_one_save_is_named_at_both_places(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(KEY)

    with pytest.warns(SecretsWarning, match=r"\(a\.txt, line 1\), a GitHub token \(b\.txt, line 1\)"):
        store.save("data", folder)


def test_metadata_is_looked_at_too(store: Store) -> None:
    with pytest.warns(SecretsWarning, match=r"a GitHub token \(metadata: by\.token\)"):
        store.save("a", 1, metadata={"by": {"token": KEY}})


def test_many_finds_are_counted(store: Store) -> None:
    with pytest.warns(SecretsWarning, match="and 4 more; it is saved"):
        store.save("a", [KEY] * 9)


def test_a_transaction_warns_and_refuses_as_a_store(store: Store) -> None:
    with store.transaction() as change:
        with pytest.warns(SecretsWarning):
            change.save("a", KEY)
        with pytest.raises(InvalidInputError):
            change.save("b", KEY, secrets="refuse")

    assert store.names() == ["a"]


def test_a_warning_that_is_an_error_saves_nothing(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SecretsWarning)
        with pytest.raises(SecretsWarning):
            store.save("a", KEY)

    assert not store.exists("a")


def test_items_of_collections_are_not_looked_at(store: Store) -> None:
    answers: Any = store.collection("answers")
    answers["a"] = KEY

    assert answers["a"] == KEY
