"""The text of a lock: the same bytes for the same pins, and every wrong line said with its number."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepstone import ArtifactNotFoundError, Digest, InvalidInputError, MalformedError, UnsupportedFormatError
from keepstone.foundation.errors import KeepstoneError
from keepstone.foundation.format import LOCK_BYTES_MAX, PACK_FRAME_MAGIC
from keepstone.foundation.names import check_name
from keepstone.operations.lock import (
    Lock,
    LockedName,
    format_lock,
    location_for,
    make_lock,
    parse_lock,
    read_lock,
)

STORE = "0123456789abcdef" * 2
ONE = LockedName("models/email", 3, Digest.of(b"1"), "artifact")
TWO = LockedName("answers/50 % of all", 12, Digest.of(b"2"), "collection")
LOCK = make_lock(STORE, "../.keepstone", ["s3://bucket/team"], [ONE, TWO])
TEXT = format_lock(LOCK)


def is_name(text: str) -> bool:
    try:
        check_name(text)
    except InvalidInputError:
        return False
    return True


def parsed(text: str | bytes) -> Lock:
    return parse_lock(text if isinstance(text, bytes) else text.encode(), where="x.lock")


def test_it_is_one_line_a_name_sorted_without_spaces_in_a_field() -> None:
    assert TEXT.splitlines() == [
        "keepstone-lock 1",
        f"store {STORE}",
        "location ../.keepstone",
        "remote s3://bucket/team",
        f"answers/50%20%25%20of%20all@v12 {TWO.digest} collection",
        f"models/email@v3 {ONE.digest} artifact",
    ]
    assert parsed(TEXT) == LOCK


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            LockedName,
            st.text(min_size=1, max_size=40).filter(is_name),
            st.integers(1, 10**17),
            st.binary(min_size=32, max_size=32).map(Digest),
            st.sampled_from(["artifact", "collection"]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.one_of(st.just(""), st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30)),
)
def test_whatever_names_and_paths_hold_it_reads_as_it_was_written(
    names: list[LockedName], location: str
) -> None:
    lock = make_lock(STORE, location, [], names)
    text = format_lock(lock).encode("utf-8")

    assert parsed(text) == lock
    assert format_lock(parsed(text)).encode() == text
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", text)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_lock_or_an_error_of_ours(data: bytes) -> None:
    with pytest.raises((MalformedError, UnsupportedFormatError)):
        parsed(data)


@given(st.data())
def test_a_changed_byte_is_an_error_or_another_lock_that_reads_as_it_is_written(data: st.DataObject) -> None:
    text = bytearray(TEXT.encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        lock = parsed(bytes(text))
    except KeepstoneError:
        return
    assert format_lock(lock).encode() == bytes(text)


def replaced(line: int, by: str) -> str:
    lines = TEXT.splitlines()
    lines[line - 1] = by
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "this is no lock"),
        ("hello\n", 1, "this is no lock"),
        (replaced(2, "store xyz"), 2, "is not `store` and 32 hex digits"),
        (replaced(2, "location a"), 2, "is not `store` and 32 hex digits"),
        (replaced(4, "remote s3://me:secret@bucket/team"), 2, "credentials in 's3://bucket/team'"),
        (replaced(4, "remote %zz"), 4, "out of order, double or misquoted"),
        (replaced(5, ""), 5, "is no line of a lock"),
        (replaced(5, "# a comment"), 5, "does not begin with a version"),
        (replaced(5, f"../x@v1 {ONE.digest} artifact"), 5, "has an empty, '.' or '..' segment"),
        (replaced(5, f"/etc/passwd@v1 {ONE.digest} artifact"), 5, "has an empty, '.' or '..' segment"),
        (replaced(5, f":pins/x@v1 {ONE.digest} artifact"), 5, "begins with ':'"),
        (replaced(5, f"a%2F..@v1 {ONE.digest} artifact"), 5, "has an empty, '.' or '..' segment"),
        (replaced(5, f"a%0Ab@v1 {ONE.digest} artifact"), 5, "has a control or invisible character"),
        (replaced(5, f"a%00b@v1 {ONE.digest} artifact"), 5, "names nothing"),
        (replaced(5, f"a@latest {ONE.digest} artifact"), 5, "does not begin with a version"),
        (replaced(5, f"a@v01 {ONE.digest} artifact"), 5, "does not begin with a version"),
        (replaced(5, "a@v1 b3:abc artifact"), 5, "not a digest"),
        (replaced(5, f"a@v1 {ONE.digest} folder"), 5, "is neither an artifact nor a collection"),
        (replaced(5, f"z@v1 {ONE.digest} artifact"), 6, "is out of order: names are sorted"),
        (replaced(6, f"a@v1 {ONE.digest} artifact"), 6, "is out of order: names are sorted"),
        (replaced(5, f"models/email@v4 {ONE.digest} artifact"), 6, "is out of order: names are sorted"),
        (replaced(5, f"a%62@v1 {ONE.digest} artifact"), 5, "out of order, double or misquoted"),
        (TEXT + TEXT.splitlines()[-1] + "\n", 7, "stands there twice"),
        (TEXT + f"models/email@v3 {TWO.digest} artifact\n", 7, "says otherwise than line 6"),
        (replaced(3, f"store {'f' * 32}"), 3, "names another store than line 2"),
        (replaced(3, f"store {STORE}"), 2, "is not `store` and 32 hex digits"),
        ("".join(TEXT.splitlines(keepends=True)[:4]), 5, "it names no version"),
        (PACK_FRAME_MAGIC.decode() + TEXT, 1, "this is a bundle, and no lock"),
        (TEXT[:-1], 6, "has no end of line"),
        (TEXT.replace("\n", "\r\n"), 1, "ends with a carriage return"),
        (replaced(5, "<<<<<<< HEAD"), 5, "git could not merge this file"),
        (replaced(5, "======="), 5, "git could not merge this file"),
        (replaced(5, ">>>>>>> branch"), 5, "git could not merge this file"),
        (replaced(3, "||||||| base"), 3, "git could not merge this file"),
    ],
)
def test_a_wrong_line_is_said_with_its_number_and_what_to_do(text: str, line: int, problem: str) -> None:
    with pytest.raises(MalformedError) as raised:
        parsed(text)

    assert str(raised.value).startswith(f"x.lock, line {line}: "), raised.value
    assert problem in str(raised.value)
    assert raised.value.hint


def test_bytes_that_are_no_text_are_said_with_their_line() -> None:
    with pytest.raises(MalformedError, match=r"x\.lock, line 3: is no UTF-8 text"):
        parsed(TEXT.encode()[:60].rpartition(b"\n")[0] + b"\nlocation \xff\n")


def test_a_newer_format_is_unsupported_not_malformed() -> None:
    with pytest.raises(UnsupportedFormatError, match="format 2; this release reads format 1"):
        parsed(TEXT.replace("keepstone-lock 1", "keepstone-lock 2") + "what comes later\n")


def test_what_is_too_large_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with path.open("wb") as file:
        file.truncate(10 * LOCK_BYTES_MAX)

    with pytest.raises(MalformedError, match="the limit of a lock"):
        read_lock(path)


@pytest.mark.parametrize(
    ("remote", "kept"),
    [
        ("s3://key:secret@bucket/team", "s3://bucket/team"),
        ("s3://AKIA:se/cr@et@bucket/team", "s3://bucket/team"),
        ("https://host/x?X-Amz-Signature=abc&token=t#frag", "https://host/x"),
        ("s3://bucket/team", "s3://bucket/team"),
    ],
)
def test_no_credential_gets_into_a_lock(remote: str, kept: str) -> None:
    lock = make_lock(STORE, "", [remote], [])

    assert lock.remotes == (kept,)
    assert "secret" not in format_lock(lock)


def test_a_store_is_named_by_a_path_from_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "project" / "keepstone.lock"

    assert location_for(str(tmp_path / "project" / ".keepstone"), str(lock)) == ".keepstone"
    assert location_for(str(tmp_path / "stores" / "one"), str(lock)) == "../stores/one"
    assert (
        location_for(os.path.abspath("/elsewhere-entirely/store"), str(lock)) == "/elsewhere-entirely/store"
    )
    assert location_for("memory://x", str(lock)) == ""


def test_a_selector_means_one_line_of_a_lock() -> None:
    old = LockedName("models/email", 1, Digest.of(b"0"), "artifact")
    lock = make_lock(STORE, "", [], [ONE, TWO, old])

    assert lock.find("models/email@v1") == old
    assert lock.find(f"models/email@{ONE.digest}") == ONE
    assert lock.find("answers/50 % of all") == TWO
    with pytest.raises(InvalidInputError, match="names 2 versions"):
        lock.find("models/email")
    with pytest.raises(InvalidInputError, match="not aliases or dates"):
        lock.find("models/email@prod")
    with pytest.raises(ArtifactNotFoundError) as raised:
        lock.find("models/emali@v1")
    assert raised.value.near == ("models/email",)


def test_reading_all_that_a_large_lock_names_takes_no_square() -> None:
    names = [f"runs/{number:05d}" for number in range(10_000)]
    lock = make_lock("0" * 32, "", (), [LockedName(name, 1, Digest.of(b""), "artifact") for name in names])
    begun = time.process_time()
    assert [lock.find(name).name for name in names] == names

    # One by one they would be 50 million comparisons.
    assert time.process_time() - begun < 1
