"""Blobs on their way into one commit: large ones are written as packs at once, small ones ride in the commit.

Layer: repository. What the store has already is not written again; the commit then states the packs that it relies on.
Memory stays within two packs whatever the content's size: one is written while the next is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

import msgspec
from blake3 import blake3

from keepstone.blobs.blobstore import PackPlace, Place, is_recipe
from keepstone.blobs.cutting import cut
from keepstone.blobs.footer import Entry
from keepstone.blobs.incoming import Incoming
from keepstone.blobs.pack import PackBuilder
from keepstone.blobs.ranges import RangeReader
from keepstone.blobs.recipe import Piece, decode_recipe, encode_recipe
from keepstone.blobs.streaming import stream_pieces
from keepstone.foundation.digest import Digest, hash_threads
from keepstone.foundation.errors import (
    BlobNotFoundError,
    CorruptionError,
    KeepstoneError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import CHUNK_BYTES, INLINE_BYTES_MAX, PACK_BYTES_TARGET, Kind, Origin
from keepstone.history.commit import Draft, PackName, PackRecord, RefChange
from keepstone.history.state import State
from keepstone.repository.pack_writing import PackBehind, gone, record_of, rewrite_pack, write_pack
from keepstone.repository.session import Session

_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Pieces that are looked for and compressed together."""
_INLINE_BLOBS_MAX: Final = INLINE_BYTES_MAX - 64 * 1024
"""Leaves room for the footer and the entries of a commit's own pack [bytes]."""


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
        self._pack_names: dict[tuple[str, int], PackName | None] = {}
        self._behind: PackBehind | None = None
        """A pack on its way to the storage, while the next is collected."""
        self._failure: KeepstoneError | None = None
        """Why a pack that was behind could not be written: what was in it is gone."""

    def add(self, raw: bytes, digest: Digest | None = None, kind: Kind = Kind.BLOB) -> Digest:
        """Keep one blob of at most a chunk's size; return its digest."""
        digest = digest or Digest.of(raw)
        if not self._is_at_hand(digest, kind):
            self._builder.add(digest, raw, kind)
            self._added(digest)
        return digest

    def _is_at_hand(self, digest: Digest, kind: Kind = Kind.BLOB) -> bool:
        """Whether this was written, or is published in the same way; then the commit relies on it."""
        if digest in self._builder or digest in self._written_digests:
            return True
        place = self._session.entries.find_blob(digest)
        return place is not None and place.kind == kind and self._rely(digest, place)

    def _rely(self, digest: Digest, place: Place) -> bool:
        """State that this commit needs what lies there; False where no live pack does."""
        key = place.pack.key, place.pack.offset
        if key not in self._pack_names:
            # What is not live any more when the commit is made is noticed then.
            self._pack_names[key] = self._session.entries.pack_name(place)
        name = self._pack_names[key]
        if name is None:
            return False
        self._needs.add(name)
        self._relied[digest] = place
        return True

    def _added(self, digest: Digest) -> None:
        self._written_digests.add(bytes(digest))
        if self._builder.size >= PACK_BYTES_TARGET:
            self._write()

    def _added_behind(self, digest: Digest) -> None:
        """As `_added`, but go on while the pack is being written."""
        if self._session.storage.reads_at_once > 1:
            # A bucket's client needs the memory of a second pack for itself, and sends parts of one side by side.
            self._added(digest)
            return
        self._written_digests.add(bytes(digest))
        if self._builder.size >= PACK_BYTES_TARGET:
            self._await_pack()
            self._behind = PackBehind(self._session, self._builder, self._base)
            self._builder = PackBuilder(self._origin)

    def _await_pack(self) -> None:
        """Return when no pack is on its way any more.

        Raises:
            KeepstoneError: one could not be written, now or before; nothing of this can be committed.
        """
        if self._behind is not None:
            try:
                self._written.append(self._behind.record())
            except KeepstoneError as error:
                self._failure = error
            self._behind = None
        if self._failure is not None:
            raise self._failure

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

    def found_in_store(self, digest: Digest) -> bool:
        """Whether this was staged, and was not written because the store has it."""
        return digest in self._relied

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

    def add_bytes(self, content: bytes) -> Digest:
        """Keep content of any size that is in memory; return its digest."""
        return self.add_content(lambda: (content,))[0]

    def add_content(self, chunks: Callable[[], Iterable[bytes]]) -> tuple[Digest, int]:
        """Keep content of any size; return its digest and size in bytes. `chunks` may be asked for it twice."""
        hasher = blake3(max_threads=hash_threads())
        incoming = Incoming(_hashed(chunks(), hasher))
        if incoming.fill(CHUNK_BYTES + 1) <= CHUNK_BYTES:
            raw = incoming.take(CHUNK_BYTES)
            return self.add(raw), len(raw)
        if self.holds(Digest.of(incoming.peek(CHUNK_BYTES))):
            # Fixed pieces begin like that: perhaps all of it is here, cut in another way.
            digest = Digest.of_chunks(chunks())
            size = self._rely_on_whole(digest)
            if size is not None:
                return digest, size
        try:
            pieces = self._add_cut(incoming)
        except BaseException:
            with suppress(KeepstoneError):
                self._await_pack()
            raise
        self._await_pack()
        digest = Digest(hasher.digest())
        if self._rely_on_whole(digest) is None and digest not in self._written_digests:
            self._builder.add(digest, encode_recipe(pieces), Kind.RECIPE)
            self._added(digest)
        return digest, sum(piece.size for piece in pieces)

    def _add_cut(self, incoming: Incoming) -> list[Piece]:
        """Keep content that is too large for one piece; return its pieces."""
        pieces: list[Piece] = []
        batch: list[bytes] = []
        size = 0
        for raw in cut(incoming):
            batch.append(raw)
            size += len(raw)
            if size >= _BATCH_BYTES:
                pieces += self._add_pieces(batch)
                batch, size = [], 0
        return pieces + self._add_pieces(batch)

    def _add_pieces(self, raws: list[bytes]) -> list[Piece]:
        """Keep consecutive pieces, in their order."""
        pieces: list[Piece] = []
        fresh: dict[Digest, bytes] = {}
        last: tuple[bytes, Digest] = b"", Digest.of(b"")
        for raw in raws:
            # To compare takes a fraction of hashing; long stretches of zeros are one piece many times.
            digest = last[1] if raw == last[0] else Digest.of(raw)
            last = raw, digest
            pieces.append(Piece(digest, len(raw)))
            if digest not in fresh and not self._is_at_hand(digest):
                fresh[digest] = raw
        stored = self._builder.shrink(list(fresh.values()))
        for (digest, raw), shorter in zip(fresh.items(), stored, strict=True):
            self._builder.add_shrunk(digest, raw, shorter)
            self._added_behind(digest)
        return pieces

    def _rely_on_whole(self, digest: Digest) -> int | None:
        """Rely on published content, down to its last piece; return its size, or None where it is not whole here."""
        place = self._session.entries.find_blob(digest)
        if place is None:
            return None
        places = {digest: place}
        size = place.raw_size
        if is_recipe(place):
            try:
                pieces = self._session.blobs.read_pieces(place, digest)
            except (BlobNotFoundError, CorruptionError, UnsupportedFormatError):
                return None
            for piece in pieces:
                found = self._session.entries.find_blob(piece.digest)
                if found is None or is_recipe(found):
                    return None
                places[piece.digest] = found
            size = sum(piece.size for piece in pieces)
        return size if all(self._rely(name, where) for name, where in places.items()) else None

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
        self._await_pack()
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
            if not _can_be_added(record, state):
                # Its name can never be added any more: the same bytes under a new one.
                record = rewrite_pack(self._session, record, fresh._base)
            fresh._written.append(record)
        for digest, place in self._relied.items():
            fresh._rely_again(digest, place)
        fresh.settle()
        return fresh

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
            raise gone(f"blob {digest}") from error
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
            self._await_pack()
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


def _hashed(chunks: Iterable[bytes], hasher: blake3) -> Iterator[bytes]:
    """Yield `chunks` once `hasher` has taken them in."""
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk


def _can_be_added(record: PackRecord, state: State) -> bool:
    """Whether a pack's name may still come to be live: not below the floor, nor once somebody added and dropped it."""
    return record.name.base >= state.floor and record.name not in state.dropped
