"""Where this machine keeps what belongs to a store that is elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.foundation.errors import InvalidInputError
from keepstone.storage import places

ID = "0" * 32
URL = "s3://bucket/team"
VARIABLES = (
    "KEEPSTONE_SPOOL",
    "KEEPSTONE_CACHE",
    "KEEPSTONE_CACHE_BYTES",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_variables_name_the_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in places.spool_folder(ID, URL).parents
    assert tmp_path in places.cache_folder(ID, URL).parents
    monkeypatch.setenv("KEEPSTONE_SPOOL", "~/waiting")
    monkeypatch.setenv("KEEPSTONE_CACHE", "/var/cache/read")
    assert places.spool_folder(ID, URL).is_relative_to(tmp_path / "waiting")
    assert places.cache_folder(ID, URL).is_relative_to("/var/cache/read")


@pytest.mark.parametrize("given", ["waiting", " ", "s3://bucket/spool"])
def test_a_folder_that_depends_on_where_one_stands_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    # What one program acknowledged, another one that was started elsewhere would not find.
    monkeypatch.setenv("KEEPSTONE_SPOOL", given)
    monkeypatch.setenv("KEEPSTONE_CACHE", given)
    with pytest.raises(InvalidInputError, match=r"KEEPSTONE_SPOOL is '.*', not an absolute path"):
        places.spool_folder(ID, URL)
    with pytest.raises(InvalidInputError, match=r"KEEPSTONE_CACHE is '.*', not an absolute path"):
        places.cache_folder(ID, URL)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nobody(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(InvalidInputError, match="no home folder") as caught:
        places.spool_folder(ID, URL)
    assert "KEEPSTONE_SPOOL" in caught.value.hint
    monkeypatch.setenv("KEEPSTONE_SPOOL", str(tmp_path))
    assert places.spool_folder(ID, URL).is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("", 10 * 1024**3),
        ("0", 0),
        ("123456", 123456),
        ("20GB", 20 * 10**9),
        ("20 GiB", 20 * 1024**3),
        ("1.5TiB", 3 * 1024**4 // 2),
        ("500kb", 500_000),
        (" 7B ", 7),
    ],
)
def test_the_cache_may_be_as_large_as_is_said(monkeypatch: pytest.MonkeyPatch, given: str, size: int) -> None:
    monkeypatch.setenv("KEEPSTONE_CACHE_BYTES", given)
    assert places.cache_bytes_max() == size


@pytest.mark.parametrize("given", ["much", "-1", "20 apples", "GB", "1e9", "1,000", "0x10", "٣GB", "1.GB"])
def test_what_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("KEEPSTONE_CACHE_BYTES", given)
    with pytest.raises(InvalidInputError, match=r"KEEPSTONE_CACHE_BYTES is '.*', not a size") as caught:
        places.cache_bytes_max()
    assert "20GB" in caught.value.hint
