"""What a store is: `store.json`, created once and never changed.

Layer: repository. Format: docs/format.md §8. Readable by people; a check over the rest notices a flipped byte.
Features that come later stand in the ref `:features`, since this object never changes.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    InvalidInputError,
    MalformedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StoreNotFoundError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import FORMAT_VERSION, LOG_PREFIX, STORE_JSON_BYTES_MAX, STORE_KEY
from keepstone.storage.base import Storage
from keepstone.storage.locate import is_web

_LITTER: Final = (".gitignore", "CACHEDIR.TAG", ".DS_Store", "lost+found")
"""What a folder may hold and still count as empty."""

_PROBED: Final = re.compile(r"probe/[0-9a-f]{16}/[0-9a-z]+")
"""What is left in a bucket when it is probed and the server goes away."""

_SLOT: Final = re.compile(rf"{LOG_PREFIX}[0-9]{{20}}")
"""Not any folder that is called `log` belongs to a store."""

_TRIES: Final = 2
"""To create what is said to exist, and is not there."""


class Identity(msgspec.Struct, frozen=True):
    """The facts of a store that never change."""

    format: int
    store_id: str
    """32 hex digits."""
    naming: str = "b3"
    """How digests name content; `b3` is plain BLAKE3-256."""
    chunker_seed: str = "0" * 64
    locks: str = "local"
    """`local` where `flock` tells about every process that may write; `none` on network file systems."""
    check: str = ""
    """`b3:` digest of the other fields as compact JSON with sorted keys."""

    @property
    def id_bytes(self) -> bytes:
        """The store id, 16 bytes."""
        return bytes.fromhex(self.store_id)


def _check_of(identity: Identity) -> str:
    facts = {name: getattr(identity, name) for name in identity.__struct_fields__ if name != "check"}
    return str(Digest.of(msgspec.json.encode(facts, order="sorted")))


def require_empty(storage: Storage) -> None:
    """Return if a store may be made here.

    Raises:
        InvalidInputError: something else is there already.
    """
    found = (info.key for info in storage.list(""))
    foreign = next((key for key in found if key not in _LITTER and not _PROBED.fullmatch(key)), None)
    if foreign is not None and foreign != STORE_KEY:
        raise InvalidInputError(
            f"{storage.location} is not empty and not a store: it holds {foreign!r}",
            hint="choose an empty or a new folder for the store",
        )


def create_identity(storage: Storage, *, locks: str) -> Identity:
    """Create a store on empty storage and return its identity; of two creators at once both get the winner's.

    Raises:
        StorageBusyError: the medium says that there is one, and that there is none.
    """
    fresh = Identity(format=FORMAT_VERSION, store_id=os.urandom(16).hex(), locks=locks)
    fresh = msgspec.structs.replace(fresh, check=_check_of(fresh))
    for _ in range(_TRIES):
        try:
            storage.write_new(STORE_KEY, encode_identity(fresh))
            return fresh
        except ObjectExistsError:
            # A request that was answered wrongly is no store; somebody else's is read.
            with suppress(StoreNotFoundError):
                return read_identity(storage)
    raise StorageBusyError(
        f"{storage.location}/{STORE_KEY} is said to exist, and is not there",
        path=storage.location,
        hint="try again; nothing was made",
    )


def encode_identity(identity: Identity) -> bytes:
    """Return what `store.json` holds."""
    return msgspec.json.format(msgspec.json.encode(identity), indent=2) + b"\n"


def read_identity(storage: Storage) -> Identity:
    """Return the identity of the store on `storage`.

    Raises:
        StoreNotFoundError: there is none.
        MalformedError: it is damaged, or gone from a store that has a log.
        UnsupportedFormatError: a newer release made it.
    """
    where = f"{storage.location}/{STORE_KEY}"
    try:
        data = storage.read_range(STORE_KEY, 0, STORE_JSON_BYTES_MAX)
    except ObjectNotFoundError as error:
        # Nobody can ask a web server what it has.
        listed = () if is_web(storage.location) else storage.list(LOG_PREFIX)
        if any(_SLOT.fullmatch(found.key) for found in listed):
            raise MalformedError(
                f"{where} is missing from a store that has a log",
                where=where,
                hint="restore this small file from any copy of the store",
            ) from error
        raise StoreNotFoundError(
            f"there is no store at {storage.location}",
            location=storage.location,
            hint="create one with keepstone.open(path, create=True) or `keepstone init`",
        ) from error
    try:
        facts = msgspec.json.decode(data, type=dict[str, object])
        found = facts.get("format")
        if isinstance(found, int) and found != FORMAT_VERSION and "store_id" in facts:
            raise UnsupportedFormatError(
                f"{where} is of format {found}; this release reads format {FORMAT_VERSION}",
                found=f"format {found}",
                supported=f"format {FORMAT_VERSION}",
                hint="upgrade keepstone",
            )
        identity = msgspec.convert(facts, Identity)
        sound = identity.check == _check_of(identity) and len(identity.id_bytes) == 16
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, UnsupportedFormatError):
            raise
        raise MalformedError(
            f"{where} cannot be read: {error}",
            where=where,
            hint="restore this small file from any copy of the store",
        ) from error
    if not sound:
        raise MalformedError(
            f"{where} is damaged: its check does not match",
            where=where,
            hint="restore this small file from any copy of the store",
        )
    if identity.naming != "b3":
        raise UnsupportedFormatError(
            f"{where} names blobs by {identity.naming!r}",
            found=identity.naming,
            supported="b3",
            hint="upgrade keepstone",
        )
    return identity
