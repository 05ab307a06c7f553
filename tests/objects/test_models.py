"""Dataclasses, Structs, attrs and pydantic: built again only when the caller names the class."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import subprocess
import sys
import zoneinfo
from dataclasses import dataclass, field
from typing import Annotated, Any

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from keepstone.foundation.errors import SerializerError
from keepstone.foundation.format import Form
from keepstone.objects.plain import decode_value, encode_value


class Colour(enum.IntEnum):
    RED = 1


class Plain:
    """Nothing that JSON could build."""


@dataclass
class Holds:
    plain: Plain


@dataclass
class Tokens:
    prompt: int
    completion: int = 0


@dataclass
class Record:
    key: str
    score: float | None = None
    tokens: Tokens | None = None
    tags: set[str] = field(default_factory=set)
    created: datetime.datetime | None = None
    cost: decimal.Decimal | None = None
    colour: Colour | None = None
    by_number: dict[int, Tokens] = field(default_factory=dict)
    raw: bytes = b""
    extra: Any = None


@dataclass
class Wider(Tokens):
    cached: int = 0


class Answer(msgspec.Struct):
    value: int
    ratio: float = 0.0
    note: str | None = None


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


@attrs.define
class Step:
    name: str
    answer: Answer
    seconds: float = 0.0


@attrs.define
class Hidden:
    name: str
    _secret: int = 0


class Model(pydantic.BaseModel):
    name: str
    made: datetime.datetime | None = None
    counts: dict[int, int] = {}
    score: float | None = None


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    long_name: Annotated[int, pydantic.Field(alias="longName")]


class Excluding(pydantic.BaseModel):
    kept: int
    dropped: Annotated[int, pydantic.Field(exclude=True)] = 0


class Holder(pydantic.BaseModel):
    model: Model


class WiderModel(Model):
    more: int = 0


@pydantic.dataclasses.dataclass
class Checked:
    a: int


@dataclass
class Odd:
    call: Any = None
    where: pathlib.Path | None = None


@dataclass
class Unresolved:
    a: Missing  # noqa: F821  # pyright: ignore


@dataclass(eq=False)
class NoEquality:
    a: int
    secret: float | None = field(default=None, compare=False)


FULL = Record(
    "q17",
    0.5,
    Tokens(3, 4),
    {"a", "b"},
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    decimal.Decimal("1.10"),
    Colour.RED,
    {3: Tokens(1)},
    b"\x00\xff",
    [1, {"x": None}],
)
VALUES = [
    FULL,
    Record("x"),
    Answer(72, 1, "n"),
    Row(1, "b"),
    Step("s", Answer(1), 2.5),
    Model(name="m", made=datetime.datetime(2026, 1, 2), counts={1: 2}),
    Aliased.model_validate({"longName": 3, "other": "x"}),
    Holder(model=Model(name="m")),
    Checked(3),
]


def stored(value: object) -> tuple[Form, bytes]:
    encoded = encode_value(value)
    assert encoded is not None
    return encoded


def refusal(value: object) -> str:
    with pytest.raises(SerializerError) as caught:
        encode_value(value)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_instances_load_as_equal_instances_of_the_class_named_at_load(value: object) -> None:
    loaded = decode_value(*stored(value), type(value))

    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_lists_and_dicts_of_instances_load_by_their_annotation(value: Any) -> None:
    kind: Any = type(value)

    assert decode_value(*stored([value, value]), list[kind]) == [value, value]
    assert decode_value(*stored({"a": value}), dict[str, kind]) == {"a": value}


def test_instances_load_as_plain_values_without_type() -> None:
    assert decode_value(*stored(Answer(72))) == {"value": 72, "ratio": 0.0, "note": None}
    assert decode_value(*stored([Tokens(1, 2)])) == [{"prompt": 1, "completion": 2}]
    assert decode_value(*stored(Model(name="m")))["name"] == "m"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Record("x", math.nan), "cannot save value: nan at $.score"),
        (Answer(1, math.inf), "cannot save value: inf at $.ratio"),
        ({"a": [Record("x", extra={"y": math.nan})]}, "cannot save value: nan at $.a[0].extra.y"),
        (Model(name="m", score=math.nan), "cannot save value: nan at $.score"),
        (NoEquality(1, math.nan), "cannot save value: nan at $.secret"),
        (Odd(call=len), "of type builtin_function_or_method at $.call"),
        (Odd(where=pathlib.Path("a")), "of type PosixPath at $.where"),
        (Record("x", extra=Colour.RED), "Record would load with another value at $.extra"),
        (Record("x", extra={1: 2}), "Record would load with another value at $.extra"),
        (Record("x", extra={1, 2}), "Record would load with another value at $.extra"),
        (Record("x", tokens=Wider(1, 2, 3)), "Record would load with another value at $.tokens"),
        (Tokens("many"), "Expected `int`, got `str` - at `$.prompt`"),  # pyright: ignore[reportArgumentType]
        (Hidden("n", 7), "Hidden would load with another value at $._secret"),
        (Holder(model=WiderModel(name="w", more=1)), "Holder would load with another value at $.model"),
        (Excluding(kept=1, dropped=2), "Excluding would load with another value at $.dropped"),
        (Record("\ud800"), "text with a lone surrogate"),
    ],
)
def test_what_the_class_could_not_rebuild_is_refused_with_its_field(value: object, message: str) -> None:
    assert message in refusal(value)


def test_a_class_whose_annotations_do_not_resolve_is_refused() -> None:
    assert "Unresolved cannot be built from JSON: name 'Missing' is not defined" in refusal(Unresolved(1))


def test_a_dataclass_that_is_also_a_dict_is_refused() -> None:
    @dataclass
    class Both(dict[str, int]):
        a: int = 1

    assert "of type" in refusal([Both()])


def test_what_is_no_field_is_not_kept() -> None:
    class Counted(pydantic.BaseModel):
        a: int
        _seen: int = 0

    counted = Counted(a=1)
    counted._seen = 7

    assert decode_value(*stored(counted), Counted)._seen == 0


def test_a_time_zone_in_a_field_loads_as_its_offset() -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))

    loaded = decode_value(*stored(Record("x", created=moment)), Record).created

    assert loaded == moment
    assert loaded.utcoffset() == moment.utcoffset()


def test_an_instance_that_contains_itself_is_refused() -> None:
    record = Record("x")
    record.extra = [record]

    assert refusal(record) == "cannot save value: a value that contains itself at $.extra[0]"


def test_dataclasses_without_equality_are_compared_by_field() -> None:
    assert decode_value(*stored(NoEquality(1, 0.5)), NoEquality).secret == 0.5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Answer, "the stored value is no Answer: Expected `int`, got `str` - at `$.value`"),
        (Tokens, "the stored value is no Tokens: Object missing required field `prompt`"),
        (Model, "the stored value is no Model: Field required - at `$.name`"),
        (Step, "the stored value is no Step: Object missing required field `name`"),
    ],
)
def test_another_type_at_load_is_refused_with_the_path(kind: type, message: str) -> None:
    with pytest.raises(SerializerError) as caught:
        decode_value(Form.JSON, b'{"value":"text"}', kind)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "place"),
    [(Plain, ""), (complex, ""), (list[Plain], "$[0]"), (dict[str, Plain], "$[...]"), (Holds, "$.plain")],
)
def test_a_type_at_load_that_json_cannot_build_is_refused_with_the_path(kind: Any, place: str) -> None:
    value: Any = {"plain": 1} if kind in (Holds, dict[str, Plain]) else [1]
    with pytest.raises(SerializerError) as caught:
        decode_value(*stored(value), kind)

    assert "cannot be built from JSON" in str(caught.value)
    assert place in str(caught.value)


def test_a_class_that_refuses_in_its_own_way_gives_a_serializer_error() -> None:
    @dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError("odd")

    with pytest.raises(SerializerError, match="odd"):
        decode_value(Form.JSON, b'{"n":3}', Even)


def test_pydantic_and_attrs_are_never_imported_by_this_layer() -> None:
    code = (
        "import sys; from keepstone.objects import standard, trees;"
        "from keepstone.objects.plain import encode_value; encode_value({'a': 1});"
        "heavy = {'pydantic', 'attr', 'attrs', 'numpy', 'fsspec', 's3fs', 'asyncio', 'zstandard'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"
