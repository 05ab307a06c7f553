"""Reading blobs out of packs: every read is verified against the digest that was asked for.

Layer: blobs. Format: docs/format.md §3. One ranged read a blob; footers are read once and kept, within a bound.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from blake3 import blake3

from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import PackIndex
from keepstone.blobs.pack import read_index
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, quick_raw, read_header, read_raw
from keepstone.blobs.recipe import Piece, decode_recipe
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    MalformedError,
    ObjectNotFoundError,
)
from keepstone.foundation.format import Codec, Kind
from keepstone.foundation.frame import NO_DICTIONARY
from keepstone.storage.base import MapsFiles, ReadsRanges

if TYPE_CHECKING:
    from keepstone.blobs.read_ahead import ReadAhead

T = TypeVar("T")

INDEX_BYTES_MAX: Final = 96 * 1024 * 1024
"""Footers kept in memory, by their encoded size [bytes]."""


class PackPlace(NamedTuple):
    """Where a live pack lies: an object of its own, or behind the header of a commit."""

    key: str
    offset: int
    """Of the pack's first byte in the object."""
    size: int
    footer_size: int
    stamp_max: int = -1
    """Highest stamp of its entries as the log has it, 0 for none; -1: not known. Tells another pack in its place."""


class Place(NamedTuple):
    """Where one blob lies; `offset` counts from the pack's first byte."""

    pack: PackPlace
    offset: int
    stored_size: int
    raw_size: int
    kind: int
    dictionary: bytes
    """First 8 bytes of the dictionary's digest, zeros for none."""


class BlobStore:
    """Blobs in packs on one storage; safe to use from many threads.

    Where `reads_at_once` is more than 1 a read is taken to wait, and what goes through `each` or `ahead` is read ahead.
    """

    def __init__(
        self, storage: ReadsRanges, *, reads_at_once: int = 1, index_bytes_max: int = INDEX_BYTES_MAX
    ) -> None:
        self._storage = storage
        self._reads_at_once = reads_at_once
        self._aheads: tuple[ReadAhead[Any], ...] = ()
        self._index_bytes_max = index_bytes_max
        self._decompressor = Decompressor()
        self._lock = threading.Lock()
        self._indexes: OrderedDict[tuple[str, int], tuple[PackIndex, int]] = OrderedDict()
        self._index_bytes = 0

    def after_fork(self) -> None:
        """In a forked child: renew what a thread of the parent may have held."""
        self._lock = threading.Lock()
        self._decompressor = Decompressor()
        # Their threads are the parent's.
        self._aheads = ()

    # ---- reading ahead -----------------------------------------------------------------------------------------------

    @contextmanager
    def each(self, items: Iterable[T], spans_of: Callable[[T], Iterable[Span]]) -> Generator[Iterator[T]]:
        """Give `items` in order; what `spans_of` says that each is read from is read ahead, merged and in parallel.

        Only where that saves waiting: then `items` are drawn some way ahead of what is handed out.
        """
        if self._reads_at_once == 1:
            yield iter(items)
            return
        with self._reading(items, spans_of, keep=True) as ahead:
            yield ahead.each()

    @contextmanager
    def ahead(self, items: Iterable[T], spans_of: Callable[[T], Iterable[Span]]) -> Generator[None]:
        """While this lasts, what `items` are read from is read ahead: for who reads them in that order elsewhere."""
        if self._reads_at_once == 1:
            yield
            return
        with self._reading(items, spans_of, keep=False) as ahead:
            ahead.pump()
            yield

    @contextmanager
    def _reading(
        self, items: Iterable[T], spans_of: Callable[[T], Iterable[Span]], *, keep: bool
    ) -> Generator[ReadAhead[T]]:
        from keepstone.blobs.read_ahead import ReadAhead

        def unplanned(item: T) -> Iterator[Span]:
            for span in spans_of(item):
                # A reader within a reader: what the one has planned already is not fetched twice.
                if not any(other.plans(span) for other in self._aheads if other is not ahead):
                    yield span

        ahead = ReadAhead(self._storage, items, unplanned, reads_at_once=self._reads_at_once, keep=keep)
        with self._lock:
            self._aheads = (*self._aheads, ahead)
        try:
            yield ahead
        finally:
            ahead.close()
            with self._lock:
                self._aheads = tuple(other for other in self._aheads if other is not ahead)

    def known(self, packs: Iterable[PackPlace]) -> list[PackPlace]:
        """Return those of `packs` whose index is in memory, where reading the others waits; else none."""
        if self._reads_at_once == 1:
            return []
        return [pack for pack in packs if (pack.key, pack.offset) in self._indexes]

    def footer_spans(self, pack: PackPlace) -> list[Span]:
        """Return what reading a pack's index takes; nothing where it is in memory."""
        if (pack.key, pack.offset) in self._indexes:
            return []
        end = pack.offset + pack.size
        return [Span(pack.key, end - pack.footer_size, end)]

    def spans(self, place: Place | None) -> list[Span]:
        """Return what reading one stored blob takes; nothing where its place is not known."""
        if place is None:
            return []
        start = place.pack.offset + place.offset
        return [Span(place.pack.key, start, start + PACK_FRAME_HEADER_BYTES + place.stored_size)]

    def recipe_spans(self, place: Place | None) -> list[Span]:
        """Return what finding out the pieces of a large blob takes; nothing where it is not large."""
        return self.spans(place) if place is not None and is_recipe(place) else []

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        for ahead in self._aheads:
            data = ahead.take(Span(key, start, end))
            if data is not None:
                return data
        return self._storage.read_range(key, start, end)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def index(self, pack: PackPlace) -> PackIndex:
        """Return a pack's index, from memory if it was read before.

        Raises:
            MalformedError, DigestMismatchError: the footer is damaged.
            BlobNotFoundError: the pack is gone.
        """
        key = pack.key, pack.offset
        with self._lock:
            kept = self._indexes.get(key)
            if kept is not None:
                self._indexes.move_to_end(key)
                return kept[0]
        end = pack.offset + pack.size
        try:
            tail = self._read_range(pack.key, end - pack.footer_size, end)
        except ObjectNotFoundError as error:
            raise _gone(pack, "its footer") from error
        index = read_index(tail, where=pack.key)
        stamp_max = max((section.stamp_max for section in index.footer.sections), default=0)
        if pack.stamp_max not in (-1, stamp_max):
            # Sound in itself, it would silently replace what its keys mean.
            raise MalformedError(f"{pack.key} holds another pack than the log says", where=pack.key)
        with self._lock:
            if key not in self._indexes:
                self._indexes[key] = index, pack.footer_size
                self._index_bytes += pack.footer_size
                while self._index_bytes > self._index_bytes_max and len(self._indexes) > 1:
                    # What an index decoded to is about five times its encoded size.
                    _, (_, dropped) = self._indexes.popitem(last=False)
                    self._index_bytes -= dropped
        return index

    def place(self, pack: PackPlace, position: int) -> Place:
        """Return where the blob at `position` of a pack's index lies."""
        index = self.index(pack)
        row = index.row(position)
        try:
            dictionary = index.footer.dictionaries[row.dictionary - 1][0] if row.dictionary else bytes(8)
        except IndexError as error:
            raise MalformedError(f"{pack.key} names a dictionary it does not have", where=pack.key) from error
        return Place(pack, row.offset, row.stored_size, row.raw_size, row.kind, dictionary)

    def find(self, pack: PackPlace, digest: Digest) -> Place | None:
        """Return where a pack holds the blob, or None."""
        position = self.index(pack).find(digest)
        return None if position is None else self.place(pack, position)

    def read(self, place: Place, digest: Digest) -> bytes:
        """Return one stored blob, decompressed and verified against its digest.

        Raises:
            DigestMismatchError: the bytes decompress, but to another blob.
            MalformedError: the frame is damaged.
            BlobNotFoundError: the pack was removed after `place` was looked up.
        """
        pack = place.pack
        start = pack.offset + place.offset
        try:
            data = self._read_range(pack.key, start, start + PACK_FRAME_HEADER_BYTES + place.stored_size)
        except ObjectNotFoundError as error:
            raise _gone(pack, f"blob {digest}") from error
        # The quick way first: the digest proves more than any check. Only what is not right is looked at closely.
        raw = quick_raw(data, self._decompressor, place.dictionary)
        actual = b"" if raw is None else blake3(raw).digest()
        if raw is None or actual != digest:
            raw = self._decode(place, data)
            actual = blake3(raw).digest()
        _check_digest(place, digest, actual)
        return raw

    def mapped(self, place: Place, digest: Digest, storage: MapsFiles) -> memoryview | None:
        """Return a stored blob as memory that is the pack's own, verified now; None where it is not stored as it is.

        Raises:
            CorruptionError, BlobNotFoundError: as `read`.
        """
        if is_recipe(place) or place.stored_size != place.raw_size:
            return None
        start = place.pack.offset + place.offset
        try:
            frame = storage.mapped(place.pack.key, start, start + PACK_FRAME_HEADER_BYTES + place.stored_size)
        except ObjectNotFoundError as error:
            raise _gone(place.pack, f"blob {digest}") from error
        header = read_header(frame, 0, where=place.pack.key)
        if header.codec != Codec.RAW:
            return None
        content = frame[PACK_FRAME_HEADER_BYTES:]
        _check_digest(place, digest, blake3(content).digest())
        return content

    def read_pieces(self, place: Place, digest: Digest) -> list[Piece]:
        """Return the pieces of a large blob. They are verified when read; the whole, by who reads all of them."""
        return decode_recipe(self.read_frame(place, digest), where=f"{place.pack.key} ({digest})")

    def read_frame(self, place: Place, digest: Digest) -> bytes:
        """Return what a frame holds, decompressed and checked, but not yet compared with its digest."""
        start = place.pack.offset + place.offset
        end = start + PACK_FRAME_HEADER_BYTES + place.stored_size
        try:
            data = self._read_range(place.pack.key, start, end)
        except ObjectNotFoundError as error:
            raise _gone(place.pack, f"blob {digest}") from error
        return self._decode(place, data)

    def _decode(self, place: Place, data: bytes) -> bytes:
        header = read_header(data, 0, where=place.pack.key)
        if (header.kind, header.raw_size) != (place.kind, place.raw_size):
            offset = place.pack.offset + place.offset
            raise MalformedError(
                f"{place.pack.key} has another frame at byte {offset} than its footer says",
                where=place.pack.key,
                offset=offset,
            )
        return read_raw(
            data,
            self._decompressor,
            place.dictionary,
            lambda identity: self.dictionary(place.pack, identity),
            where=place.pack.key,
            offset=place.pack.offset + place.offset,
        )

    def dictionary(self, pack: PackPlace, identity: bytes) -> bytes:
        """Return the dictionary of a pack that frames name as `identity`, verified.

        Raises:
            MalformedError: it is not there.
        """
        index = self.index(pack)
        for known, position in index.footer.dictionaries:
            if known == identity:
                digest, place = index.digest(position), self.place(pack, position)
                # One that needs a dictionary itself could need itself.
                if digest[:8] == identity and place.dictionary == NO_DICTIONARY:
                    return self.read(place, digest)
        raise MalformedError(f"{pack.key} lacks the dictionary {identity.hex()}", where=pack.key)


def is_recipe(place: Place) -> bool:
    """Whether what lies there is a recipe, and the blob is put together from its pieces."""
    return place.kind == Kind.RECIPE


def _check_digest(place: Place, digest: Digest, actual: bytes) -> None:
    if actual != digest:
        raise DigestMismatchError(
            f"blob {digest} in {place.pack.key} reads as {Digest(actual)}",
            expected=str(digest),
            actual=str(Digest(actual)),
            hint="run `keepstone fsck` to see what else is touched",
        )


def _gone(pack: PackPlace, what: str) -> BlobNotFoundError:
    return BlobNotFoundError(
        f"pack {pack.key} is gone, and {what} with it",
        digest="",
        hint="open the store again: another process may have packed it anew; else run `keepstone fsck`",
    )
