"""Credentials leave configurations; everything else stays."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.objects.redact import REMOVED, is_secret_name, redact, redact_command


@pytest.mark.parametrize(
    "name",
    [
        "api_key", "apiKey", "API_KEY", "OPENAI_API_KEY", "x-api-key", "password", "db_password", "passwd", "secret",
        "client_secret", "authorization", "Authorization", "proxy-authorization", "access_token", "refresh_token",
        "auth_token", "hf_token", "token", "private_key", "secret_access_key", "credentials", "set-cookie",
        "bearerToken",        "AWS_SESSION_TOKEN", "apikey",
    ],
)  # fmt: skip
def test_names_of_credentials(name: str) -> None:
    assert is_secret_name(name, "correct-horse-42")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 512), ("tokens", 17), ("tokenizer", "bpe"), ("token_metadata", {"a": 1}), ("author", "Ada"),
        ("authors", ["Ada"]), ("pad_token", "[PAD]"), ("eos_token", "</s>"), ("stop_token", "END"), ("token", "the"),
        ("key", "question"), ("keys", ["a"]), ("primary_key", "id"), ("secretary", "Bob"),
        ("api_key_env", "OPENAI_API_KEY"),
        ("password_file", "/run/secret"), ("use_auth_token", True), ("api_key", None), ("token_count", 3),
        ("monkey", "x"), ("passenger", "x"),
    ],
)  # fmt: skip
def test_names_that_only_look_alike(name: str, value: object) -> None:
    assert not is_secret_name(name, value)
    assert redact({name: value}).value == {name: value}


SHAPES = [
    "sk-abcdefghijklmnop1234", "sk-proj-Ab1_cdefghijklmnopqrs", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18,
    "hf_abcdefghijklmnopqrstuv", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_x", "xoxb-1234567890-abcdef",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "Bearer abcdefghijklmnop.qrst",
]  # fmt: skip


@pytest.mark.parametrize("secret", SHAPES)
def test_values_of_a_known_shape_are_removed_wherever_they_stand(secret: str) -> None:
    clean = redact({"headers": {"x": [f"before {secret} after"]}, "plain": secret})

    assert secret not in str(clean.value)
    assert clean.value["headers"]["x"][0].startswith("before [removed]")
    assert clean.removed == ("headers.x[0]", "plain")


def test_user_and_password_leave_urls_and_the_rest_stays() -> None:
    clean = redact({"url": "https://ada:pa55@host/path?x=1&api_key=abc&y=2"})

    assert clean.value == {"url": "https://[removed]@host/path?x=1&api_key=[removed]&y=2"}
    assert redact({"url": "https://host:8080/a@b"}).removed == ()


def test_nested_credentials_are_found_and_named() -> None:
    config = {"a": [{"provider": {"headers": {"X-Api-Key": "v"}}}], "credentials": {"user": "u"}, "n": 1}
    before = copy.deepcopy(config)
    clean = redact(config)

    assert clean.value == {
        "a": [{"provider": {"headers": {"X-Api-Key": REMOVED}}}],
        "credentials": REMOVED,
        "n": 1,
    }
    assert clean.removed == ("a[0].provider.headers.X-Api-Key", "credentials")
    assert config == before


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["p", "--api-key=abc"], ["p", "--api-key=[removed]"]),
        (["p", "--api-key", "abc", "x"], ["p", "--api-key", "[removed]", "x"]),
        (["p", "--api-key", "--other"], ["p", "--api-key", "--other"]),
        (["env", "OPENAI_API_KEY=abc", "p"], ["env", "OPENAI_API_KEY=[removed]", "p"]),
        (["p", "-H", "Authorization: Basic YTpi"], ["p", "-H", "Authorization: [removed]"]),
        (["p", "--max-tokens", "12", "--tokenizer=bpe"], ["p", "--max-tokens", "12", "--tokenizer=bpe"]),
        (["p", "--token", "abcdefgh1"], ["p", "--token", "[removed]"]),
        (["p", "sk-abcdefghijklmnop1234"], ["p", "[removed]"]),
    ],
)
def test_command_lines(command: list[str], expected: list[str]) -> None:
    clean = redact_command(command)

    assert clean.value == expected
    assert len(clean.removed) == sum(a != b for a, b in zip(command, expected, strict=True))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_cleaning_what_is_clean_changes_nothing(value: Any) -> None:
    once = redact(value)

    assert redact(once.value).value == once.value
    assert (once.value == value) == (once.removed == ())
