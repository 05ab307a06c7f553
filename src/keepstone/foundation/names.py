"""Names, selectors and aliases: what a user may write, and what it means.

Layer: foundation. A name is 1 to 512 bytes of NFC UTF-8 without `@`, control characters, empty, `.` or `..` segments;
a leading `:` belongs to Keepstone itself. `quote` maps any text to a name and `unquote` brings it back.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import Final, Literal

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.format import KEY_BYTES_MAX, NAME_BYTES_MAX

_ALIAS: Final = re.compile(r"[a-z][a-z0-9._-]{0,127}")
_NUMBER: Final = re.compile(r"v([1-9][0-9]{0,17})")
_DIGEST: Final = re.compile(r"b3:[0-9a-f]{1,64}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_SECOND_NS: Final = 10**9
_SHOWN_MAX: Final = 80


def shown(text: str) -> str:
    """Return `text` quoted for a message, cut where it is long."""
    cut = text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
    return ascii(cut) if any(not c.isprintable() for c in cut) else repr(cut)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return `count` with its noun: 1 version, 2,000 versions."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def is_control(character: str) -> bool:
    """Whether `character` must not stand in a name: controls, lone surrogates, line separators, bidi overrides."""
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp", "Cf") and character not in "\u200c\u200d"
    )


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it is a valid name.

    Raises:
        InvalidInputError: it is not; the message shows it quoted and says which rule it breaks.
    """
    problem = _name_problem(name)
    if problem:
        raise InvalidInputError(
            f"{what} {shown(name) if isinstance(name, str) else repr(name)} {problem}",  # pyright: ignore[reportUnnecessaryIsInstance]
            hint="a name is text of 1 to 512 bytes, like team/model; keepstone.quote(text) makes one of any text",
        )
    return name


def _name_problem(name: str) -> str:
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return f"is a {type(name).__name__}, not text"
    if not name:
        return "is empty"
    if any(is_control(c) for c in name):
        return "has a control or invisible character"
    size = len(name.encode())
    if size > NAME_BYTES_MAX:
        return f"takes {size} bytes; the limit is {NAME_BYTES_MAX}"
    if "@" in name:
        return "contains '@', which separates a name from its version"
    if name.startswith(":"):
        return "begins with ':', which is reserved"
    if not unicodedata.is_normalized("NFC", name):
        return f"is not in Unicode's composed form; write {shown(unicodedata.normalize('NFC', name))}"
    if any(segment in ("", ".", "..") for segment in name.split("/")):
        return "has an empty, '.' or '..' segment"
    return ""


def check_key(key: str) -> str:
    """Return `key` if it can be a collection's key: any text of at most 4 KiB in UTF-8, never parsed."""
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"key {key!r} is of type {type(key).__name__}, not text", hint="use str(...) of it, on both sides"
        )
    # A str of at most a quarter of the limit fits whatever it holds; lone surrogates must still be refused.
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"key {shown(key)} has a lone surrogate", hint="decode the text properly"
        ) from error
    if size > KEY_BYTES_MAX:
        raise InvalidInputError(
            f"key {shown(key)} takes {size:,} bytes; the limit is {KEY_BYTES_MAX:,}",
            hint="use a digest of the text as the key, and keep the text in the value",
        )
    return key


def check_alias(alias: str) -> str:
    """Return `alias` if it can name a version: `[a-z][a-z0-9._-]*`, never `latest`, `v<digits>` or a date."""
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"alias {shown(str(alias))} is not of the form [a-z][a-z0-9._-]*",
            hint="begin with a small letter; use small letters, digits, '.', '_' and '-'",
        )
    if alias == "latest" or re.fullmatch(r"v[0-9]+", alias):
        raise InvalidInputError(f"alias {alias!r} always means something else", hint="choose another word")
    return alias


class Selector(msgspec.Struct, frozen=True):
    """A name and which of its versions is meant."""

    name: str
    kind: Literal["latest", "number", "alias", "digest", "date"] = "latest"
    value: str = ""
    """As written behind the `@`."""
    number: int = 0
    """For `number`."""
    until_ns: int = 0
    """For `date`: nanoseconds since 1970; the newest version made before or at it is meant."""

    def __str__(self) -> str:
        return f"{self.name}@{self.value}" if self.value else self.name


def parse_selector(text: str) -> Selector:
    """Return what `text` selects: `name`, `name@latest`, `@v3`, `@alias`, `@b3:9f2c…`, `@2026-11-20`, `@<RFC 3339>`.

    Raises:
        InvalidInputError: neither the name nor what follows `@` is of a known form.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"selector {text!r} is a {type(text).__name__}, not text", hint="pass a string"
        )
    name, at, version = text.partition("@")
    check_name(name)
    if not at or version == "latest":
        return Selector(name, "latest", version)
    if match := _NUMBER.fullmatch(version):
        return Selector(name, "number", version, number=int(match[1]))
    if _DIGEST.fullmatch(version):
        return Selector(name, "digest", version)
    if version[:1].isdigit():
        return Selector(name, "date", version, until_ns=parse_time(version))
    if _ALIAS.fullmatch(version) and not re.fullmatch(r"v[0-9]+", version):
        return Selector(name, "alias", version)
    raise InvalidInputError(
        f"selector {shown(text)} has an unknown form behind '@'",
        hint="write name, name@v3, name@alias, name@b3:9f2c, name@2026-11-20 or a full RFC 3339 time",
    )


def parse_time(text: str) -> int:
    """Return the last nanosecond that `text` (a UTC day, or an RFC 3339 time) covers, since 1970."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            f"not a date or time: {shown(text)}", hint="write 2026-11-20 or 2026-11-20T18:00:00Z"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    start = (since.days * 86_400 + since.seconds) * _SECOND_NS + since.microseconds * 1_000
    if _DAY.fullmatch(text):
        return start + 86_400 * _SECOND_NS - 1
    return start + (999 if "." in text else _SECOND_NS - 1 if text.count(":") >= 2 else 0)


def format_time(stamp_ns: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC, to the second."""
    return datetime.datetime.fromtimestamp(stamp_ns // _SECOND_NS, datetime.UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def matches_digest(selector: Selector, digest: Digest) -> bool:
    """Whether `digest` begins with the prefix that `selector` (of kind `digest`) gives."""
    return str(digest).startswith(selector.value)


# ---- any text as a name --------------------------------------------------------------------------------------------

_EMPTY: Final = "%"


def quote(text: str) -> str:
    """Return a name that stands for `text`, whatever it holds; `unquote` gives `text` back.

    Raises:
        InvalidInputError: the name would exceed 512 bytes.
    """
    if not text:
        return _EMPTY
    composed = unicodedata.is_normalized("NFC", text)
    segments = ["".join(_quote_character(c, composed) for c in segment) for segment in text.split("/")]
    name = _join(["%2E" * len(s) if s in (".", "..") else s for s in segments])
    if name.startswith(":"):
        name = "%3A" + name[1:]
    return check_name(name, what="quoted name")


def _join(segments: list[str]) -> str:
    name = segments[0]
    for i, segment in enumerate(segments[1:], 1):
        # A slash next to an empty segment is written out, since names have no empty segments.
        plain = bool(segments[i - 1]) and bool(segment)
        name += ("/" if plain else "%2F") + segment
    return name


def _quote_character(character: str, composed: bool) -> str:
    if character in "%@" or is_control(character) or (not composed and not character.isascii()):
        return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    return character


def unquote(name: str) -> str:
    """Return the text that `quote` made `name` of.

    Raises:
        InvalidInputError: `quote` never gives this name.
    """
    if name == _EMPTY:
        return ""
    try:
        parts = re.split(r"%([0-9A-F]{2})", name)
        data = b"".join(bytes.fromhex(p) if i % 2 else p.encode() for i, p in enumerate(parts))
        return data.decode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise InvalidInputError(
            f"{shown(name)} is not a quoted name", hint="pass what quote() returned"
        ) from error
