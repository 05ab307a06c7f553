"""The round trip rule: what loads equals what was saved, or saving is refused by name."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import sys
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.values.plain import growing

from keepstone.foundation.errors import InvalidInputError, MalformedError, SerializerError
from keepstone.foundation.format import VALUE_DEPTH_MAX, Form
from keepstone.objects.plain import decode_value, encode_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5)
)


class Colour(enum.IntEnum):
    RED = 1


class Mood(enum.StrEnum):
    GOOD = "good"


class Loud(str):
    __slots__ = ()


class Bag(dict[str, int]):
    pass


Point = namedtuple("Point", "x y")
ODD = st.sampled_from(
    [
        math.nan,
        math.inf,
        Colour.RED,
        Mood.GOOD,
        Loud("x"),
        Bag(a=1),
        Point(1, 2),
        {1, 2},
        b"x",
        1j,
        {1: 2},
        {True: 1},
    ]
)
MIXED = st.recursive(
    SCALARS | ODD | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(TEXT, inner, max_size=4)
    ),
)


def exact(value: Any) -> Any:
    """Return `value` with its types, tuples as lists, so that 1, True and 1.0 compare as different."""
    if type(value) in (list, tuple):
        return [exact(item) for item in value]
    if type(value) is dict:
        return [(exact(key), exact(item)) for key, item in value.items()]
    return type(value), repr(value)


def round_trip(value: Any, kind: Any = None) -> Any:
    encoded = encode_value(value)
    assert encoded is not None
    return decode_value(*encoded, kind)


def refusal(value: Any) -> SerializerError:
    with pytest.raises(SerializerError) as caught:
        encode_value(value)
    assert caught.value.hint
    return caught.value


@given(JSON)
def test_json_like_values_load_as_they_were_saved(value: Any) -> None:
    assert exact(round_trip(value)) == exact(value)


@given(MIXED)
def test_any_mixture_loads_as_it_was_or_is_refused(value: Any) -> None:
    try:
        encoded = encode_value(value)
    except SerializerError:
        return
    if encoded is not None and encoded[0] != Form.BYTES:
        assert exact(decode_value(*encoded)) == exact(value)


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 1.5, -0.0, 2**64, -(2**70), 1e300, 5e-324, [], {}, {"": ""}, ""]
)
def test_top_level_scalars_and_empty_containers_round_trip(value: Any) -> None:
    assert exact(round_trip(value)) == exact(value)


@pytest.mark.parametrize(
    ("value", "form", "loaded"),
    [
        (b"\x00\xff", Form.BYTES, b"\x00\xff"),
        (bytearray(b"ab"), Form.BYTES, b"ab"),
        (memoryview(b"abcd")[::2], Form.BYTES, b"ac"),
        ("grün\n", Form.TEXT, "grün\n"),
        ((1, (2,)), Form.JSON, [1, [2]]),
        (defaultdict(list, a=[1]), Form.JSON, {"a": [1]}),
        ({"n": Counter("aab")}, Form.JSON, {"n": {"a": 2, "b": 1}}),
    ],
)
def test_documented_changes_are_the_only_ones(value: Any, form: Form, loaded: Any) -> None:
    encoded = encode_value(value)

    assert encoded is not None
    assert encoded[0] is form
    assert exact(decode_value(*encoded)) == exact(loaded)


def test_key_order_is_the_order_of_insertion_also_in_an_ordered_dict() -> None:
    moved = OrderedDict(a=1, b=2)
    moved.move_to_end("a")

    assert list(round_trip({"b": 1, "a": 2})) == ["b", "a"]
    assert list(round_trip(moved)) == ["b", "a"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"scores": [1.0, 2, 3, math.nan]}, "cannot save value: nan at $.scores[3]"),
        ([0.5, -math.inf], "cannot save value: -inf at $[1]"),
        (math.inf, "cannot save value: inf at $"),
        ({"a": {1: 2}}, "cannot save value: key 1 of type int at $.a"),
        ({None: 1}, "cannot save value: key None of type NoneType at $"),
        ({Loud("k"): 1}, "cannot save value: key 'k' of type Loud at $"),
        ({"a": {1}}, "cannot save value: {1} of type set at $.a"),
        ({"a": [b"x"]}, "cannot save value: b'x' of type bytes at $.a[0]"),
        ([datetime.date(2026, 1, 2)], "cannot save value: datetime.date(2026, 1, 2) of type date at $[0]"),
        ([decimal.Decimal("1.0")], "cannot save value: Decimal('1.0') of type Decimal at $[0]"),
        ([uuid.UUID(int=1)], "of type UUID at $[0]"),
        ([Colour.RED], "cannot save value: <Colour.RED: 1> of type Colour at $[0]"),
        ([Mood.GOOD], "of type Mood at $[0]"),
        ([Loud("x")], "of type Loud at $[0]"),
        ([Bag(a=1)], "of type Bag at $[0]"),
        ([Point(1, 2)], "of type Point at $[0]"),
        ([deque([1])], "of type deque at $[0]"),
        ([pathlib.Path("a")], "of type PosixPath at $[0]"),
        ([1j], "cannot save value: 1j of type complex at $[0]"),
        ({"a b": [len]}, "of type builtin_function_or_method at $['a b'][0]"),
        ("ab\ud800", r"text with a lone surrogate, 'ab\ud800', at character 2"),
        ({"t": ["\udc80"]}, r"text with a lone surrogate, '\udc80', at $.t[0]"),
        ({"\udc80": 1}, r"key '\udc80', with a lone surrogate, at $"),
    ],
)
def test_what_json_would_change_is_refused_with_its_place(value: Any, message: str) -> None:
    assert message in str(refusal(value))


def test_hints_say_what_to_do() -> None:
    assert ".value" in refusal([Colour.RED]).hint
    assert "str(key)" in refusal({1: 2}).hint
    assert "._asdict()" in refusal([Point(1, 2)]).hint
    assert "dict(value)" in refusal([Bag()]).hint


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"a": []}
    loop["a"].append(loop)

    assert str(refusal(loop)) == "cannot save value: a value that contains itself at $.a[0]"


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": v}, lambda v: (1, {"b": v})])
def test_a_dict_that_is_added_to_while_it_is_saved_is_refused(wrap: Any) -> None:
    value = growing()

    assert "cannot save value: it changed while it was being saved" in str(refusal(wrap(value)))
    assert list(value) == ["first", "later"]


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,), lambda v: [v, 0.5]])
def test_nesting_is_bounded(wrap: Any) -> None:
    value: Any = 1
    for _ in range(VALUE_DEPTH_MAX):
        value = wrap(value)

    assert exact(round_trip(value)) == exact(value)
    assert "nested more than 200 deep" in str(refusal(wrap(value)))


def test_floats_only_count_as_nesting_too() -> None:
    value: Any = [0.5]
    for _ in range(VALUE_DEPTH_MAX):
        value = [value]

    assert "nested more than 200 deep" in str(refusal(value))


def test_a_call_from_deep_inside_other_calls_gives_an_error_of_ours() -> None:
    value: Any = 1
    for _ in range(VALUE_DEPTH_MAX):
        value = [value]

    def dive(levels: int) -> None:
        if levels:
            dive(levels - 1)
        else:
            encode_value(value)

    with pytest.raises(SerializerError, match="nested too deeply to be saved from here"):
        dive(sys.getrecursionlimit() - current_depth() - 60)


def current_depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back:
        frame, depth = frame.f_back, depth + 1
    return depth


def test_a_memoryview_of_numbers_is_refused() -> None:
    assert "format 'i'" in str(refusal(memoryview(b"\0" * 8).cast("i")))


@pytest.mark.parametrize(
    "value", [{1}, Colour.RED, Loud("x"), Bag(), Point(1, 2), pathlib.Path("a"), object()]
)
def test_other_kinds_need_a_manifest(value: Any) -> None:
    assert encode_value(value) is None


def test_loads_are_fresh_copies() -> None:
    form, data = encode_value({"a": [1]}) or pytest.fail("not plain")
    first = decode_value(form, data)
    first["a"].append(2)

    assert decode_value(form, data) == {"a": [1]}


def test_damaged_bytes_are_malformed() -> None:
    for form, data in ((Form.JSON, b"{"), (Form.JSON, b'"\xff"'), (Form.TEXT, b"\xff")):
        with pytest.raises(MalformedError):
            decode_value(form, data)


def test_deep_foreign_json_is_an_error_not_a_crash() -> None:
    with pytest.raises(SerializerError, match="nested too deeply"):
        decode_value(Form.JSON, b"[" * 100_000 + b"]" * 100_000)


def test_type_must_fit_the_form() -> None:
    assert decode_value(Form.BYTES, b"a", bytearray) == bytearray(b"a")
    with pytest.raises(SerializerError, match="the stored value is bytes, no dict"):
        decode_value(Form.BYTES, b"a", dict)
    with pytest.raises(SerializerError, match="the stored value is text, no bytes"):
        decode_value(Form.TEXT, b"a", bytes)
    with pytest.raises(SerializerError, match=r"no list\[int\]: Expected `int`, got `str` - at `\$\[1\]`"):
        decode_value(Form.JSON, b'[1,"a"]', list[int])
    with pytest.raises(InvalidInputError, match="not one of bytes, text and JSON"):
        decode_value(Form.MANIFEST, b"")


def test_annotations_with_unhashable_metadata_work() -> None:
    assert decode_value(Form.JSON, b"[1]", Annotated[list[int], ["note"]]) == [1]


def test_json_is_what_msgspec_writes() -> None:
    assert encode_value({"b": 1, "a": [None, 1.5]}) == (
        Form.JSON,
        msgspec.json.encode({"b": 1, "a": [None, 1.5]}),
    )
