"""Blobs on their way into one commit: large ones are written as packs at once, small ones ride in the commit.

Layer: repository. What the store has already is not written again; the commit then states the packs that it relies on.
Memory stays within one pack whatever the content's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from blake3 import blake3

from keepstone.blobs.blobstore import PackPlace, Place, is_recipe
from keepstone.blobs.footer import Entry
from keepstone.blobs.pack import Pack, PackBuilder
from keepstone.blobs.ranges import RangeReader
from keepstone.blobs.recipe import Piece, cut, decode_recipe, encode_recipe
from keepstone.blobs.streaming import stream_pieces
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    CorruptionError,
    DigestMismatchError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import CHUNK_BYTES, INLINE_BYTES_MAX, PACK_BYTES_TARGET, Kind, Origin
from keepstone.history.commit import Draft, PackName, PackRecord, RefChange
from keepstone.history.state import State
from keepstone.history.validate import Rule, StaleDraftError
from keepstone.repository.session import Session
from keepstone.storage.base import Parts, Storage

_PUTS_MAX: Final = 3
"""How often a pack is put that is said to exist and is not there."""
_INLINE_BLOBS_MAX: Final = INLINE_BYTES_MAX - 64 * 1024
"""Leaves room for the footer and the entries of a commit's own pack [bytes]."""

SINGLE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A larger pack is written in parts, and never whole in memory a second time."""


class Restage(Exception):
    """A pack that this commit relied on was dropped meanwhile: stage the content again."""


class Staging:
    """Collects the content of one commit."""

    def __init__(self, session: Session, origin: Origin = Origin.SAVE) -> None:
        self._session = session
        self._origin = origin
        self._base = session.log.state.length
        self._builder = PackBuilder(origin)
        self._written: list[PackRecord] = []
        self._written_digests: set[bytes] = set()
        self._relied: dict[Digest, Place] = {}
        """What the store had already, and where."""
        self._needs: set[PackName] = set()

    def add(self, raw: bytes, digest: Digest | None = None, kind: Kind = Kind.BLOB) -> Digest:
        """Keep one blob of at most a chunk's size; return its digest."""
        digest = digest or Digest.of(raw)
        if digest in self._builder or digest in self._written_digests:
            return digest
        place = self._session.entries.find_blob(digest)
        name = self._session.entries.pack_name(place) if place else None
        if name is not None and place is not None and place.kind == kind:
            self._needs.add(name)
            self._relied[digest] = place
            return digest
        self._builder.add(digest, raw, kind)
        self._written_digests.add(bytes(digest))
        if self._builder.size >= PACK_BYTES_TARGET:
            self._write()
        return digest

    def rely_on(self, packs: Iterable[PackName]) -> None:
        """Rest on live packs that hold what this commit's content names."""
        self._needs.update(packs)

    def add_many(self, blobs: Iterable[tuple[Digest, bytes]]) -> None:
        """Keep many plain blobs; small ones that the store does not have are compressed together."""
        fresh: list[tuple[Digest, bytes]] = []
        for digest, raw in blobs:
            if digest not in self._written_digests and not self.has_whole(digest):
                fresh.append((digest, raw))
                self._written_digests.add(bytes(digest))
        self._builder.add_many(fresh)
        if self._builder.size >= PACK_BYTES_TARGET:
            self._write()

    def has_whole(self, digest: Digest) -> bool:
        """Whether this content is whole here already, written or published; the commit then states its packs."""
        if digest in self._written_digests:
            return True
        place = self._session.entries.find_blob(digest)
        if place is None:
            return False
        places = [place]
        if is_recipe(place):
            for piece in self._session.blobs.read_pieces(place, digest):
                if piece.digest in self._written_digests:
                    continue
                found = self._session.entries.find_blob(piece.digest)
                if found is None:
                    return False
                places.append(found)
        names = {self._session.entries.pack_name(where) for where in places}
        if None in names:
            return False
        self._needs.update(name for name in names if name is not None)
        return True

    def holds(self, digest: Digest) -> bool:
        """Whether this blob is here already, written or published, and no large one."""
        if digest in self._written_digests:
            return True
        place = self._session.entries.find_blob(digest)
        return place is not None and not is_recipe(place)

    def held(self, digest: Digest) -> bytes | None:
        """Return a blob that is here already, verified; None where it is not, or is large, or cannot be read."""
        if not self.holds(digest):
            return None
        try:
            found = self._read_or_pieces(digest)
        except (BlobNotFoundError, CorruptionError, UnsupportedFormatError):
            return None
        return found if isinstance(found, bytes) else None

    def take_over(self, record: PackRecord, digests: Iterable[bytes]) -> None:
        """Use a pack that an earlier attempt wrote and could not commit; its bytes were compared with its name."""
        self._written.append(record)
        self._written_digests.update(digests)

    def carry(self, builder: PackBuilder) -> None:
        """Let what `builder` holds ride in the commit itself; nothing else was added."""
        assert self._builder.empty
        self._builder = builder

    def add_content(self, chunks: Iterable[bytes]) -> tuple[Digest, int]:
        """Keep content of any size; return its digest and size in bytes."""
        hasher = blake3()
        pieces: list[Piece] = []
        for raw in cut(chunks):
            if not pieces and len(raw) < CHUNK_BYTES:
                return self.add(raw), len(raw)
            hasher.update(raw)
            pieces.append(Piece(self.add(raw), len(raw)))
        if not pieces:
            return self.add(b""), 0
        if len(pieces) == 1:
            return pieces[0]
        digest = Digest(hasher.digest())
        self.add(encode_recipe(pieces), digest, Kind.RECIPE)
        return digest, sum(piece.size for piece in pieces)

    def _write(self) -> None:
        """Write what was collected as a pack of its own."""
        self._written.append(write_pack(self._session, self._builder.finish(), self._base))
        self._builder = PackBuilder(self._origin)

    @property
    def empty(self) -> bool:
        """Whether nothing was kept that the store did not have."""
        return self._builder.empty and not self._written

    def settle(self) -> None:
        """Write what is too large to ride in the commit itself; call before `draft`."""
        if self._builder.size > _INLINE_BLOBS_MAX:
            self._write()

    def renewed(self) -> Staging:
        """Return the same content, staged anew on the packs that are live now.

        Raises:
            StaleDraftError: what this relied on is gone for good.
        """
        fresh = Staging(self._session, self._origin)
        fresh._builder = self._builder.copy()
        fresh._written_digests = set(self._written_digests)
        state = self._session.log.state
        for record in self._written:
            fresh._written.append(record if _can_be_added(record, state) else fresh._rewritten(record))
        for digest, place in self._relied.items():
            fresh._rely_again(digest, place)
        fresh.settle()
        return fresh

    def _rewritten(self, record: PackRecord) -> PackRecord:
        # Its name can never be added any more: the same bytes under a new one.
        renamed = msgspec.structs.replace(record, name=PackName(self._base, record.name.digest))
        try:
            data = self._session.storage.read(record.name.key)
            # What is damaged must not get a name that says it is whole.
            if (found := Digest.of(data)) != record.name.digest:
                raise DigestMismatchError(
                    f"pack {record.name} reads as {found}",
                    expected=record.name.digest.hex(),
                    actual=str(found),
                    hint="save it again; `keepstone fsck` tells what else is damaged",
                )
            put_pack(self._session.storage, renamed, lambda: (part for part in (data,)))
        except ObjectNotFoundError as error:
            raise _gone(f"pack {record.name}") from error
        return renamed

    def _rely_again(self, digest: Digest, place: Place) -> None:
        found = self._session.entries.find_blob(digest)
        name = self._session.entries.pack_name(found) if found else None
        if found is not None and name is not None and found.kind == place.kind:
            self._needs.add(name)
            self._relied[digest] = found
            return
        blobs = self._session.blobs
        try:
            raw = blobs.read_frame(place, digest) if is_recipe(place) else blobs.read(place, digest)
        except BlobNotFoundError as error:
            raise _gone(f"blob {digest}") from error
        self._builder.add(digest, raw, Kind(place.kind))

    def stream_blob(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob that was staged, or is in the store, piece by piece."""
        return stream_pieces(digest, self._read_or_pieces)

    def open_blob(self, digest: Digest, size: int) -> RangeReader:
        """Return what reads ranges of a blob of that size that was staged, or is in the store."""
        return RangeReader(digest, size, self._read_or_pieces)

    def _read_or_pieces(self, digest: Digest) -> bytes | list[Piece]:
        found = self._builder.read(digest)
        if found is not None:
            kind, raw = found
            return decode_recipe(raw, where="a new pack") if kind == Kind.RECIPE else raw
        blobs = self._session.blobs
        if digest in self._written_digests:
            for record in self._written:
                pack = PackPlace(record.name.key, 0, record.size, record.footer_size)
                place = blobs.find(pack, digest)
                if place is not None:
                    return blobs.read_pieces(place, digest) if is_recipe(place) else blobs.read(place, digest)
        return self._session.read_or_pieces(digest)

    def draft(
        self,
        state: State,
        *,
        message: str = "",
        refs: tuple[RefChange, ...] = (),
        entries: tuple[tuple[str, Entry], ...] = (),
        needs: Iterable[PackName] = (),
    ) -> Draft:
        """Return the commit of all that was staged, with `entries` (collection, entry), for `state`.

        `needs` are further packs that it relies on.

        Raises:
            Restage: something that this relies on is not live any more.
        """
        stale = any(name not in state.packs for name in self._needs)
        if stale or not all(_can_be_added(record, state) for record in self._written):
            raise Restage
        builder = self._builder.copy()
        for collection, entry in entries:
            builder.add_entry(collection, entry)
        draft = Draft(
            message=message,
            add=tuple(self._written),
            refs=refs,
            needs=tuple(sorted(self._needs.union(needs))),
        )
        if builder.empty:
            return draft
        pack = builder.finish()
        record = record_of(pack, state.length)
        if record.size > INLINE_BYTES_MAX:
            # So many entries that they do not fit into the slot: a pack of their own, anew at every attempt.
            return msgspec.structs.replace(
                draft, add=(*draft.add, write_pack(self._session, pack, state.length))
            )
        return msgspec.structs.replace(draft, inline=record, inline_bytes=pack.data)


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


def _can_be_added(record: PackRecord, state: State) -> bool:
    """Whether a pack's name may still come to be live: not below the floor, nor once somebody added and dropped it."""
    return record.name.base >= state.floor and record.name not in state.dropped


def _gone(what: str) -> StaleDraftError:
    return StaleDraftError(
        f"{what}, which this relies on, was collected as garbage meanwhile",
        rule=Rule.NEEDS,
        hint="do it again",
    )


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
