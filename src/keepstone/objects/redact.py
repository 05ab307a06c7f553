"""Credentials out of configurations: by the name of a field, and by the shape of a value.

Layer: objects. For configurations, provider settings, headers and command lines, never for payloads. What
is removed becomes `[removed]`; names such as `max_tokens`, `tokenizer`, `author` and `pad_token` are no
secrets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

REMOVED: Final = "[removed]"

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS: Final = frozenset(
    [
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "secrets",
        "authorization",
        "credential",
        "credentials",
        "cookie",
        "bearer",
        "apikey",
        "apikeys",
        "accesskey",
        "privatekey",
        "secretkey",
        "authtoken",
        "accesstoken",
        "apitoken",
    ]
)
_KEY_KINDS: Final = frozenset(
    [
        "api",
        "access",
        "private",
        "secret",
        "signing",
        "encryption",
        "subscription",
        "account",
        "auth",
        "service",
        "license",
        "master",
        "admin",
    ]
)
_TOKEN_KINDS: Final = frozenset(
    [
        "access",
        "refresh",
        "id",
        "auth",
        "api",
        "bearer",
        "session",
        "security",
        "hf",
        "huggingface",
        "hub",
        "github",
        "gitlab",
        "gh",
        "slack",
        "bot",
        "oauth",
        "csrf",
        "xsrf",
        "personal",
        "user",
        "client",
        "service",
        "login",
        "jwt",
        "openai",
        "anthropic",
        "wandb",
        "sas",
        "deploy",
        "secret",
    ]
)
# A name that ends so says where the secret is, or something about it.
_HARMLESS_ENDS: Final = frozenset(
    [
        "file",
        "path",
        "env",
        "var",
        "variable",
        "name",
        "names",
        "type",
        "url",
        "uri",
        "field",
        "header",
        "length",
        "len",
        "count",
        "limit",
        "policy",
        "provider",
        "required",
        "expiry",
        "expires",
        "ttl",
        "id",
        "count",
        "budget",
        "usage",
        "price",
        "cost",
    ]
)
_LONG_TOKEN: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[^\s<>|\[\]]{16,}")

_SHAPES: Final = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)",
        r"(?<![A-Za-z0-9])(?:sk|pk|rk)-(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{16,}",
        r"(?<![A-Za-z0-9])(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{10,}",
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])",
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})",
        r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}",
        r"(?<![A-Za-z0-9])xox[abeprs]-[A-Za-z0-9-]{10,}",
        r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{30,}",
        r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?",
        r"(?<![A-Za-z])[Bb]earer\s+[A-Za-z0-9._~+/=-]{16,}",
    )
)
_URL_USER: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s:@?#]*:[^/\s@?#]+@")
_URL_QUERY: Final = re.compile(
    r"([?&](?:[A-Za-z0-9_.-]*(?:key|token|secret|password|signature|credential)|sig|pwd)=)[^&\s#]+",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*):\s*(\S.*)", re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"(-{0,2}[A-Za-z_][A-Za-z0-9_.-]*)=(.+)", re.DOTALL)
_OPTION: Final = re.compile(r"--?[A-Za-z][A-Za-z0-9_.-]*")


class Redacted(msgspec.Struct, frozen=True):
    """A value without its credentials."""

    value: Any
    removed: tuple[str, ...]
    """Where something was removed: `headers.x-api-key`, `command[3]`."""


def redact(value: Any, name: str = "") -> Redacted:
    """Return the plain `value` with every credential replaced by `[removed]`; the argument is not changed.

    `name` is put in front of the places in `removed`.
    """
    removed: list[str] = []
    return Redacted(_clean(value, name, removed), tuple(removed))


def redact_command(command: Sequence[str], name: str = "command") -> Redacted:
    """Return the argument list `command` without credentials.

    Knows `--api-key=…`, `--api-key …`, `API_KEY=…`, `-H "Authorization: …"`, and every shape that `redact`
    knows.
    """
    removed: list[str] = []
    arguments: list[str] = []
    is_value_of_secret = False
    for index, argument in enumerate(command):
        if is_value_of_secret and not argument.startswith("--"):
            clean = REMOVED
        else:
            clean = _clean_argument(argument)
        is_value_of_secret = bool(_OPTION.fullmatch(argument)) and is_secret_name(
            argument.lstrip("-"), "?" * 20
        )
        if clean != argument:
            removed.append(f"{name}[{index}]")
        arguments.append(clean)
    return Redacted(arguments, tuple(removed))


def is_secret_name(name: str, value: object) -> bool:
    """Whether a field called `name` that holds `value` is a credential, judged by its name."""
    if value is None or isinstance(value, bool) or value == "":
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or (words[-1] in _HARMLESS_ENDS and not isinstance(value, dict)):
        return False
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    kinds = set(words[:-1])
    if words[-1] in ("key", "keys"):
        return not _KEY_KINDS.isdisjoint(kinds)
    if words[-1] != "token" or not isinstance(value, str):
        return False
    if not kinds:
        return len(value) >= 8 and not any(c.isspace() for c in value)
    # pad_token, eos_token and their like hold words of a vocabulary.
    return not _TOKEN_KINDS.isdisjoint(kinds) or bool(_LONG_TOKEN.fullmatch(value))


def _clean(value: Any, place: str, removed: list[str]) -> Any:
    if isinstance(value, str):
        clean = _clean_text(value)
        if clean != value:
            removed.append(place or "value")
        return clean
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: _clean_field(name, item, _join(place, name), removed) for name, item in fields.items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if items and all(isinstance(item, str) for item in items):
            command = redact_command(items, place or "value")
            removed.extend(command.removed)
            return command.value
        return [_clean(item, f"{place}[{i}]", removed) for i, item in enumerate(items)]
    return value


def _clean_field(name: str, value: Any, place: str, removed: list[str]) -> Any:
    if is_secret_name(name, value):
        removed.append(place)
        return REMOVED
    return _clean(value, place, removed)


def _clean_argument(argument: str) -> str:
    header = _HEADER.fullmatch(argument)
    if header and is_secret_name(header[1], header[2]):
        return f"{header[1]}: {REMOVED}"
    assignment = _ASSIGNMENT.fullmatch(argument)
    if assignment and is_secret_name(assignment[1].lstrip("-"), assignment[2]):
        return f"{assignment[1]}={REMOVED}"
    return _clean_text(argument)


def _clean_text(text: str) -> str:
    for shape in _SHAPES:
        text = shape.sub(REMOVED, text)
    text = _URL_USER.sub(rf"\g<1>{REMOVED}@", text)
    return _URL_QUERY.sub(rf"\g<1>{REMOVED}", text) if "://" in text else text


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
