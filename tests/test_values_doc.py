"""docs/values.md: every kind of value is stored and loaded as its row says, every refusal is the one that stands there.

What a row means stands in tests/values, in the file of its part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.values.arrays import ARRAY_ROWS, ODD_ARRAYS
from tests.values.files import ODD_FILES
from tests.values.frames import FRAME_REFUSED, FRAME_ROWS
from tests.values.plain import PLAIN_REFUSED, PLAIN_ROWS
from tests.values.trying import Trial

import keepstone
from keepstone.api import Store
from keepstone.foundation.errors import KeepstoneError, SerializerError

PAGE: Final = (Path(__file__).resolve().parents[1] / "docs" / "values.md").read_text(encoding="utf-8")
ROWS: Final = PLAIN_ROWS | FRAME_ROWS
ODD: Final = ODD_ARRAYS | ODD_FILES
REFUSED: Final = PLAIN_REFUSED | FRAME_REFUSED
WORKS: Final = "–"


def cells(columns: int) -> Iterator[list[str]]:
    """Yield the rows of the tables that have so many columns, without their headings."""
    for line in PAGE.splitlines():
        found = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if line.startswith("| ") and len(found) == columns and found[0] not in ("type", "input"):
            yield found


STORED: Final = {row[0]: row[1:] for row in cells(5)}
SAID: Final = {row[0]: row[1:] for row in cells(3)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with keepstone.open(tmp_path_factory.mktemp("values") / "store") as opened:
        yield opened


def test_the_page_and_the_tests_speak_of_the_same_rows() -> None:
    assert sorted(STORED) == sorted(ROWS.keys() | ARRAY_ROWS.keys())
    assert sorted(SAID) == sorted(REFUSED.keys() | ODD.keys())


@pytest.mark.parametrize("name", ROWS)
@given(data=st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_value_is_stored_and_loaded_as_its_row_says(
    name: str, store: Store, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = ROWS[name](tmp_path_factory.mktemp("files"))
    value = data.draw(kind.values)
    version = store.save("value", value, serializer=kind.serializer)

    assert STORED[name][0].startswith(f"`{version.manifest.serializer}`: ")
    pickled = kind.serializer == "pickle"
    if kind.loads:
        assert kind.same(value, store.load(version.selector, allow_pickle=pickled))
    else:
        with pytest.raises(SerializerError):
            store.load(version.selector)
    if kind.type is not None:
        assert kind.same_typed(value, store.load(version.selector, type=kind.type))
    if not pickled:
        assert "whole" in STORED[name][2]
        assert store.save("again", kind.copy(value), serializer=kind.serializer).digest == version.digest


def matches(shown: str, real: str) -> bool:
    """Whether a message begins as `shown` says, `...` standing for anything."""
    return re.match(".*".join(re.escape(part) for part in shown.split("...")), real, re.DOTALL) is not None


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_its_message_and_leaves_nothing(name: str, store: Store) -> None:
    error, message = SAID[name]
    if error == WORKS:
        REFUSED[name](store)
        return
    with pytest.raises(KeepstoneError) as caught:
        REFUSED[name](store)

    assert type(caught.value).__name__ == error
    assert matches(message, caught.value.message), caught.value.message
    assert caught.value.hint
    assert not store.exists("x")


# ---- arrays and tensors, each row with a store of its own ----------------------------------------


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    trial = Trial(tmp_path)
    yield trial
    trial.store.close()


@pytest.mark.parametrize("name", ARRAY_ROWS)
def test_arrays_and_tensors_are_stored_and_loaded_as_their_row_says(name: str, trial: Trial) -> None:
    ARRAY_ROWS[name](trial)


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_tensors_and_files_are_what_their_row_says(name: str, trial: Trial) -> None:
    error, message = SAID[name]
    if error == WORKS:
        ODD[name](trial)
        return
    names = trial.store.names()
    with pytest.raises(KeepstoneError) as caught:
        ODD[name](trial)

    assert type(caught.value).__name__ == error
    assert matches(message, caught.value.message), caught.value.message
    assert caught.value.hint or error == "MalformedError"
    # Those are saved, and cannot be loaded.
    left = ["a"] if name in ("bfloat16 as numpy without ml_dtypes", "tensors without torch") else []
    assert trial.store.names() == [*names, *left]
