"""Watching for credentials in what is saved: a warning, or a refusal before anything is stored.

Layer: repository. Text and JSON are looked at, part by part, once they have passed by on their way into the store. What
is saved is never altered, and what was found is never shown: only where it is, and of what kind.

A warning is for what comes into the store: content that it has already is not looked at again, whatever name it had. It
was looked at then, or somebody said "off"; and the same warning at every save would teach people not to look. A refusal
is about what is saved, so that everything is looked at, known or not.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from keepstone.foundation.errors import InvalidInputError, SecretsWarning
from keepstone.foundation.names import shown
from keepstone.objects.secret_scan import (
    SCAN_BYTES_MAX,
    Secret,
    find_secrets,
    find_secrets_in_json,
    may_hold_secrets,
)
from keepstone.objects.serializer import Dumped, PartSource

Secrets = Literal["warn", "refuse", "off"]

_JSON_ID: Final = "json"
_SHOWN_MAX: Final = 5
_READ_BYTES: Final = 1024 * 1024


def check_secrets(secrets: str) -> None:
    """Refuse what is no way of watching.

    Raises:
        InvalidInputError: it is none.
    """
    if secrets not in get_args(Secrets):
        raise InvalidInputError(
            f"unknown secrets={secrets!r}",
            hint="use 'warn', 'refuse' or 'off' for what looks like a credential",
        )


class SecretWatch:
    """What was found in one value so far."""

    def __init__(self, name: str, serializer: str, secrets: Secrets) -> None:
        check_secrets(secrets)
        self._name = name
        self._is_json = serializer == _JSON_ID
        self._secrets: Secrets = secrets
        self._found: list[Secret] = []
        self._passing = b""
        """The content of the part that is being stored; empty where it is not to be looked at."""
        self._taken: list[tuple[str, bytes]] = []
        """Path and content of parts that are still to be looked at, together."""
        self._taken_bytes = 0

    def look_before(self, dumped: Dumped, metadata: Mapping[str, Any] | None) -> None:
        """Look at metadata; where credentials are refused, at all the rest as well, before any of it is stored.

        Raises:
            InvalidInputError: something is refused.
        """
        if self._secrets == "off":
            return
        if metadata:
            self._look_at_metadata(metadata)
        if self._secrets != "refuse":
            return
        for part in dumped.parts:
            if part.source.size <= SCAN_BYTES_MAX:
                self._take(part.path, b"".join(part.source.chunks(_READ_BYTES)))
        self._look_at_taken()
        if self._found:
            raise InvalidInputError(
                f"{self._summary()}; it was not saved",
                hint="take them out; secrets='off' saves what is none",
            )

    def passing(self, part: PartSource) -> Iterable[bytes]:
        """Return the content of a part; `passed` looks at it. Whoever stores it may ask for it twice."""
        self._passing = b""
        chunks = part.source.chunks(_READ_BYTES)
        if self._secrets != "warn" or part.source.size > SCAN_BYTES_MAX:
            return chunks
        self._passing = b"".join(chunks)
        return (self._passing,)

    def passed(self, path: str, *, known: bool) -> None:
        """The part was stored: it is to be looked at, unless the store had its content already."""
        if self._passing and not known:
            self._take(path, self._passing)
        self._passing = b""

    def warn(self) -> None:
        """Say what was found, if anything was, to whoever called into Keepstone."""
        self._look_at_taken()
        if self._found:
            warnings.warn(SecretsWarning(f"{self._summary()}; it is saved as it is"), stacklevel=_caller())

    def _take(self, path: str, content: bytes) -> None:
        """Look at a part, later, together with others."""
        self._taken.append((path, content))
        self._taken_bytes += len(content)
        if self._taken_bytes >= SCAN_BYTES_MAX:
            self._look_at_taken()

    def _look_at_taken(self) -> None:
        # A thousand small files are looked at as one first, which nearly always is the end of it.
        if may_hold_secrets(content for _, content in self._taken):
            for path, content in self._taken:
                self._look_at(path, content)
        self._taken = []
        self._taken_bytes = 0

    def _look_at(self, path: str, content: bytes) -> None:
        found = find_secrets_in_json(content) if self._is_json else find_secrets(content)
        for secret in found:
            places = (place for place in (path, secret.place) if place)
            self._found.append(Secret(secret.kind, ", ".join(places)))

    def _look_at_metadata(self, metadata: Mapping[str, Any]) -> None:
        try:
            content = msgspec.json.encode(dict(metadata))
        except (TypeError, ValueError, OverflowError, RecursionError):
            # It cannot be kept, and encoding the manifest will say why.
            return
        self._found += [Secret(kind, f"metadata: {place}") for kind, place in find_secrets_in_json(content)]

    def _summary(self) -> str:
        listed = ", ".join(str(secret) for secret in self._found[:_SHOWN_MAX])
        more = len(self._found) - _SHOWN_MAX
        also = f" and {more:,} more" if more > 0 else ""
        return f"{shown(self._name)} holds what looks like credentials: {listed}{also}"


def _caller() -> int:
    """Return how far up the caller of Keepstone is, for `warnings`."""
    level, frame = 1, sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("keepstone."):
        level, frame = level + 1, frame.f_back
    return level
