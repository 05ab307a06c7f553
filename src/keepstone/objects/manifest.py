"""The manifest: what an artifact is made of, and how to build its value again.

Layer: objects. Format: docs/format.md. Canonical MessagePack: fields in the order below, keys of every map
inside sorted. Equal manifests give equal bytes, so the digest of those bytes is the artifact's identity; no
time, host, version number or message stands in it. A decoded manifest names no path outside its own folder.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, Final

import msgspec

from keepstone.foundation.digest import DIGEST_BYTES
from keepstone.foundation.encoding import decode, encode_bounded
from keepstone.foundation.errors import InvalidInputError, MalformedError, UnsupportedFormatError
from keepstone.foundation.format import (
    MANIFEST_BYTES_MAX,
    MANIFEST_FORMAT,
    METADATA_BYTES_MAX,
    PART_PATH_BYTES_MAX,
)
from keepstone.foundation.names import shown
from keepstone.objects.roundtrip import encode_checked, is_plain

_NO_SEGMENTS: Final = frozenset({"", ".", ".."})
_SERIALIZER_ID: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")


class PartMode(IntEnum):
    """What a part is, in a folder."""

    FILE = 0
    EXECUTABLE = 1
    SYMLINK = 2
    """The blob is the link's target, as written; links are stored, never followed."""
    FOLDER = 3
    """An empty folder; others follow from the paths below them. The blob is empty."""


class Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One blob of an artifact."""

    path: str
    """Relative, segments joined by `/`; empty for the only part of a value that has no file name."""
    digest: bytes
    """32 bytes of BLAKE3 of the raw content."""
    size: int
    """Bytes."""
    mode: int = PartMode.FILE


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One artifact; frozen."""

    format: int = MANIFEST_FORMAT
    serializer: str
    """The stable id of the serializer that wrote the parts."""
    serializer_version: int
    type_name: str
    """For people; nothing is imported because of it."""
    parts: tuple[Part, ...]
    """Sorted by path; no path twice, none below another part."""
    metadata: dict[str, Any] = {}
    parents: tuple[str, ...] = ()
    """Digests of the manifests that this one was made from; lineage only, keeps nothing alive."""
    packages: dict[str, str] = {}
    """Distribution → version of what is needed to build the value again."""
    references: tuple[Any, ...] = ()
    """Reserved for data that is named but not copied; MUST be empty in format 1."""
    detail: dict[str, Any] = {}
    """Facts of the serializer's own; JSON-like."""


class _Version(msgspec.Struct):
    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of `manifest`; parts may come in any order.

    Raises:
        InvalidInputError: a path, digest, size or limit is broken.
        SerializerError: metadata or detail hold what JSON cannot keep.
    """
    parts = tuple(
        Part(part.path, bytes(part.digest), part.size, int(part.mode))
        for part in sorted(manifest.parts, key=lambda part: part.path)
    )
    ordered = msgspec.structs.replace(manifest, parts=parts)
    for facts in (manifest.metadata, manifest.detail):
        if not is_plain(facts):
            encode_checked(facts)
    try:
        problem = _problem(ordered)
        if problem:
            raise InvalidInputError(f"this artifact cannot be described: {problem}")
        encode_bounded(manifest.metadata, bytes_max=METADATA_BYTES_MAX, what="metadata")
        return encode_bounded(ordered, bytes_max=MANIFEST_BYTES_MAX, what="the list of parts")
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"this artifact cannot be described: {error}",
            hint="metadata holds text without lone surrogates, and numbers of at most 64 bits",
        ) from error


def decode_manifest(data: bytes | memoryview) -> Manifest:
    """Return the manifest that `data` encodes; every path in it is safe to join to a folder.

    Raises:
        UnsupportedFormatError: written by a newer release.
        MalformedError: no manifest, or one that breaks a rule of the format.
    """
    version = decode(data, _Version, what="manifest", bytes_max=MANIFEST_BYTES_MAX).format
    if version > MANIFEST_FORMAT:
        raise _newer(f"manifest format {version}")
    manifest = decode(data, Manifest, what="manifest", bytes_max=MANIFEST_BYTES_MAX)
    if manifest.references:
        raise _newer("references to data that was not copied")
    problem = _problem(manifest)
    if problem:
        raise MalformedError(f"manifest breaks the format: {problem}", where="manifest")
    return manifest


def _newer(found: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"this artifact uses {found}",
        found=found,
        supported=f"manifest format {MANIFEST_FORMAT}",
        hint="upgrade keepstone",
    )


# ---- rules ---------------------------------------------------------------------------------------


def path_problem(path: str) -> str:
    """Return why `path` must not be a part's; empty where it may."""
    if "\0" in path:
        return "has a NUL character"
    if path.startswith("/"):
        return "is absolute"
    if not _NO_SEGMENTS.isdisjoint(path.split("/")):
        return "has an empty, '.' or '..' segment"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    return f"takes {size:,} bytes; the limit is {PART_PATH_BYTES_MAX:,}" if size > PART_PATH_BYTES_MAX else ""


def _problem(manifest: Manifest) -> str:
    if manifest.format != MANIFEST_FORMAT:
        return f"format {manifest.format} does not exist"
    if not _SERIALIZER_ID.fullmatch(manifest.serializer):
        return f"serializer id {shown(manifest.serializer)} is not of the form [a-z][a-z0-9._-]*"
    if manifest.serializer_version < 1:
        return f"serializer version {manifest.serializer_version} is below 1"
    if manifest.references:
        return "references are reserved"
    if not is_plain(manifest.metadata) or not is_plain(manifest.detail):
        return "metadata or detail hold what JSON cannot keep"
    return _parts_problem(manifest.parts)


def _parts_problem(parts: tuple[Part, ...]) -> str:
    modes = frozenset(PartMode)
    leaves: set[str] = set()
    before = ""
    for index, part in enumerate(parts):
        problem = "" if not part.path and len(parts) == 1 else path_problem(part.path)
        if problem:
            return f"part {shown(part.path)} {problem}"
        if index and part.path <= before:
            return f"part {shown(part.path)} is there twice or out of order"
        if len(part.digest) != DIGEST_BYTES or part.size < 0 or part.mode not in modes:
            return f"part {shown(part.path)} has a wrong digest, size or mode"
        before = part.path
        leaves.add(part.path)
    for part in parts:
        above = part.path
        while above := above.rpartition("/")[0]:
            if above in leaves:
                return f"part {shown(part.path)} lies below {shown(above)}, which is no folder of its own"
    return ""
