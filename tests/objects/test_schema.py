"""The JSON Schema of a pydantic model stands in the manifest; artifacts stay the same while the class does."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pydantic
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objects.saving import load, save

from keepstone.objects.models import SCHEMA_BYTES_MAX, json_schema_of
from keepstone.objects.standard import standard_registry


class Answer(pydantic.BaseModel):
    """What a model said."""

    value: int = pydantic.Field(ge=0, description="the number")
    why: str = ""


@dataclasses.dataclass
class Plain:
    value: int


@given(st.integers(0, 2**40), st.text("ab", max_size=4))
@settings(max_examples=20)
def test_equal_values_of_a_class_are_one_artifact_with_its_schema(value: int, why: str) -> None:
    registry = standard_registry()
    saved = save(registry, Answer(value=value, why=why))

    assert saved[0].detail == {"schema": Answer.model_json_schema()}
    assert save(registry, Answer(value=value, why=why)) == saved
    assert load(registry, saved, Answer) == Answer(value=value, why=why)
    assert load(registry, saved) == {"value": value, "why": why}


def test_other_values_keep_no_schema() -> None:
    registry = standard_registry()

    for value in ({"value": 1}, Plain(1), [Answer(value=1)], "text"):
        assert save(registry, value)[0].detail == {}


def test_a_schema_that_is_very_large_is_left_out() -> None:
    class Large(pydantic.BaseModel):
        """Much of it."""

        value: int = pydantic.Field(description="x" * SCHEMA_BYTES_MAX)

    assert save(standard_registry(), Large(value=1))[0].detail == {}


def test_a_class_whose_schema_cannot_be_made_is_saved_without() -> None:
    class Own:
        pass

    class Odd(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        value: int = 1
        own: Own | None = None

    assert json_schema_of(Odd) is None
    assert load(standard_registry(), save(standard_registry(), Odd())) == {"value": 1, "own": None}


def test_a_schema_with_a_default_that_json_has_not_is_kept_as_json_says_it() -> None:
    class Defaults(pydantic.BaseModel):
        loss: float = float("inf")
        kind: Literal["a", "b"] = "a"
        more: dict[str, Any] = {}

    saved = save(standard_registry(), Defaults(loss=1.0))

    assert saved[0].detail["schema"]["properties"]["loss"]["default"] is None
