"""Reading a store for a sync: many things at once where a read means waiting, and frames in runs of neighbours.

Layer: operations. Every frame is compared with its digest before it is handed on, and handed on as it is stored.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Final, NamedTuple, TypeVar

from blake3 import blake3

from keepstone.blobs.blobstore import PackPlace, Place, is_recipe
from keepstone.blobs.compression import Decompressor
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, read_header, read_raw
from keepstone.blobs.recipe import decode_recipe
from keepstone.foundation.digest import Digest, hash_threads
from keepstone.foundation.errors import (
    BlobNotFoundError,
    CorruptionError,
    DigestMismatchError,
    MalformedError,
    ObjectNotFoundError,
    UnsupportedFormatError,
)
from keepstone.history.commit import Commit
from keepstone.history.state import LivePack
from keepstone.repository.entries import pack_place
from keepstone.repository.session import Session
from keepstone.storage.cached import passing_through

RUN_BYTES_MAX: Final = 4 * 1024 * 1024
GAP_BYTES_MAX: Final = 64 * 1024
"""Bytes between two wanted frames that are read through: a request costs more."""
AHEAD_MAX: Final = 8
"""Runs that are read before they are asked for; with `RUN_BYTES_MAX` it bounds memory."""
PART_BYTES: Final = 8 * 1024 * 1024
PARTS_AHEAD_MAX: Final = 4
"""Of a pack that is copied whole: so much is read at once, and so many before the first is done with."""
DICTIONARIES_MAX: Final = 64
SMALL_PACK_BYTES: Final = 1024 * 1024
"""Where a read means waiting, a pack of this size is read once, whole."""
SMALL_PACKS_MAX: Final = 8

T = TypeVar("T")
R = TypeVar("R")


def at_once(session: Session, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what `work` makes of each item, in order; in parallel where the store's reads mean waiting."""
    threads = min(session.storage.reads_at_once, len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def read_commits(session: Session, first: int, last: int) -> list[Commit]:
    """Return the commits `first` to `last`, both included."""
    return at_once(session, session.log.commit_at, range(first, last + 1))


def open_footers(session: Session, packs: Sequence[LivePack]) -> None:
    """Have the footers of `packs` at hand; trouble with one is met again by who needs it."""

    def read(pack: LivePack) -> None:
        with suppress(CorruptionError, BlobNotFoundError, UnsupportedFormatError):
            session.blobs.index(pack_place(pack))

    if session.storage.reads_at_once > 1:
        at_once(session, read, packs)


def waiting_journals(session: Session, collections: Container[str] | None) -> int:
    """Return how many known journals hold items of `collections` (None: of any) that are not published."""
    sealed = session.log.state.sealed
    return sum(
        journal.header.journal_id not in sealed
        and any(collections is None or name in collections for name in journal.rows)
        for journal in session.spool.journals()
    )


class Frame(NamedTuple):
    """A frame, read and verified."""

    digest: Digest
    kind: int
    codec: int
    stored: bytes
    raw: bytes
    dictionary: bytes
    """The dictionary that it needs; empty for none."""


class _Run(NamedTuple):
    """Frames of one pack that one read brings."""

    pack: PackPlace
    start: int
    """Counts from the pack's first byte, as `end`."""
    end: int
    wanted: list[tuple[Digest, Place]]


class FrameReader:
    """Reads frames of one store's packs. For one thread; it keeps some itself."""

    def __init__(self, session: Session) -> None:
        self._storage = passing_through(session.storage)
        self._blobs = session.blobs
        self._decompressor = Decompressor()
        self._dictionaries: dict[tuple[str, int, bytes], bytes] = {}
        self._small: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()
        self._reading = threading.Lock()
        self.at: Digest | None = None
        """The blob that is being read; after an error, the one that it is about."""

    def read(self, wanted: Iterable[tuple[Digest, Place]]) -> Iterator[Frame]:
        """Yield the frames at these places, in order, each compared with its digest.

        Raises:
            CorruptionError: one is damaged.
            BlobNotFoundError: its pack is gone.
        """
        for run, data in self._read_runs(self._noting(wanted), AHEAD_MAX):
            for digest, place in run.wanted:
                self.at = digest
                start = place.offset - run.start
                yield self._frame(
                    digest, place, data[start : start + PACK_FRAME_HEADER_BYTES + place.stored_size]
                )

    def _noting(self, wanted: Iterable[tuple[Digest, Place]]) -> Iterator[_Run]:
        for run in _runs(wanted):
            self.at = run.wanted[0][0]
            yield run

    def _read_runs(self, runs: Iterator[_Run], ahead_max: int) -> Generator[tuple[_Run, bytes]]:
        if self._storage.reads_at_once <= 1:
            for run in runs:
                yield run, self._read_run(run)
            return
        with ThreadPoolExecutor(ahead_max) as pool:
            ahead: deque[tuple[_Run, Future[bytes]]] = deque()
            try:
                for run in runs:
                    ahead.append((run, pool.submit(self._read_run, run)))
                    if len(ahead) >= ahead_max:
                        oldest, future = ahead.popleft()
                        yield oldest, future.result()
                while ahead:
                    oldest, future = ahead.popleft()
                    yield oldest, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()

    def _read_run(self, run: _Run) -> bytes:
        pack = run.pack
        if self._storage.reads_at_once <= 1 or pack.size > SMALL_PACK_BYTES:
            return self._read_range(pack, run.start, run.end)
        return self._whole(pack)[run.start : run.end]

    def _whole(self, pack: PackPlace) -> bytes:
        """Return all of a small pack, read by the first thread that asks."""
        key = pack.key, pack.offset
        with self._reading:
            known = self._small.get(key)
            mine = Future[bytes]()
            if known is None:
                self._small[key] = mine
                while len(self._small) > SMALL_PACKS_MAX:
                    self._small.popitem(last=False)
        if known is not None:
            return known.result()
        try:
            mine.set_result(self._read_range(pack, 0, pack.size))
        except BaseException as error:
            mine.set_exception(error)
        return mine.result()

    def _read_range(self, pack: PackPlace, start: int, end: int) -> bytes:
        try:
            return self._storage.read_range(pack.key, pack.offset + start, pack.offset + end)
        except ObjectNotFoundError as error:
            raise BlobNotFoundError(
                f"pack {pack.key} is gone", digest="", hint="run `keepstone fsck` on that store"
            ) from error

    def _frame(self, digest: Digest, place: Place, data: bytes) -> Frame:
        where, offset = place.pack.key, place.pack.offset + place.offset
        header = read_header(data, 0, where=where)
        if (header.kind, header.raw_size) != (place.kind, place.raw_size):
            raise MalformedError(
                f"{where} has another frame at byte {offset} than its footer says", where=where, offset=offset
            )
        needed: list[bytes] = []

        def dictionary(identity: bytes) -> bytes:
            return self._dictionary(place.pack, identity)

        if place.dictionary != bytes(8):
            needed.append(dictionary(place.dictionary))
        raw = read_raw(data, self._decompressor, place.dictionary, dictionary, where=where, offset=offset)
        if is_recipe(place):
            decode_recipe(raw, where=f"{where} ({digest})")
        elif (actual := blake3(raw).digest()) != digest:
            raise DigestMismatchError(
                f"blob {digest} in {where} reads as {Digest(actual)}",
                expected=str(digest),
                actual=str(Digest(actual)),
                hint="run `keepstone fsck` on that store",
            )
        stored = data[PACK_FRAME_HEADER_BYTES:]
        return Frame(digest, header.kind, header.codec, stored, raw, needed[0] if needed else b"")

    def _dictionary(self, pack: PackPlace, identity: bytes) -> bytes:
        key = (pack.key, pack.offset, identity)
        content = self._dictionaries.get(key)
        if content is None:
            content = self._blobs.dictionary(pack, identity)
            if len(self._dictionaries) >= DICTIONARIES_MAX:
                self._dictionaries.clear()
            self._dictionaries[key] = content
        return content

    def whole(self, contents: Iterable[tuple[Digest, Sequence[tuple[Digest, Place]]]]) -> Iterator[bytes]:
        """Yield the content of blobs, each given by its digest and the places of its pieces (or of itself)."""
        listed = list(contents)
        frames = self.read(item for _, places in listed for item in places)
        for digest, places in listed:
            raw = b"".join(next(frames).raw for _ in places)
            if len(places) != 1 and Digest.of(raw) != digest:
                raise DigestMismatchError(
                    f"blob {digest} reads as {Digest.of(raw)}",
                    expected=str(digest),
                    actual=str(Digest.of(raw)),
                    hint="run `keepstone fsck` on that store",
                )
            yield raw

    def pack_parts(self, pack: LivePack) -> Generator[bytes]:
        """Yield the bytes of a whole pack, part by part; the last one once all are compared with its name.

        Raises:
            DigestMismatchError: it is damaged; raised instead of the last part.
        """
        place = pack_place(pack)
        hasher = blake3(max_threads=hash_threads())
        starts = range(0, place.size, PART_BYTES)
        runs = (_Run(place, start, min(start + PART_BYTES, place.size), []) for start in starts)
        with closing(self._read_runs(runs, PARTS_AHEAD_MAX)) as read:
            for run, data in read:
                hasher.update(data)
                if run.end == place.size and hasher.digest() != pack.name.digest:
                    actual = Digest(hasher.digest())
                    raise DigestMismatchError(
                        f"pack {place.key} reads as {actual}",
                        expected=str(Digest(pack.name.digest)),
                        actual=str(actual),
                        hint="run `keepstone fsck --read-data` on that store",
                    )
                yield data


def _runs(wanted: Iterable[tuple[Digest, Place]]) -> Iterator[_Run]:
    run: _Run | None = None
    for digest, place in wanted:
        end = place.offset + PACK_FRAME_HEADER_BYTES + place.stored_size
        if run is not None and _continues(run, place, end):
            run = run._replace(end=end)
            run.wanted.append((digest, place))
            continue
        if run is not None:
            yield run
        run = _Run(place.pack, place.offset, end, [(digest, place)])
    if run is not None:
        yield run


def _continues(run: _Run, place: Place, end: int) -> bool:
    gap = place.offset - run.end
    return run.pack == place.pack and 0 <= gap <= GAP_BYTES_MAX and end - run.start <= RUN_BYTES_MAX
