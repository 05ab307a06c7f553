"""What one process holds of one store: its storage, log, journal, footers and catalog, shared by all who open it.

Layer: repository. Several `open`s of a store in a process share one session, so they share one journal. After a fork
the child leaves the parent's journal to the parent and begins afresh.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keepstone.blobs.blobstore import BlobStore, Place, is_recipe
from keepstone.blobs.journal import Row
from keepstone.blobs.ranges import RangeReader
from keepstone.blobs.recipe import Piece
from keepstone.blobs.runs import Span
from keepstone.blobs.spool import Item, Spool, Ticket
from keepstone.blobs.streaming import stream_pieces
from keepstone.foundation.clock import Clock
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import (
    BlobNotFoundError,
    KeepstoneError,
    ObjectNotFoundError,
    StoragePermissionError,
)
from keepstone.foundation.format import MANIFEST_BYTES_MAX
from keepstone.history.checkpoint import Found
from keepstone.history.commit import PackName
from keepstone.history.log import Log
from keepstone.history.state import State
from keepstone.objects.manifest import Manifest, decode_manifest
from keepstone.repository.entries import Entries
from keepstone.repository.identity import Identity
from keepstone.repository.local_side import local_side
from keepstone.repository.rows import EntryRow
from keepstone.storage.base import Storage
from keepstone.storage.locate import is_bucket, is_web
from keepstone.storage.platform import host_name

if TYPE_CHECKING:
    from keepstone.repository.medium import Medium

STALE_SECONDS_MAX: Final = 1.0
"""A value that is found is at most this much older than what a neighbour saved; a miss always looks."""
RETRIES_MAX: Final = 64


class Session:
    """One store in this process; safe to use from many threads."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        *,
        writable: bool,
        offline: bool = False,
        single_writer: bool = False,
        known: Found | None = None,
    ) -> None:
        """`known` is a state that the store is known to have been in: only what came since is read."""
        self.storage = storage
        self.identity = identity
        self.writable = writable and storage.writable
        self.offline = offline
        self.clock = Clock()
        self.local = local_side(storage, identity, writable=self.writable)
        self.calls = self.local.calls
        self._scratch: weakref.finalize[..., Session] | None = None
        self.spool = Spool(
            self.local.journals or self._scratch_folder(),
            store_id=identity.id_bytes,
            location=storage.location,
            host=host_name(),
            clock=self.clock,
            calls=self.calls,
            journal_bytes=self.local.journal_bytes,
        )
        self.log = Log(storage, store_id=identity.id_bytes, writer=self.spool.writer)
        self.medium: Medium | None = None
        """Of a bucket: what sees to it that commits there are safe."""
        if is_bucket(storage.location):
            from keepstone.repository.medium import Medium

            self.medium = Medium(storage, self.log, single_writer=single_writer)
            self.log.before_append = self.medium.vouch
        self.blobs = BlobStore(storage, reads_at_once=storage.reads_at_once)
        self.entries = Entries(self.blobs, self.local.catalog, self._hash_at)
        self.damaged_packs: set[PackName] = set()
        """Packs that could not be read; left as they are."""
        self.rescues = 0
        """How often journals had been removed by somebody, and were written again."""
        self._refresh_lock = threading.Lock()
        self._refreshed = -math.inf
        self._followed: State | None = None
        """The state above whose stamps the clock is known to be."""
        self._look(lambda: self.log.open(known))

    def _scratch_folder(self) -> Path:
        import shutil
        import tempfile

        scratch = tempfile.mkdtemp(prefix="keepstone-")
        self._scratch = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        return Path(scratch) / "journals"

    def _hash_at(self, number: int) -> bytes | None:
        if number < 0:
            return bytes(32)
        try:
            return self.log.commit_at(number).hash
        except (KeepstoneError, ObjectNotFoundError):
            return None

    def _follow_stamps(self) -> None:
        state = self.log.state
        if state is not self._followed:
            for pack in state.packs.values():
                self.clock.follow(pack.record.stamp_max)
            self._followed = state

    def after_fork(self) -> None:
        """In a forked child: everything that belongs to the parent is left to it."""
        self.clock.after_fork()
        self.spool.after_fork()
        self.log.after_fork(self.spool.writer)
        self.blobs.after_fork()
        self.entries.after_fork()
        self._refresh_lock = threading.Lock()
        # The spool knows no journal any more, not even what this very program set before it forked: look first.
        self._refreshed = -math.inf
        if self._scratch:
            # The folder is the parent's to remove.
            self._scratch.detach()

    def require_writable(self) -> None:
        """Refuse to change a store that was opened for reading, or cannot be written.

        Raises:
            StoragePermissionError: it cannot.
        """
        if self.offline:
            raise StoragePermissionError(
                f"the store at {self.storage.location} was opened offline, where it can only be read",
                path=self.storage.location,
                hint="connect, and open it without offline=True; or work in a local store, and sync the two later",
            )
        if not self.writable:
            raise StoragePermissionError(
                f"the store at {self.storage.location} is open for reading only",
                path=self.storage.location,
                hint="write to the folder or bucket that is published there"
                if is_web(self.storage.location)
                else "open it without mode='r', as a user who may write there",
            )

    # ---- seeing what others did --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """See all that any process has published, and all that any on this machine has appended.

        Journals are read first and the log second: what leaves a journal is in the log before.
        """
        with self._refresh_lock:
            self._look(self.log.refresh)

    def _look(self, read_log: Callable[[], State]) -> None:
        gone = self.spool.refresh()
        state = read_log()
        for _ in range(RETRIES_MAX):
            if self.entries.advance(state):
                break
            # A neighbour has committed and folded since.
            state = self.log.refresh()
        if gone and self._is_worth_rescuing() and self.spool.rescue_removed(gone, state.sealed):
            self.rescues += 1
        self.spool.forget(gone)
        self._follow_stamps()
        self._refreshed = time.monotonic()

    def _is_worth_rescuing(self) -> bool:
        """Whether the store is still there when journals are gone: a removed folder takes its journals along."""
        if self.local.journals is None:
            return False
        return self.medium is not None or self.spool.folder.parent.is_dir()

    def catch_up(self, sealed: frozenset[str] = frozenset()) -> None:
        """See what this process has just committed, also of the journals that it sealed; the medium is not asked.

        The commit stands, so nothing is raised: what cannot be read now is looked for again before the next answer.
        """
        try:
            with self._refresh_lock:
                # What others sealed stays known until their commits are, too.
                gone = self.spool.refresh() & sealed if sealed else sealed
                if self.entries.advance(self.log.state):
                    self.spool.forget(gone)
                    self._follow_stamps()
                    return
            self.refresh()
        except (KeepstoneError, OSError):
            self._refreshed = -math.inf

    def settle(self) -> None:
        """Make all that was seen of the log survive power loss, before a journal relies on it.

        Raises:
            StorageError: the medium failed.
        """
        self.spool.note_tip(*self.log.settle())

    def refresh_if_stale(self) -> None:
        """Refresh if that was not done for a second."""
        if time.monotonic() - self._refreshed > STALE_SECONDS_MAX:
            self.refresh()

    # ---- entries -----------------------------------------------------------------------------------------------------

    def peek(self, collection: str, key: str, *, is_settled: bool = False) -> Row | EntryRow | None:
        """Return the newest known row of a key, removed or not; looks nowhere new. `is_settled` as `Entries.find`."""
        spool = self.spool
        row = spool.find(collection, key) if spool.has_journals else None
        packed = self.entries.find(collection, key, is_settled=is_settled)
        if row is None:
            return packed
        if packed is not None and (packed.stamp, packed.writer) > (row.stamp, row.writer):
            return packed
        return row if row.stamp >= self.entries.horizon(collection) else None

    def stamp(self, collection: str, key: str) -> int:
        """Return the stamp of a new entry of a key: above all that was seen, and above the entry that it replaces.

        The two differ where a clock is more than an hour wrong: such stamps are not followed, since one wrong clock
        must not date all that comes after it. But what is set must not be hidden by what was there, whoever is wrong;
        nor by the collection's horizon.
        """
        horizon = self.entries.horizon(collection)
        self.clock.follow(horizon)
        stamp = self.clock.stamp()
        if not self.clock.unfollowed:
            return stamp
        try:
            row = self.peek(collection, key)
        except KeepstoneError:
            # What cannot be read hides nothing now, and should not stop anybody from writing.
            row = None
        return max(stamp, horizon, 0 if row is None else row.stamp + 1)

    def append(self, collection: str, items: list[Item]) -> Ticket:
        """Append items to this process's journal, as `Spool.append` does, each above the entry that it replaces."""
        if not self.clock.unfollowed:
            return self.spool.append(collection, items)
        tickets = [self.spool.append_as(collection, item, self.stamp(collection, item[0])) for item in items]
        return tickets[-1]

    def find(self, collection: str, key: str) -> Row | EntryRow | None:
        """Return the newest row of a key; a key that seems absent is looked for again after a refresh."""
        self.refresh_if_stale()
        row = self.peek(collection, key)
        if row is None or row.digest is None:
            self.refresh()
            row = self.peek(collection, key)
        return row if row is not None and row.digest is not None else None

    def read_row(self, row: Row | EntryRow) -> bytes:
        """Return the value that a row names, verified.

        Raises:
            BlobNotFoundError: its pack is gone: look the row up again.
        """
        digest = row.digest
        if digest is None:
            raise BlobNotFoundError("the key was removed", digest="")
        if isinstance(row, Row):
            return row.journal.read_value(row) if row.offset >= 0 else self.read_blob(digest)
        if row.place is None or is_recipe(row.place):
            return self.read_blob(digest)
        return self.blobs.read(row.place, digest)

    # ---- blobs by digest ---------------------------------------------------------------------------------------------

    def find_blob(self, digest: Digest) -> Place:
        """Return where an artifact's blob lies.

        Raises:
            BlobNotFoundError: no live pack holds it.
        """
        for _ in range(RETRIES_MAX):
            tip = self.log.state.number
            place = self.entries.find_blob(digest)
            if place is not None:
                return place
            self.refresh()
            if self.log.state.number == tip:
                break
        self.entries.raise_unreadable()
        raise BlobNotFoundError(
            f"blob {digest} is not in this store",
            digest=str(digest),
            hint="run `keepstone fsck`; another copy of the store may have it",
        )

    def read_blob(self, digest: Digest, *, bytes_max: int | None = None) -> bytes:
        """Return a blob whole, however it is stored, verified.

        Raises:
            MalformedError: it is larger than `bytes_max`; no more than that was read.
        """
        return b"".join(stream_pieces(digest, self.read_or_pieces, self._pieces_ahead, bytes_max=bytes_max))

    def read_manifest(self, digest: Digest) -> Manifest:
        """Return the manifest of that digest."""
        return decode_manifest(self.read_blob(digest, bytes_max=MANIFEST_BYTES_MAX))

    def stream_blob(self, digest: Digest) -> Iterator[bytes]:
        """Yield a blob piece by piece; each piece is verified, and the whole at its end.

        Raises:
            DigestMismatchError: the pieces are right and their sum is not; raised instead of the last piece.
        """
        return stream_pieces(digest, self.read_or_pieces, self._pieces_ahead)

    def open_blob(self, digest: Digest, size: int) -> RangeReader:
        """Return what reads ranges of a blob of that size."""
        is_far = self.storage.reads_at_once > 1
        return RangeReader(digest, size, self.read_or_pieces, self._pieces_ahead, is_far=is_far)

    def _pieces_ahead(self, pieces: list[Piece]) -> AbstractContextManager[Iterator[Piece]]:
        blobs, find_blob = self.blobs, self.entries.find_blob
        return blobs.each(pieces, lambda piece: blobs.spans(find_blob(piece.digest)))

    @contextmanager
    def reading_ahead(self, digests: Iterable[Digest]) -> Generator[None]:
        """While this lasts, blobs that will be read in this order are read ahead, where that saves waiting."""
        blobs, find_blob = self.blobs, self.entries.find_blob

        def spans(digest: Digest) -> Iterator[Span]:
            place = find_blob(digest)
            pieces = blobs.read_pieces(place, digest) if place is not None and is_recipe(place) else []
            # Once more: who reads the blob begins with it.
            yield from blobs.spans(place)
            for piece in pieces:
                yield from blobs.spans(find_blob(piece.digest))

        with (
            blobs.each(digests, lambda digest: blobs.recipe_spans(find_blob(digest))) as known,
            blobs.ahead(known, spans),
        ):
            yield

    def spans_of(self, row: Row | EntryRow | None) -> list[Span]:
        """Return what reading a row's value from packs will begin with; nothing where it lies elsewhere."""
        if row is None or row.digest is None or (isinstance(row, Row) and row.offset >= 0):
            return []
        place = None if isinstance(row, Row) else row.place
        return self.blobs.spans(place or self.entries.find_blob(row.digest))

    def read_or_pieces(self, digest: Digest) -> bytes | list[Piece]:
        """Return a blob's content, or the pieces of a large one.

        Raises:
            BlobNotFoundError: no live pack holds it.
        """
        while True:
            tip = self.log.state.number
            place = self.find_blob(digest)
            try:
                if is_recipe(place):
                    return self.blobs.read_pieces(place, digest)
                return self.blobs.read(place, digest)
            except BlobNotFoundError:
                # Packed anew in between: look it up again, as long as there is news.
                self.refresh()
                if self.log.state.number == tip:
                    raise

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Bring what was appended to disk."""
        try:
            if self.writable:
                self.spool.sync_all()
        finally:
            if self.entries.catalog:
                self.entries.catalog.close()
            if self._scratch:
                self._scratch()
            self.spool.close_files()
            self.storage.close()
            self._refreshed = -math.inf
