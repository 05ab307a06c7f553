"""What the refs of names hold: an artifact's newest version, a collection's existence, an alias's target.

Layer: repository. Format: docs/format.md §9. A name's ref is the name; an alias's ref is `name@alias`.
A removed name keeps its ref and its last number, for numbers are never used again.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode, encode
from keepstone.foundation.errors import KindError
from keepstone.foundation.format import REF_VALUE_BYTES_MAX

VERSIONS: Final = ":versions"
"""The collection whose entries are the versions of all artifacts: `name@v3` → digest of the manifest."""

Kind = Literal["artifact", "collection"]


class NameRef(msgspec.Struct, frozen=True, array_like=True):
    """The value of a name's ref."""

    kind: Kind
    last: int = 0
    """Highest number that was ever given; of a collection, how often it was made."""
    number: int = 0
    """Number of the newest version that still exists, 0 for none; of a collection, 1 while it exists."""
    digest: bytes = b""
    """Of that version's manifest."""
    removals: int = 0
    """How often a version was removed and not given back; so a removal conflicts with an alias set meanwhile."""
    snapshots: int = 0
    """Of a collection: highest number that was ever given to a snapshot."""
    snapshot: int = 0
    """Of a collection: number of the newest snapshot that still exists, 0 for none; `digest` is its manifest's."""

    @property
    def is_there(self) -> bool:
        """Whether there is anything of that name; else all of it was removed."""
        return bool(self.number or self.newest)

    @property
    def newest(self) -> int:
        """Number of the newest version that still exists, of an artifact or of a collection's snapshots; 0: none."""
        return self.snapshot if self.kind == "collection" else self.number

    @property
    def given(self) -> int:
        """Highest version number that was ever given."""
        return self.snapshots if self.kind == "collection" else self.last

    def begun(self) -> NameRef:
        """Return the same name as that of a collection that is there, from now on or again."""
        return msgspec.structs.replace(self, last=self.last + 1, number=1)

    def at_version(self, number: int, digest: bytes) -> NameRef:
        """Return the same name with `number` as its newest version; 0 for none."""
        given = max(self.given, number)
        if self.kind == "collection":
            return msgspec.structs.replace(self, snapshots=given, snapshot=number, digest=digest)
        return msgspec.structs.replace(self, last=given, number=number, digest=digest)

    def encoded(self) -> bytes:
        """Return the ref's value."""
        return encode(self)


class AliasRef(msgspec.Struct, frozen=True, array_like=True):
    """The value of an alias's ref."""

    number: int
    digest: bytes

    def encoded(self) -> bytes:
        """Return the ref's value."""
        return encode(self)


def read_name_ref(value: bytes, name: str) -> NameRef:
    """Return what the ref of `name` says."""
    return decode(value, NameRef, what=f"ref of {name}", bytes_max=REF_VALUE_BYTES_MAX)


def read_alias_ref(value: bytes, name: str) -> AliasRef:
    """Return what the alias `name` says."""
    return decode(value, AliasRef, what=f"alias {name}", bytes_max=REF_VALUE_BYTES_MAX)


def version_key(name: str, number: int) -> str:
    """Return the key in `:versions` of a version."""
    return f"{name}@v{number}"


def alias_ref(name: str, alias: str) -> str:
    """Return the name of an alias's ref."""
    return f"{name}@{alias}"


def check_kind(ref: NameRef, name: str, wanted: Kind) -> None:
    """Refuse to use an artifact's name for a collection and the other way round.

    Raises:
        KindError: the name was first used for the other kind.
    """
    if ref.kind != wanted:
        raise KindError(
            f"{name!r} is {_article(ref.kind)}, not {_article(wanted)}",
            name=name,
            kind=ref.kind,
            hint=f"choose another name, or use it as {_article(ref.kind)}",
        )


def require_artifact(ref: NameRef, name: str) -> None:
    """Refuse a collection that is there, by its name alone, where a version is meant.

    Raises:
        KindError: it is one; the hint speaks of its snapshots.
    """
    if ref.kind == "collection" and ref.number:
        newest = (
            f"{name}@latest is its newest snapshot"
            if ref.newest
            else f"`keepstone snapshot {name}` makes one"
        )
        raise KindError(
            f"{name!r} is a collection, not an artifact",
            name=name,
            kind=ref.kind,
            hint=f"only snapshots of a collection are versions: {newest}",
        )


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "artifact" else f"a {kind}"


def text_of(digest: bytes) -> str:
    """Return a manifest's digest as text, or `nothing`."""
    return str(Digest(digest)) if digest else "nothing"
