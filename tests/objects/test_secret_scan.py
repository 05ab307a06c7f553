"""Credentials in content are found, by kind and place; innocent content raises no alarm; nothing found is repeated."""

from __future__ import annotations

import json
import random
import re
import string
from pathlib import Path
from typing import Final

import pytest
from tests.objects.innocent import corpus

from keepstone.objects.secret_scan import (
    SCAN_BYTES_MAX,
    find_secrets,
    find_secrets_in_json,
    may_hold_secrets,
    remove_secrets,
)

ROOT: Final = Path(__file__).resolve().parents[2]
_RANDOM: Final = random.Random(7)


def some(size: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Return random text that has a letter and a digit."""
    return "a7" + "".join(_RANDOM.choice(alphabet) for _ in range(size - 2))


CAPITALS: Final = string.ascii_uppercase + string.digits
SECRETS: Final = {
    "an AWS access key": "AKIA" + some(16, CAPITALS).upper(),
    "a GitHub token": "ghp_" + some(36),
    "a GitLab token": "glpat-" + some(20),
    "a Hugging Face token": "hf_" + some(34),
    "an API key of OpenAI's kind": "sk-proj-" + some(48),
    "an Anthropic key": "sk-ant-api03-" + some(90),
    "a Stripe key": "sk_live_" + some(24),
    "a Slack token": "xoxb-4127960358-" + some(24),
    "a Slack webhook": "https://hooks.slack.com/services/T0AB12CD3/B0AB12CD3/" + some(24),
    "a Google key": "AIza" + some(35),
    "a Google token": "ya29." + some(60),
    "a PyPI token": "pypi-AgEIcHlwaS5vcmc" + some(60),
    "an Azure storage key": "AccountName=a;AccountKey=" + some(86) + "==",
    "a JSON web token": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{some(43)}",
    "a private key": f"-----BEGIN RSA PRIVATE KEY-----\n{some(64)}\n-----END RSA PRIVATE KEY-----",
    "a password in a URL": "postgres://ada:correct-horse@db.host/x",
    "a bearer token": f"Authorization: Bearer {some(40)}",
    "a credential by its name": f'api_key = "{some(32)}"',
}
NAMED: Final = (
    "OPENAI_API_KEY={}", "export HF_TOKEN='{}'", '"client_secret": "{}"', "x-api-key: {}", "password := \"{}\"",
    "aws_secret_access_key = {}", "{{\"auth\": {{\"accessToken\":\"{}\"}}}}", "--api-key={}",
)  # fmt: skip
PROSE: Final = "Nothing to see here. " * 300
PADDING: Final = b" \n" * 3000
"""Makes content long, and changes nothing in it."""


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_is_found_in_text_with_its_line(kind: str) -> None:
    found = find_secrets(f"first\n  before {SECRETS[kind]} after\nlast".encode())

    assert [str(secret) for secret in found] == [f"{kind} (line 2)"]


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_is_found_in_json_with_its_place(kind: str) -> None:
    document = {"messages": [{"content": "x"}, {"content": SECRETS[kind]}], "max_tokens": 5}

    found = find_secrets_in_json(json.dumps(document).encode())

    assert [str(secret) for secret in found] == [f"{kind} (messages[1].content)"]


@pytest.mark.parametrize("kind", SECRETS)
def test_each_kind_is_found_in_long_content_too(kind: str) -> None:
    found = find_secrets(f"{PROSE}\n  before {SECRETS[kind]} after\n{PROSE}".encode())

    assert [str(secret) for secret in found] == [f"{kind} (line 2)"]


def test_short_and_long_content_are_searched_alike() -> None:
    # Up to a few KiB each start is looked for by itself, beyond that in groups: one is the measure of the other.
    secrets = [*SECRETS.values(), *(line.format(some(32)) for line in NAMED)]
    innocent = [content.decode()[:200] for content in corpus().values()]
    starts = [start for shape in SECRETS.values() for start in (shape[:3], shape[:4], shape[:7], shape[:12])]
    joints = [
        "",
        " ",
        "\n",
        "=",
        ": ",
        '"',
        "-",
        "--",
        "_",
        "x",
        "A",
        "k",
        "KEY",
        "Token",
        "sk-ant-",
        "AKIAKIA",
    ]
    mixing, mixes, hits = random.Random(11), 0, 0
    for _ in range(600):
        bits = [mixing.choice(mixing.choice((secrets, innocent, starts, joints, joints))) for _ in range(20)]
        short = "".join(bits).encode()[:4000]
        found = find_secrets(short)
        assert find_secrets(short + PADDING) == found, short
        assert [secret.kind for secret in find_secrets(PADDING + short)] == [secret.kind for secret in found]
        mixes, hits = mixes + 1, hits + len(found)

    assert hits > mixes


def test_many_contents_looked_at_as_one_hide_nothing() -> None:
    endings = [
        b"",
        b"=",
        b'"',
        b"key",
        b"api_key =",
        b"Bearer",
        b"sk-",
        b"eyJ",
        b"://",
        b"-----BEGIN ",
        b"\n",
        b"A7",
    ]
    secrets = [*SECRETS.values(), *(line.format(some(32)) for line in NAMED)]
    for secret in secrets:
        for before in endings:
            for after in endings:
                assert may_hold_secrets([b"x" + before, secret.encode(), after + b"x"]), (
                    before,
                    secret,
                    after,
                )
    assert not may_hold_secrets([*corpus().values(), secrets[0].encode() + b"\0"])


@pytest.mark.parametrize("line", NAMED)
@pytest.mark.parametrize("value", [some(32), some(40), some(32, "0123456789abcdef")])
def test_values_are_found_by_the_name_that_they_are_given(line: str, value: str) -> None:
    assert [secret.kind for secret in find_secrets(line.format(value).encode())] == [
        "a credential by its name"
    ]


def test_a_field_says_what_its_value_is() -> None:
    found = find_secrets_in_json(json.dumps({"a": [{"api_key": some(32)}, {"key": some(32)}]}).encode())

    assert [secret.place for secret in found] == ["a[0].api_key"]


def test_a_place_that_cannot_be_said_is_left_out() -> None:
    deep = "[" * 3000 + json.dumps(SECRETS["a GitHub token"]) + "]" * 3000

    assert [str(secret) for secret in find_secrets_in_json(deep.encode())] == ["a GitHub token"]
    assert [str(secret) for secret in find_secrets_in_json(SECRETS["a GitHub token"].encode())] == [
        "a GitHub token"
    ]


def test_removing_takes_the_credential_and_leaves_the_rest() -> None:
    for secret in SECRETS.values():
        removed = remove_secrets(f"before é {secret} after {secret}")
        assert removed.startswith("before é ")
        assert removed.count("[removed]") == 2
        assert find_secrets(removed.encode()) == []
    assert remove_secrets("nothing here") == "nothing here"


def test_what_is_found_is_never_repeated() -> None:
    for secret in SECRETS.values():
        shown = str(find_secrets(secret.encode()) + find_secrets_in_json(json.dumps({"x": secret}).encode()))
        assert not any(part in shown for part in re.findall(r"[A-Za-z0-9]{12,}", secret))


def test_no_alarm_for_innocent_content_and_the_docs_say_how_much_was_looked_at() -> None:
    innocent = corpus()
    innocent |= {f"long {what}": content + PADDING for what, content in innocent.items()}
    innocent |= {str(path): path.read_bytes() for path in sorted((ROOT / "src").rglob("*.py"))}
    alarms = {what: found for what, content in innocent.items() if (found := find_secrets(content))}

    page = (ROOT / "docs" / "decisions" / "0033-secrets.md").read_text(encoding="utf-8")
    assert alarms == {}
    assert f"{len(corpus())} innocent pieces" in page


def test_binary_and_large_content_is_not_looked_at() -> None:
    secret = SECRETS["a GitHub token"].encode()

    assert find_secrets(secret + b"\0") == []
    assert find_secrets(secret + b" " * SCAN_BYTES_MAX) == []
    assert len(find_secrets(secret.ljust(SCAN_BYTES_MAX))) == 1
