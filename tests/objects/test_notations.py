"""YAML and MessagePack on request: what JSON keeps, and nothing else."""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from tests.objects.saving import damaged, load, save
from tests.objects.test_plain import JSON, exact

from keepstone.foundation.errors import MalformedError, SerializerError
from keepstone.objects.standard import standard_registry


@dataclasses.dataclass
class Answer:
    value: int
    why: str


@pytest.fixture(params=["yaml", "msgpack"])
def notation(request: pytest.FixtureRequest) -> str:
    if request.param == "yaml":
        pytest.importorskip("yaml")
    return request.param


@given(value=JSON)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_load_as_they_were_or_are_refused(notation: str, value: Any) -> None:
    registry = standard_registry()
    try:
        saved = save(registry, value, notation)
    except SerializerError:
        return
    assert saved[0].serializer == notation
    assert exact(load(registry, saved)) == exact(value)


@pytest.mark.parametrize(
    "value",
    ["text", "", None, 1.5, -0.0, [], {}, {"b": [1, {"a": None}], "ü": "\n"}, {"on": "yes", "1": "1.0"}],
)
def test_plain_values_are_not_refused(notation: str, value: Any) -> None:
    registry = standard_registry()

    assert exact(load(registry, save(registry, value, notation))) == exact(value)


def test_instances_load_as_dicts_or_as_what_is_asked_for(notation: str) -> None:
    registry = standard_registry()
    saved = save(registry, Answer(72, "because"), notation)

    assert load(registry, saved) == {"value": 72, "why": "because"}
    assert load(registry, saved, Answer) == Answer(72, "because")
    assert saved[0].type_name.endswith("Answer")
    with pytest.raises(SerializerError, match="no Answer"):
        load(registry, save(registry, {"value": "x", "why": ""}, notation), Answer)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": math.nan}, r"nan at \$.a"),
        ([math.inf], r"inf at \$\[0\]"),
        ({1: 2}, "key 1 of type int"),
        ([{1}], "of type set"),
        (b"x", "does not save a bytes"),
        ({1}, "does not save a set"),
    ],
)
def test_what_json_would_change_is_refused_here_too(notation: str, value: Any, message: str) -> None:
    with pytest.raises(SerializerError, match=message):
        save(standard_registry(), value, notation)


def test_a_number_above_64_bits_is_no_messagepack() -> None:
    with pytest.raises(SerializerError, match="MessagePack cannot hold it") as caught:
        save(standard_registry(), [2**70], "msgpack")
    assert "JSON" in caught.value.hint


@pytest.mark.parametrize("data", [b"\xff\xfe{", b"[1", b"{a: [}", b""])
def test_what_is_damaged_is_malformed(notation: str, data: bytes) -> None:
    registry = standard_registry()
    saved = save(registry, [1, 2], notation)
    if notation == "yaml" and not data:
        return
    if notation == "msgpack":
        data = b"\x92\x01" if data else data

    with pytest.raises(MalformedError):
        load(registry, damaged(saved, lambda _: data))


@pytest.mark.parametrize("foreign", [{1: 2}, {(1, 2): 1}, b"raw", datetime.datetime.now(datetime.UTC)])
def test_what_json_has_not_is_not_read_from_messagepack(foreign: Any) -> None:
    registry = standard_registry()
    saved = save(registry, [1], "msgpack")

    with pytest.raises(MalformedError):
        load(registry, damaged(saved, lambda _: msgspec.msgpack.encode(foreign)))


def test_a_yaml_bomb_is_malformed() -> None:
    pytest.importorskip("yaml")
    registry = standard_registry()
    saved = save(registry, [1], "yaml")
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))

    with pytest.raises(MalformedError, match="repeats a part of itself"):
        load(registry, damaged(saved, lambda _: bomb.encode()))


def test_yaml_is_made_to_be_read() -> None:
    pytest.importorskip("yaml")
    saved = save(standard_registry(), {"model": "m", "layers": [1, 2]}, "yaml")

    assert list(saved[1].values()) == [b"model: m\nlayers:\n- 1\n- 2\n"]


def test_a_machine_without_pyyaml_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)  # pyright: ignore[reportArgumentType]

    with pytest.raises(SerializerError, match="pyyaml is not installed: YAML is written with it") as caught:
        save(standard_registry(), {"a": 1}, "yaml")
    assert "pip install pyyaml" in caught.value.hint
