"""The stored closure: all blobs that reading one version needs, down to the last piece.

Layer: operations. Follows how things are stored: version → manifest → parts → pieces, and of a snapshot root → leaves →
values, which may be manifests themselves. `parents` are lineage and are not followed. Copying, verifying and bundling
walk it; so does whoever wants to know what must not be removed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from blake3 import blake3

from keepstone.blobs.blobstore import BlobStore, PackPlace, Place, is_recipe
from keepstone.blobs.footer import PackIndex
from keepstone.blobs.recipe import Piece
from keepstone.foundation.digest import DIGEST_BYTES, Digest, hash_threads
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    BlobNotFoundError,
    CorruptionError,
    DigestMismatchError,
    KeepstoneError,
    MalformedError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import SNAPSHOT_SERIALIZER, Form, Kind
from keepstone.objects.manifest import Manifest, decode_manifest
from keepstone.operations.lock import LockedName
from keepstone.repository.entries import pack_place
from keepstone.repository.leaves import LeafRow, decode_leaf
from keepstone.repository.session import Session
from keepstone.storage.base import ReadsRanges

UNREADABLE: Final = (CorruptionError, BlobNotFoundError, UnsupportedFormatError)


_ELSEWHERE: Final = "another copy of the store, or a bundle, may have it"


class Content(NamedTuple):
    """One blob as its readers see it: whole, however it is stored."""

    digest: Digest
    place: Place


class Stored(NamedTuple):
    """One blob as it is stored, read and verified."""

    digest: Digest
    kind: Kind
    """`BLOB`, or `RECIPE`: then `raw` lists the pieces, and `digest` is that of the whole."""
    raw: bytes


class PackBlobs:
    """All blobs of some packs, found by digest. What is read is compared with what the pack's footer says of it.

    Every bit of a frame counts, not only those that the value depends on: nothing that is copied or called sound
    differs from what was written.
    """

    def __init__(
        self,
        storage: ReadsRanges,
        packs: Sequence[PackPlace],
        where: str,
        again: Callable[[], Sequence[PackPlace] | None] = lambda: None,
    ) -> None:
        """`where` names them in messages; `again` returns them as they are now, None where nothing has changed."""
        self.where = where
        self._packs = packs
        self._again = again
        self._blobs = BlobStore(storage)
        self._unreadable: dict[PackPlace, KeepstoneError] = {}

    def index(self, pack: PackPlace) -> PackIndex | None:
        """Return a pack's index; None where it cannot be read, which costs only what that pack holds."""
        if pack in self._unreadable:
            return None
        try:
            return self._blobs.index(pack)
        except UNREADABLE as error:
            # A copy, of which copies are raised: each of them is told which version it touches.
            self._unreadable[pack] = copy.copy(error)
            return None

    @property
    def complete(self) -> bool:
        """Whether every pack that was looked into could be opened; else what is not found may be in another."""
        return not self._unreadable

    def locate(self, wanted: Iterable[Digest]) -> dict[Digest, Place]:
        """Return where each of `wanted` lies.

        Raises:
            BlobNotFoundError: one is in no pack.
            CorruptionError: one is not found, and a pack that may hold it cannot be read.
        """
        rest = set(wanted)
        found: dict[Digest, Place] = {}
        for pack in self._packs:
            if not rest:
                break
            index = self.index(pack)
            if index is None:
                continue
            for digest, position in _positions(index, rest):
                found[digest] = self._blobs.place(pack, position)
            rest -= found.keys()
        if not rest:
            return found
        packs = self._again()
        if packs is not None:
            self._packs = packs
            return found | self.locate(rest)
        for error in self._unreadable.values():
            raise copy.copy(error)
        digest = min(rest)
        raise BlobNotFoundError(f"blob {digest} is not in {self.where}", digest=str(digest), hint=_ELSEWHERE)

    def holds(self, digest: Digest) -> bool:
        """Whether some pack has the blob."""
        try:
            self.locate([digest])
        except UNREADABLE:
            return False
        return True

    def read(self, digest: Digest, place: Place) -> bytes:
        """Return a stored blob, of a recipe its payload.

        Raises:
            MalformedError, DigestMismatchError: it is damaged.
        """
        raw = self._blobs.read_frame(place, digest)
        actual = Digest.of(raw)
        if not is_recipe(place) and actual != digest:
            raise DigestMismatchError(
                f"blob {digest} in {place.pack.key} reads as {actual}",
                expected=str(digest),
                actual=str(actual),
                hint="run `keepstone fsck`",
            )
        return raw

    def pieces(self, content: Content) -> list[Piece]:
        """Return the pieces of a large blob; none where it is a plain one."""
        return self._blobs.read_pieces(content.place, content.digest) if is_recipe(content.place) else []

    def stored(self, content: Content) -> Iterator[Stored]:
        """Yield what is stored of one blob: the pieces, then what lists them; or the blob alone.

        Raises:
            CorruptionError: something is damaged, or the pieces are right and their sum is not.
        """
        if not is_recipe(content.place):
            yield Stored(content.digest, Kind.BLOB, self.read(content.digest, content.place))
            return
        pieces = self.pieces(content)
        places = self.locate(piece.digest for piece in pieces)
        hasher = blake3(max_threads=hash_threads())
        for piece in pieces:
            if is_recipe(places[piece.digest]):
                raise MalformedError(f"piece {piece.digest} of {content.digest} is no plain blob")
            raw = self.read(piece.digest, places[piece.digest])
            hasher.update(raw)
            yield Stored(piece.digest, Kind.BLOB, raw)
        actual = Digest(hasher.digest())
        if actual != content.digest:
            raise DigestMismatchError(
                f"blob {content.digest} reads as {actual}",
                expected=str(content.digest),
                actual=str(actual),
                hint="run `keepstone fsck`",
            )
        yield Stored(content.digest, Kind.RECIPE, self.read(content.digest, content.place))

    def whole(self, content: Content) -> bytes:
        """Return one blob whole, verified."""
        return b"".join(part.raw for part in self.stored(content) if part.kind == Kind.BLOB)


def _positions(index: PackIndex, wanted: set[Digest]) -> Iterator[tuple[Digest, int]]:
    if len(wanted) < index.blob_count:
        for digest in list(wanted):
            position = index.find(digest)
            if position is not None:
                yield digest, position
        return
    digests = index.footer.digests
    for position in range(index.blob_count):
        digest = Digest(digests[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])
        if digest in wanted:
            yield digest, position


def blobs_of(session: Session) -> PackBlobs:
    """Return the blobs of a store's live packs."""

    def again() -> list[PackPlace] | None:
        tip = session.log.state.number
        session.refresh()
        return None if session.log.state.number == tip else packs()

    def packs() -> list[PackPlace]:
        return [pack_place(pack) for pack in session.log.state.packs.values()]

    return PackBlobs(session.storage, packs(), f"the store at {session.storage.location}", again)


def manifest_of(line: LockedName, raw: bytes) -> Manifest:
    """Return the manifest of a version that a lock names.

    Raises:
        MalformedError: it is none, or one of the other kind than the lock says.
    """
    manifest = decode_manifest(raw)
    kind = "collection" if manifest.serializer == SNAPSHOT_SERIALIZER else "artifact"
    if kind != line.kind:
        raise MalformedError(
            f"the lock says {line.kind}, and what {str(line.digest)[:15]}… names is of kind {kind}",
            where=line.selector,
            hint="the lock was changed by hand: write it anew with `keepstone pin`, or take it from a copy",
        )
    return manifest


def contents(blobs: PackBlobs, line: LockedName) -> Iterator[Content]:
    """Yield every blob that reading a version needs: its manifest first, then what that names, in order.

    Raises:
        ArtifactNotFoundError: it is not here at all.
        BlobNotFoundError: one is not there.
        CorruptionError: one that names others is damaged, or of another kind than the lock says; the others are not
            looked into.
    """
    try:
        root = Content(line.digest, blobs.locate([line.digest])[line.digest])
    except BlobNotFoundError as error:
        if not blobs.complete:
            raise
        raise ArtifactNotFoundError(
            f"{line.selector} ({str(line.digest)[:15]}…) is not in {blobs.where}",
            selector=line.selector,
            hint=_ELSEWHERE,
        ) from error
    yield root
    manifest = manifest_of(line, blobs.whole(root))
    for part in _located(blobs, [Digest(part.digest) for part in manifest.parts]):
        yield part
        if manifest.serializer == SNAPSHOT_SERIALIZER:
            yield from _contents_of_leaf(blobs, blobs.whole(part), line.selector)


def _contents_of_leaf(blobs: PackBlobs, leaf: bytes, selector: str) -> Iterator[Content]:
    rows = list(decode_leaf(leaf, where=selector).rows())
    for row, value in zip(rows, _located(blobs, [row.digest for row in rows]), strict=True):
        yield value
        if row.form == Form.MANIFEST:
            manifest = decode_manifest(blobs.whole(value))
            yield from _located(blobs, [Digest(part.digest) for part in manifest.parts])


def _located(blobs: PackBlobs, digests: Sequence[Digest]) -> list[Content]:
    places = blobs.locate(digests)
    return [Content(digest, places[digest]) for digest in digests]


def items(blobs: PackBlobs, line: LockedName) -> Iterator[LeafRow]:
    """Yield key, digest and form of all items of a collection that a lock names, sorted by key."""
    (root,) = _located(blobs, [line.digest])
    for leaf in _located(blobs, [Digest(part.digest) for part in decode_manifest(blobs.whole(root)).parts]):
        yield from decode_leaf(blobs.whole(leaf), where=line.selector).rows()


@contextmanager
def naming(selector: str) -> Generator[None]:
    """Let an error of reading say which version cannot be read because of it."""
    try:
        yield
    except UNREADABLE as error:
        error.message = f"{selector} cannot be read whole: {error.message}"
        error.args = (error.message,)
        raise
