"""What goes over is written to the target: whole packs as they are, frames of others in new packs, as they are stored.

Layer: operations. Until the commit nothing refers to any of it. The same content makes packs of the same names, so a
sync that was cut off writes only what is missing. Two packs are on their way at once: one that is copied whole goes
through in parts, and is never in memory as a whole; of the others one more is being made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

import msgspec
from blake3 import blake3

from keepstone.blobs.blobstore import Place
from keepstone.blobs.compression import Dictionary
from keepstone.blobs.footer import TOMBSTONE, Entry
from keepstone.blobs.pack import PackBuilder
from keepstone.foundation.digest import Digest, hash_threads
from keepstone.foundation.errors import (
    CorruptionError,
    DigestMismatchError,
    KeepstoneError,
    ObjectNotFoundError,
)
from keepstone.foundation.format import INLINE_BYTES_MAX, Kind, Origin
from keepstone.foundation.frame import NO_DICTIONARY
from keepstone.foundation.names import shown
from keepstone.history.commit import PackName, PackRecord
from keepstone.history.state import LivePack
from keepstone.operations.closure import UNREADABLE, naming
from keepstone.operations.progress import ProgressCallback
from keepstone.operations.sync_content import Wanted
from keepstone.operations.sync_reading import Frame, FrameReader
from keepstone.operations.sync_rows import PackRows
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.entries import pack_place
from keepstone.repository.pack_writing import put_pack, record_of
from keepstone.repository.session import Session
from keepstone.repository.staging import Staging
from keepstone.storage.base import Parts

NEW_PACK_BYTES: Final = 32 * 1024 * 1024
"""A pack under way is finished at this size."""
NEW_PACK_ENTRIES_MAX: Final = 100_000
PACKS_AT_ONCE: Final = 2
"""While one begins or ends, which is waiting, another one is on its way."""
_DICTIONARIES_MAX: Final = 250
_RIDE_BYTES_MAX: Final = INLINE_BYTES_MAX - 64 * 1024
"""So little goes in the commit itself."""


class Outbox:
    """Packs on their way to one target; use it in a `with`."""

    def __init__(
        self,
        source: Session,
        target: Session,
        base: int,
        *,
        resumes: bool,
        progress: ProgressCallback | None = None,
    ) -> None:
        """`base`: the target's log length when this sync was begun. `resumes`: it was cut off before."""
        self._source = source
        self._target = target
        self._base = base
        self._resumes = resumes
        self._progress = progress
        self._reader = FrameReader(source)
        waits = source.storage.reads_at_once > 1 or target.storage.reads_at_once > 1
        self._pool = ThreadPoolExecutor(PACKS_AT_ONCE) if waits else None
        self._under_way: deque[tuple[Future[None], int]] = deque()
        self._results = PackBuilder(Origin.REPACK)
        self._entries = 0
        self._content = PackBuilder(Origin.COPY)
        self._done = 0
        self.records: list[PackRecord] = []
        self.rider: PackBuilder | None = None
        """What is left for the commit itself to carry."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    # ---- what goes over ----------------------------------------------------------------------------------------------

    def add_pack(self, pack: LivePack) -> None:
        """Copy a pack byte for byte.

        Raises:
            CorruptionError: it is damaged; the message names an item or version in it.
        """
        record = msgspec.structs.replace(pack.record, name=self._name_of(pack.name.digest))
        self._write(record, lambda: self._copy(pack, record), pack.record.size)

    def _copy(self, pack: LivePack, record: PackRecord) -> None:
        # In a thread of its own, perhaps: so is the reader.
        reader = FrameReader(self._source)
        try:
            self._put(record, lambda: reader.pack_parts(pack))
        except UNREADABLE as error:
            with naming(self._damaged_in(pack)):
                raise error

    def add_rows(self, rows: Sequence[PackRows]) -> None:
        """Copy the wanted entries of one pack, with the values that travel with them."""
        for of_collection in rows:
            self._add_rows(of_collection)

    def _add_rows(self, rows: PackRows) -> None:
        place = pack_place(rows.pack)
        blobs = self._source.blobs
        index = blobs.index(place)
        has_saves = holds_saves(rows.pack)
        builder = self._content if has_saves else self._results
        kinds = index.frames.kinds

        def travels(position: int) -> bool:
            """Whether the value lies beside its entry, and goes with it."""
            return not has_saves and position >= 0 and kinds[position] != Kind.RECIPE

        frames = self._reader.read(
            (entry.digest, blobs.place(place, position))
            for entry, position in rows.entries(index)
            if entry.digest is not None and travels(position)
        )
        for entry, position in rows.entries(index):
            if entry.digest is not None and travels(position):
                builder = self._make_room(builder)
                self._add_frame(builder, self._next_frame(frames, rows, entry))
            builder.add_entry(rows.collection, entry)
            self._entries += 1
            if builder is self._results:
                builder = self._make_room(builder)

    def _next_frame(self, frames: Iterator[Frame], rows: PackRows, entry: Entry) -> Frame:
        try:
            return next(frames)
        except UNREADABLE:
            with naming(f"item {shown(entry.key)} of {rows.collection!r}"):
                raise

    def add_content(self, wanted: Sequence[Wanted]) -> None:
        """Copy blobs that are found by their digests; a large one that is copied whole is compared with its sum."""
        frames = self._reader.read(_places(wanted))
        for item in wanted:
            with naming(item.title):
                hasher = blake3(max_threads=hash_threads())
                for _ in item.pieces:
                    frame = next(frames)
                    if item.is_all:
                        hasher.update(frame.raw)
                    self._content = self._make_room(self._content)
                    self._add_frame(self._content, frame)
                if item.is_all and hasher.digest() != item.digest:
                    raise DigestMismatchError(
                        f"blob {item.digest} reads as {Digest(hasher.digest())}",
                        expected=str(item.digest),
                        actual=str(Digest(hasher.digest())),
                        hint="run `keepstone fsck` on that store",
                    )
                self._content = self._make_room(self._content)
                self._add_frame(self._content, next(frames))

    def _add_frame(self, builder: PackBuilder, frame: Frame) -> None:
        dictionary = NO_DICTIONARY
        if frame.dictionary:
            needed = Dictionary(frame.dictionary)
            builder.add_dictionary(needed)
            dictionary = needed.id
        builder.add_stored(frame.digest, frame.kind, frame.codec, frame.stored, len(frame.raw), dictionary)
        self._advance(len(frame.stored))

    def _make_room(self, builder: PackBuilder) -> PackBuilder:
        """Return the builder to go on with: a new one where this one is full."""
        is_full = builder.size >= NEW_PACK_BYTES or builder.dictionaries >= _DICTIONARIES_MAX
        if builder is self._results and (is_full or self._entries >= NEW_PACK_ENTRIES_MAX):
            self._finish(builder)
            self._results, self._entries = PackBuilder(Origin.REPACK), 0
            return self._results
        if builder is self._content and is_full:
            self._finish(builder)
            self._content = PackBuilder(Origin.COPY)
            return self._content
        return builder

    def _finish(self, builder: PackBuilder) -> None:
        pack = builder.finish()
        record = record_of(pack, self._name_of(bytes(pack.digest)).base)
        self._write(record, lambda: self._put(record, pack.chunks), 0)

    def finish(self) -> None:
        """Write the rest, but for what is so little that the commit can carry it; return when all of it is written."""
        rest = [builder for builder in (self._results, self._content) if not builder.empty]
        # The commit's own pack takes the entries of versions: those and values of journals stay apart.
        if rest and rest[-1] is self._content and self._content.size <= _RIDE_BYTES_MAX:
            self.rider = rest.pop()
        for builder in rest:
            self._finish(builder)
        while self._under_way:
            self._wait()

    def hand_over(self, staging: Staging) -> None:
        """Let the commit that `staging` drafts add all that was written."""
        for record in self.records:
            staging.take_over(record, ())
        if self.rider is not None:
            staging.carry(self.rider)

    def _name_of(self, digest: bytes) -> PackName:
        """Return the name of a pack that goes over: that of the first try, by which it is found again."""
        name, state = PackName(self._base, digest), self._target.log.state
        # It was committed then, though nobody came to note it, and merged since: that name is gone for good (rule 2).
        return PackName(state.length, digest) if name in state.dropped else name

    # ---- writing -----------------------------------------------------------------------------------------------------

    def _write(self, record: PackRecord, work: Callable[[], None], size: int) -> None:
        """Have `work` write a pack; when it has, `size` bytes more are done."""
        self.records.append(record)
        if self._pool is None:
            work()
            self._advance(size)
            return
        if len(self._under_way) >= PACKS_AT_ONCE:
            self._wait()
        self._under_way.append((self._pool.submit(work), size))

    def _wait(self) -> None:
        future, size = self._under_way.popleft()
        future.result()
        self._advance(size)

    def _put(self, record: PackRecord, parts: Parts) -> None:
        storage = self._target.storage
        if self._resumes and _is_there(storage.size, record.name.key, record.size):
            return
        put_pack(storage, record, parts)

    def _advance(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress.absolute_update(self._done)

    # ---- damage ------------------------------------------------------------------------------------------------------

    def _damaged_in(self, pack: LivePack) -> str:
        """Return what a damaged pack costs: the first item or version whose value cannot be read."""
        place = pack_place(pack)
        blobs = self._source.blobs
        reader = FrameReader(self._source)
        try:
            index = blobs.index(place)
            places = [
                (index.digest(position), blobs.place(place, position)) for position in range(index.blob_count)
            ]
            for _ in reader.read(places):
                pass
        except KeepstoneError:
            damaged = reader.at
            for collection in pack.record.collections:
                for entry, _ in index_entries(self._source, pack, collection):
                    if entry.digest is not None and entry.digest == damaged:
                        return f"item {shown(entry.key)} of {collection!r}"
        return ", ".join(f"{name}[*]" for name in pack.record.collections) or f"pack {pack.name}"


def index_entries(session: Session, pack: LivePack, collection: str) -> list[tuple[Entry, int]]:
    """Return the entries of a collection in a pack; none where its footer cannot be read."""
    try:
        return session.blobs.index(pack_place(pack)).entries(collection)
    except CorruptionError:
        return []


def _places(wanted: Sequence[Wanted]) -> Iterator[tuple[Digest, Place]]:
    for item in wanted:
        yield from item.pieces
        yield item.digest, item.place


def _is_there(size_of: Callable[[str], int], key: str, size: int) -> bool:
    try:
        return size_of(key) == size
    except ObjectNotFoundError:
        return False


def has_items(rows: PackRows, session: Session) -> bool:
    """Whether any of the wanted entries is no removal."""
    blobs = session.blobs.index(pack_place(rows.pack)).columns(rows.collection).blobs
    return any(wanted and blob != TOMBSTONE for wanted, blob in zip(rows.wanted, blobs, strict=True))
