"""Credentials in content that is about to be saved: found by shape, named by kind and place, never altered.

Layer: objects. `redact` removes from configurations whatever may be a credential; this looks at payloads, where a
false alarm costs more than there, so that every shape is narrow and a value must look random. Fixed beginnings are
looked for first; patterns are compiled and run only where one was found. In content of more than a few KiB, beginnings
that share a rare character are looked for together, by that character, which takes a third of the time. What is found
never stands in the result.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, cast

import msgspec

SCAN_BYTES_MAX: Final = 1024 * 1024
"""Larger content is not looked at [bytes]."""


class Secret(NamedTuple):
    """What looks like a credential."""

    kind: str
    """Such as "an AWS access key"."""
    place: str
    """Such as `line 3` or `messages[0].content`; empty where the content is one value."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.place})" if self.place else self.kind


class _Shape(NamedTuple):
    """One kind of credential."""

    kind: str
    starts: tuple[bytes, ...]
    """Texts that it begins with, at least one of them."""
    pattern: bytes
    """Matched where a start was found; its group 1, if it has one, is what must look random, or like a password."""


_SHAPES: Final = (
    _Shape(
        "a private key",
        (b"-----BEGIN ",),
        rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|\s){1,4}"
        rb"(?:[A-Za-z-]+: [^\n\\]*(?:\\[nr]|\s){1,4}){0,4}[A-Za-z0-9+/]{16}",
    ),
    _Shape(
        "an AWS access key",
        (b"AKIA", b"ASIA"),
        rb"(?<![A-Za-z0-9])(A[KS]IA[0-9A-Z]{16})(?![0-9A-Za-z])",
    ),
    _Shape(
        "a GitHub token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        rb"(?<![A-Za-z0-9_])((?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}))",
    ),
    _Shape("a GitLab token", (b"glpat-",), rb"(?<![A-Za-z0-9_])glpat-([A-Za-z0-9_-]{20,})"),
    _Shape("a Hugging Face token", (b"hf_",), rb"(?<![A-Za-z0-9_])hf_([A-Za-z0-9]{30,})(?![A-Za-z0-9_])"),
    _Shape("an Anthropic key", (b"sk-ant-",), rb"(?<![A-Za-z0-9_-])sk-ant-([A-Za-z0-9_-]{20,})"),
    _Shape(
        "an API key of OpenAI's kind",
        (b"sk-",),
        rb"(?<![A-Za-z0-9_-])sk-(?!ant-)(?=[A-Za-z0-9_-]*[A-Za-z0-9]{16})(?:[a-z]{2,8}-){0,2}([A-Za-z0-9_-]{20,})",
    ),
    _Shape("a Stripe key", (b"sk_live_", b"rk_live_"), rb"(?<![A-Za-z0-9])[sr]k_live_([A-Za-z0-9]{16,})"),
    _Shape(
        "a Slack token", (b"xox",), rb"(?<![A-Za-z0-9])xox[abeprs]-((?=[A-Za-z-]*[0-9])[A-Za-z0-9-]{20,})"
    ),
    _Shape(
        "a Slack webhook",
        (b"hooks.slack.com/services/T",),
        rb"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/([A-Za-z0-9]{16,})",
    ),
    _Shape(
        "a Google key",
        (b"AIza",),
        rb"(?<![A-Za-z0-9_+/-])(AIza[0-9A-Za-z_-]{35})(?![0-9A-Za-z_+/-])",
    ),
    _Shape("a Google token", (b"ya29.",), rb"(?<![A-Za-z0-9])ya29\.([A-Za-z0-9_-]{30,})"),
    _Shape("a PyPI token", (b"pypi-AgE",), rb"(?<![A-Za-z0-9])pypi-(AgE[A-Za-z0-9_-]{40,})"),
    _Shape("an Azure storage key", (b"AccountKey=",), rb"AccountKey=([A-Za-z0-9+/]{80,}=*)"),
    _Shape(
        "a JSON web token",
        (b"eyJ",),
        rb"(?<![A-Za-z0-9_+/-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.([A-Za-z0-9_-]{16,})",
    ),
    _Shape(
        "a password in a URL",
        (b"://",),
        rb"://[^/\s:@?#\"'<>\\]{0,64}:([^/\s@?#\"'<>\\]{1,128})@[A-Za-z0-9\[]",
    ),
)
_SHAPE_OF: Final = {start: shape for shape in _SHAPES for start in shape.starts}
_BEARER_START: Final = b"bearer "
_BEARER: Final = rb"bearer +([A-Za-z0-9._~+/-]{20,}=*)"
_NAME_PARTS: Final = (b"key", b"token", b"secret", b"passw", b"pwd", b"passphrase", b"credential")
_ASSIGNED: Final = (
    rb"[A-Za-z0-9_]{0,32}(?P<end>)\\?[\"']?\s{0,4}(?::=|=>|=|:)\s{0,4}"
    rb"(?:\\?[\"']([^\s\"'\\<>{}$()]{16,512})\\?[\"']"
    rb"|([A-Za-z0-9+/=_-]{20,512})(?![A-Za-z0-9+/=_.(\[-]))"
)
_NAME_HEAD: Final = rb"[A-Za-z0-9_.-]*\Z"
_NAME_HEAD_BYTES: Final = 48
_DIGEST: Final = rb"(?:b3|blake3|sha1|sha256|sha384|sha512|md5|etag)[:-]"
_PLACEHOLDER_PARTS: Final = (
    b"example", b"your", b"xxxx", b"****", b"....", b"placeholder", b"changeme", b"redacted", b"removed",
    b"12345678", b"abcdefgh", b"dummy", b"insert", b"00000000",
)  # fmt: skip
_PLACEHOLDER_PASSWORDS: Final = frozenset(
    b"user username pass passwd password pwd pw secret token key apikey api_key port x xx xxx".split()
)
_ENTROPY_MIN: Final = 3.0
"""Bits a character; 16 random hexadecimal digits have 3.2, words of a language that are joined 3.4 and no digits."""


class _Group(NamedTuple):
    """Starts that are looked for together."""

    pivot: bytes
    """What all of them hold, and most content seldom; it never overlaps itself."""
    starts: tuple[bytes, ...]


class _Starts(NamedTuple):
    """What is looked for in one content."""

    each: tuple[bytes, ...]
    groups: tuple[_Group, ...]
    """The same starts, each in one group."""


def _grouped(starts: Iterable[bytes], pivots: tuple[bytes, ...]) -> _Starts:
    """Return the starts, each in the group of the first pivot that it holds."""
    groups: dict[bytes, list[bytes]] = {pivot: [] for pivot in pivots}
    for start in starts:
        groups[next(pivot for pivot in pivots if pivot in start)].append(start)
    return _Starts(tuple(starts), tuple(_Group(pivot, tuple(members)) for pivot, members in groups.items()))


_SHAPED: Final = _grouped(_SHAPE_OF, (b"A", b"_", b"-", b"J", b"x", b"://", b"."))
_NAMED: Final = _grouped((_BEARER_START, *_NAME_PARTS), (b"k", b"w", b"cr", b"ph", b"bearer "))
"""In lower case."""
_ONE_BY_ONE_BYTES_MAX: Final = 4096
"""In content up to here starts are looked for one by one: compiling the patterns of groups would take longer."""


@functools.cache
def _compiled(pattern: bytes, flags: int = 0) -> re.Pattern[bytes]:
    # Most programs never save anything that needs one.
    return re.compile(pattern, flags)


def find_secrets(content: bytes) -> list[Secret]:
    """Return what in text or JSON looks like a credential, each with the kind that it is of and its line.

    Content that holds a NUL is binary, and is not looked at; nor is what has more than `SCAN_BYTES_MAX` bytes.
    """
    if len(content) > SCAN_BYTES_MAX or b"\0" in content:
        return []
    found: list[Secret] = []
    for offset, hit in sorted(_found(content).items()):
        line = content.count(b"\n", 0, offset) + 1
        found.append(Secret(hit.kind, f"line {line}"))
    return found


def may_hold_secrets(contents: Iterable[bytes]) -> bool:
    """Whether `find_secrets` may find something in one of many contents; takes a fraction of asking for each.

    They are looked at as one, line behind line: where one of them holds a credential, so does the whole. It may also
    seem to hold one where two of them meet.
    """
    return bool(_found(b"\n".join(content for content in contents if b"\0" not in content)))


def find_secrets_in_json(content: bytes) -> list[Secret]:
    """Return what `find_secrets` finds in a JSON document, each with its place: `messages[0].content`."""
    found = find_secrets(content)
    if not found:
        return []
    try:
        places = list(_places(msgspec.json.decode(content), "", ""))
    except (msgspec.DecodeError, RecursionError):
        # Nested too deeply to be looked through from here, or no JSON after all: where it is cannot be said.
        places = []
    # What only shows across two values is of no one place.
    return places or [Secret(secret.kind, "") for secret in found]


def remove_secrets(text: str) -> str:
    """Return a text of any size without what looks like a credential in it; `[removed]` stands there.

    For what describes a program, such as a diff; never for payloads.
    """
    content = text.encode()
    kept: list[bytes] = []
    done = 0
    for offset, hit in sorted(_found(content).items()):
        if offset >= done:
            kept += [content[done:offset], b"[removed]"]
        done = max(done, hit.end)
    return b"".join([*kept, content[done:]]).decode()


def _places(value: object, name: str, place: str) -> Iterator[Secret]:
    if isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _places(item, key, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _places(item, name, f"{place}[{index}]")
    elif isinstance(value, str):
        # With its name before it: that a value is a key may be said by nothing else.
        content = msgspec.json.encode({name: value} if name else value)
        yield from (
            Secret(kind, place) for kind in dict.fromkeys(hit.kind for hit in _found(content).values())
        )


class _Hit(NamedTuple):
    """A stretch of content that is, or holds, a credential."""

    kind: str
    end: int


def _found(content: bytes) -> dict[int, _Hit]:
    """Return where each begins, and what it is."""
    found: dict[int, _Hit] = {}
    for start, offset in _starts_in(content, _SHAPED):
        shape = _SHAPE_OF[start]
        match = _compiled(shape.pattern).match(content, offset)
        if match and _is_secret(shape, match):
            found[offset] = _Hit(shape.kind, match.end(match.re.groups))
    # What is of a known shape has been found, whatever it is called.
    shaped = list(found.items())
    for offset, hit in _found_by_name(content):
        if not any(begin <= offset < known.end for begin, known in shaped):
            found[offset] = hit
    return dict(sorted(found.items())) if found else found


def _found_by_name(content: bytes) -> Iterator[tuple[int, _Hit]]:
    assigned_at = None
    for start, offset in _starts_in(content.lower(), _NAMED):
        if start == _BEARER_START:
            match = _compiled(_BEARER, re.IGNORECASE).match(content, offset)
            if match and _is_random(match[1]):
                yield match.start(1), _Hit("a bearer token", match.end(1))
            continue
        assigned_at = assigned_at or _compiled(_ASSIGNED).match
        match = assigned_at(content, offset)
        if match:
            group = 2 if match[2] is not None else 3
            if _is_random(match[group]) and _names_a_secret(content, match):
                yield match.start(group), _Hit("a credential by its name", match.end(group))


def _starts_in(content: bytes, starts: _Starts) -> Iterator[tuple[bytes, int]]:
    """Yield each start that stands in content, with its offset."""
    if len(content) <= _ONE_BY_ONE_BYTES_MAX:
        for start in starts.each:
            if start in content:
                offset = content.find(start)
                while offset >= 0:
                    yield start, offset
                    offset = content.find(start, offset + 1)
        return
    for group in starts.groups:
        for seen in _group_pattern(group).finditer(content):
            start = group.starts[(seen.lastindex or 1) - 1]
            yield start, seen.start() - start.rindex(group.pivot)


@functools.cache
def _group_pattern(group: _Group) -> re.Pattern[bytes]:
    """Return what matches the last pivot of each start; the number of its group is that of the start.

    It begins with the pivot itself, which `re` looks for faster than `bytes.find` for most starts. Then the characters
    before the pivot reject nearly all of what is none, then each start is compared.
    """
    halves = [start.rpartition(group.pivot) for start in group.starts]
    width = min(2, *(len(before) for before, _, _ in halves))
    near = b"".join(
        b"[" + re.escape(bytes({before[place] for before, _, _ in halves})) + b"]"
        for place in range(-width, 0)
    )
    pivot = re.escape(group.pivot)
    each = b"|".join(
        (b"(?=" + re.escape(after) + b")" if after else b"")
        + (b"(?<=" + re.escape(before) + pivot + b")" if before else b"")
        + b"()"
        for before, _, after in halves
    )
    return re.compile(pivot + (b"(?<=" + near + pivot + b")" if near else b"") + b"(?:" + each + b")")


def _is_secret(shape: _Shape, match: re.Match[bytes]) -> bool:
    if not match.re.groups:
        return True
    return _is_password(match[1]) if b"://" in shape.starts else _is_random(match[1])


def _names_a_secret(content: bytes, match: re.Match[bytes]) -> bool:
    from keepstone.objects.redact import is_secret_name

    head = content[max(match.start() - _NAME_HEAD_BYTES, 0) : match.start()]
    before = _compiled(_NAME_HEAD).search(head)
    name = (before[0] if before else b"") + content[match.start() : match.end("end")]
    # The name alone decides here: a value without digits is no help to it.
    return is_secret_name(name.decode("ascii", "replace"), "x" * 8)


def _is_random(value: bytes) -> bool:
    lowered = value.lower()
    if any(part in lowered for part in _PLACEHOLDER_PARTS) or _compiled(_DIGEST).match(lowered):
        return False
    digits = sum(b"0"[0] <= byte <= b"9"[0] for byte in value)
    if not digits or digits == len(value):
        return False
    size = len(value)
    counts = Counter(value).values()
    return -sum(count / size * math.log2(count / size) for count in counts) >= _ENTROPY_MIN


def _is_password(value: bytes) -> bool:
    if value.lower() in _PLACEHOLDER_PASSWORDS or value[:1] in b"${[<%*" or not value.strip(b"*.x"):
        return False
    return not any(part in value.lower() for part in _PLACEHOLDER_PARTS)
