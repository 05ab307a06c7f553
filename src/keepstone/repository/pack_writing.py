"""Writing packs as objects of their own, before a commit names them.

Layer: repository.
"""

from __future__ import annotations

from typing import Final

from keepstone.blobs.pack import Pack
from keepstone.foundation.errors import ObjectExistsError, ObjectNotFoundError, StorageError
from keepstone.history.commit import PackName, PackRecord
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
