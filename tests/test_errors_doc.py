"""docs/errors.md: every row of its tables is provoked, and gives the class and the message that stand there.

What provokes a row stands in tests/errors, in the file of its section.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.errors.buckets import BUCKETS
from tests.errors.damage import DAMAGE
from tests.errors.locks import LOCKS
from tests.errors.medium import MEDIUM
from tests.errors.names import NAMES
from tests.errors.others import OTHERS
from tests.errors.paths import PATHS
from tests.errors.places import PLACES
from tests.errors.store_to_harm import Place, make_store
from tests.errors.values import VALUES
from tests.errors.wrong_types import WRONG_TYPES

from keepstone import (
    InvalidInputError,
    KeepstoneError,
    NotFoundError,
    StorageFullError,
    UnsupportedFormatError,
)

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
WORKS: Final = "–"


class Row(NamedTuple):
    """One row of the page."""

    input: str
    error: str
    message: str


def rows() -> Iterator[Row]:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[1] != "class":
            yield Row(cells[0], cells[1], cells[2].rstrip("|").strip())


PROVOKED: Final = NAMES | PLACES | BUCKETS | VALUES | WRONG_TYPES | DAMAGE | LOCKS | OTHERS | PATHS | MEDIUM
ROWS: Final = list(rows())
CHANGES_ON_PURPOSE: Final = {
    "a version that was removed",
    "loading a pickle that was not allowed",
    "a name that a transaction read has moved",
    "a name that a transaction missed was saved",
    '`open(…, "xb")` where somebody was first',
}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy: faster than making one for every row."""
    return make_store(tmp_path_factory.mktemp("original") / "store")


@pytest.fixture
def place(tmp_path: Path, original: Path) -> Iterator[Place]:
    place = Place(tmp_path, original)
    yield place
    place.close()


def test_the_page_and_the_provocations_name_the_same_rows() -> None:
    assert [row.input for row in ROWS] == list(dict.fromkeys(row.input for row in ROWS))
    assert {row.input for row in ROWS} == PROVOKED.keys()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.input)
def test_every_row_is_as_the_page_says(row: Row, place: Place) -> None:
    if row.error == WORKS:
        PROVOKED[row.input](place)
        return
    with pytest.raises(BaseException) as raised:
        PROVOKED[row.input](place)
    if raised.errisinstance(pytest.skip.Exception):
        raise raised.value

    assert raised.type.__name__ == row.error, raised.value
    pattern = ".*".join(re.escape(part) for part in row.message.split("..."))
    assert re.fullmatch(pattern, str(raised.value), re.DOTALL), str(raised.value)
    if isinstance(
        raised.value, InvalidInputError | NotFoundError | UnsupportedFormatError | StorageFullError
    ):
        assert raised.value.hint, "no hint says what to do"


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row.error
        not in (WORKS, "MalformedError", "UnsupportedFormatError", "DivergedError", "BlobNotFoundError")
        and row.input not in CHANGES_ON_PURPOSE
    ],
    ids=lambda row: row.input,
)
def test_what_is_refused_leaves_the_store_as_it_was(row: Row, place: Place) -> None:
    before = place.read_all(), place.open().names()
    place.close()
    with pytest.raises(BaseException):  # noqa: B017 - the class is compared above
        PROVOKED[row.input](place)

    assert (place.read_all(), place.open().names()) == before


def test_the_tree_of_errors_is_the_tree_of_classes() -> None:
    block = PAGE.split("```text\nKeepstoneError\n")[1].split("```")[0]
    listed = set(re.findall(r"[├└]── (\w+)", block)) | {"KeepstoneError"}
    module = sys.modules[InvalidInputError.__module__]
    known = {
        name
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, KeepstoneError)
    }

    assert listed == known
    for name, fields in re.findall(r"[├└]── (\w+)[^.\n]*((?:\.\w+ ?)*)$", block, re.MULTILINE):
        taken = inspect.signature(getattr(module, name)).parameters
        assert all(field.strip(".") in taken for field in fields.split()), name
