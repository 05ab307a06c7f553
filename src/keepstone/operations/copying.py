"""Copying: the closure of a lock from one place's packs into another's.

Layer: operations. Every blob is read and compared with its digest before it is handed on, and a large one with the sum
of its pieces. Small ones are compressed together; what comes out depends on the content alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Final, Protocol

from keepstone.blobs.compression import DICTIONARY_BLOB_BYTES_MAX
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import Kind, Origin
from keepstone.operations.closure import Content, PackBlobs, contents, naming
from keepstone.operations.lock import LockedName
from keepstone.operations.orphans import has_its_bytes, orphans
from keepstone.operations.progress import ProgressCallback
from keepstone.repository.session import Session
from keepstone.repository.staging import Staging

_TOGETHER_BYTES: Final = 16 * 1024 * 1024
"""Small blobs that are compressed together, raw."""


class Receiver(Protocol):
    """Where blobs are copied to."""

    def has_whole(self, digest: Digest) -> bool:
        """Whether that content is there already, whole."""
        ...

    def holds(self, digest: Digest) -> bool:
        """Whether that plain blob is there already, to be read by `held`."""
        ...

    def held(self, digest: Digest) -> bytes | None:
        """Return a plain blob that is there already, verified; None where it is not, or not sound."""
        ...

    def add(self, raw: bytes, digest: Digest | None = None, kind: Kind = Kind.BLOB) -> Digest:
        """Take one blob."""
        ...

    def add_many(self, blobs: Iterable[tuple[Digest, bytes]]) -> None:
        """Take many small blobs."""
        ...


def copy_closures(
    blobs: PackBlobs,
    lines: Iterable[LockedName],
    receiver: Receiver,
    progress: ProgressCallback | None = None,
) -> None:
    """Hand all that reading `lines` needs to `receiver`, each blob once; `progress` is told of raw bytes.

    Raises:
        BlobNotFoundError, CorruptionError: something is missing or damaged; the message names the version.
    """
    copier = _Copier(blobs, receiver, progress)
    for line in lines:
        with naming(line.selector):
            copier.copy(line)
    copier.flush()


class _Copier:
    def __init__(self, blobs: PackBlobs, receiver: Receiver, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._copied_bytes = 0
        self._blobs = blobs
        self._receiver = receiver
        self._done: set[bytes] = set()
        self._small: list[tuple[Digest, bytes]] = []
        self._small_bytes = 0

    def copy(self, line: LockedName) -> None:
        with closing(self._wanted(line)) as wanted, self._blobs.reading(wanted, self._receiver.holds) as read:
            for content in read:
                for stored in self._blobs.stored(content, self._receiver.held):
                    if stored.kind == Kind.BLOB and len(stored.raw) <= DICTIONARY_BLOB_BYTES_MAX:
                        self._small.append((stored.digest, stored.raw))
                        self._small_bytes += len(stored.raw)
                    else:
                        self._receiver.add(stored.raw, stored.digest, stored.kind)
                    self._advance(len(stored.raw) if stored.kind == Kind.BLOB else 0)
                if self._small_bytes >= _TOGETHER_BYTES:
                    self.flush()

    def _advance(self, size: int) -> None:
        self._copied_bytes += size
        if self._progress is not None:
            self._progress.absolute_update(self._copied_bytes)

    def _wanted(self, line: LockedName) -> Generator[Content]:
        """Yield what is neither copied yet, or about to be, nor there already."""
        with closing(contents(self._blobs, line)) as found:
            for content in found:
                if content.digest not in self._done:
                    self._done.add(bytes(content.digest))
                    if not self._receiver.has_whole(content.digest):
                        yield content

    def flush(self) -> None:
        self._receiver.add_many(self._small)
        self._small, self._small_bytes = [], 0


def closure_digests(blobs: PackBlobs, lines: Iterable[LockedName]) -> set[bytes]:
    """Return the digests of all blobs that reading `lines` needs, pieces among them; reads what names others."""
    found: set[bytes] = set()
    for line in lines:
        with naming(line.selector):
            for content in contents(blobs, line):
                if content.digest not in found:
                    found.add(bytes(content.digest))
                    found.update(bytes(piece.digest) for piece in blobs.pieces(content))
    return found


# ---- what an interrupted attempt left ------------------------------------------------------------------------------


def take_over_leftovers(
    session: Session, staging: Staging, blobs: PackBlobs, lines: Iterable[LockedName]
) -> None:
    """Use the packs that an interrupted copy of the same things wrote; their bytes are read and hashed first."""
    wanted: set[bytes] | None = None
    for record, index in orphans(session, Origin.COPY):
        if index.footer.sections:
            continue
        if wanted is None:
            wanted = closure_digests(blobs, lines)
        held = {
            bytes(index.digest(position))
            for position, row in enumerate(index.rows)
            if row.kind != Kind.DICTIONARY
        }
        if held <= wanted and has_its_bytes(session, record):
            staging.take_over(record, held)
