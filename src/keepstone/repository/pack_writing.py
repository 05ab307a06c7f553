"""Packs as objects of their own: writing them before a commit names them, and which ones hold something.

Layer: repository.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

import msgspec

from keepstone.blobs.pack import Pack, PackBuilder
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    DigestMismatchError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
)
from keepstone.history.commit import PackName, PackRecord
from keepstone.history.validate import Rule, StaleDraftError
from keepstone.repository.session import Session
from keepstone.storage.base import Parts, Storage

_PUTS_MAX: Final = 3
"""How often a pack is put that is said to exist and is not there."""
SINGLE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A larger pack is written in parts, and never whole in memory a second time."""


def record_of(pack: Pack, base: int) -> PackRecord:
    """Return what a commit says about `pack`."""
    return PackRecord(
        name=PackName(base, bytes(pack.digest)),
        size=pack.size,
        footer_size=pack.footer_size,
        entries=pack.entries,
        collections=pack.collections,
        stamp_max=pack.stamp_max,
        origin=int(pack.origin),
    )


def write_pack(session: Session, pack: Pack, base: int) -> PackRecord:
    """Write a pack as an object of its own; one that is there already has the same bytes."""
    record = record_of(pack, base)
    put_pack(session.storage, record, pack.chunks)
    return record


def rewrite_pack(session: Session, record: PackRecord, base: int) -> PackRecord:
    """Write the bytes of a pack under the name that they have after commit `base`; return its record.

    Raises:
        DigestMismatchError: they are damaged.
        StaleDraftError: they are gone.
    """
    renamed = msgspec.structs.replace(record, name=PackName(base, record.name.digest))
    try:
        data = session.storage.read(record.name.key)
    except ObjectNotFoundError as error:
        raise gone(f"pack {record.name}") from error
    # What is damaged must not get a name that says it is whole.
    if (found := Digest.of(data)) != record.name.digest:
        raise DigestMismatchError(
            f"pack {record.name} reads as {found}",
            expected=record.name.digest.hex(),
            actual=str(found),
            hint="save it again; `keepstone fsck` tells what else is damaged",
        )
    put_pack(session.storage, renamed, lambda: (part for part in (data,)))
    return renamed


class PackBehind:
    """A pack that is hashed and written by a thread of its own, while the next one is collected."""

    def __init__(self, session: Session, builder: PackBuilder, base: int) -> None:
        self._record: PackRecord | None = None
        self._failure: BaseException | None = None

        def write() -> None:
            try:
                self._record = write_pack(session, builder.finish(), base)
            except BaseException as error:
                self._failure = error

        self._thread = threading.Thread(target=write, name="keepstone-pack")
        self._thread.start()

    def record(self) -> PackRecord:
        """Return what a commit says about the pack, once it is written; errors as of `write_pack`."""
        self._thread.join()
        if self._record is None:
            assert self._failure is not None
            raise self._failure
        return self._record


def put_pack(storage: Storage, record: PackRecord, parts: Parts) -> None:
    """Write a pack's bytes under its name, where they do not lie already.

    Raises:
        StorageError: that failed; it never says `landed`.
    """
    key, size = record.name.key, record.size
    try:
        for _ in range(_PUTS_MAX):
            try:
                if size <= SINGLE_BYTES_MAX:
                    storage.write_new(key, b"".join(parts()))
                else:
                    storage.write_parts(key, size, parts)
            except ObjectExistsError:
                try:
                    if storage.size(key) != size:
                        raise
                except ObjectNotFoundError:
                    # It was removed in between, or the medium was wrong.
                    continue
            return
        place = f"{storage.location}/{key}"
        raise StorageError(
            f"{place} is said to exist, but reading finds nothing",
            path=place,
            hint="the medium contradicts itself; check its caching",
        )
    except StorageError as error:
        # The pack may stand, but not the commit that was asked for: whoever hears of this may do it again.
        error.landed = False
        raise


def packs_holding(session: Session, digests: Iterable[Digest]) -> set[PackName]:
    """Return live packs that hold these blobs: what a commit that relies on them states as needed.

    Raises:
        StaleDraftError: one is in no live pack.
    """
    needs: set[PackName] = set()
    for digest in digests:
        place = session.entries.find_blob(digest)
        name = session.entries.pack_name(place) if place else None
        if name is None:
            raise StaleDraftError(f"blob {digest}, which this relies on, is in no live pack", rule=Rule.NEEDS)
        needs.add(name)
    return needs


def gone(what: str) -> StaleDraftError:
    """Return the error to raise where `what`, on which a commit relies, is not there any more."""
    return StaleDraftError(
        f"{what}, which this relies on, was collected as garbage meanwhile",
        rule=Rule.NEEDS,
        hint="do it again",
    )
