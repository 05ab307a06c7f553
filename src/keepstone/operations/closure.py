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

from keepstone.blobs.blobstore import INDEX_BYTES_MAX, BlobStore, PackPlace, Place, is_recipe
from keepstone.blobs.footer import PackIndex, positions_in
from keepstone.blobs.recipe import Piece, check_size, check_total
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest, hash_threads
from keepstone.foundation.errors import (
    ArtifactNotFoundError,
    BlobNotFoundError,
    CorruptionError,
    DigestMismatchError,
    KeepstoneError,
    MalformedError,
    UnsupportedFormatError,
)
from keepstone.foundation.format import LEAF_BYTES_MAX, MANIFEST_BYTES_MAX, SNAPSHOT_SERIALIZER, Form, Kind
from keepstone.objects.manifest import Manifest, decode_manifest
from keepstone.operations.lock import LockedName
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.entries import pack_place
from keepstone.repository.leaves import Leaf, LeafRow, decode_leaf
from keepstone.repository.session import Session
from keepstone.storage.base import ReadsRanges
from keepstone.storage.cached import passing_through

UNREADABLE: Final = (CorruptionError, BlobNotFoundError, UnsupportedFormatError)


_ELSEWHERE: Final = "another copy of the store, or a bundle, may have it"
_LEAVES_TOGETHER: Final = 100
"""Leaves of snapshots looked into at once: some 100,000 values, 50 MiB."""


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
        *,
        reads_at_once: int = 1,
    ) -> None:
        """`where` names them in messages; `again` returns them as they are now, None where nothing has changed."""
        self.where = where
        self._packs = packs
        self._again = again
        self._blobs = BlobStore(storage, reads_at_once=reads_at_once)
        self._unreadable: dict[PackPlace, KeepstoneError] = {}
        self._kept = sum(pack.footer_size for pack in packs) <= INDEX_BYTES_MAX
        """Whether footers stay in memory, so that it pays to make tables of them."""

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
        # Where reading waits, what is in memory is looked into before the other footers are asked for.
        near = self._blobs.known(self._packs)
        self._look_into(near, rest, found)
        if rest:
            known = set(near)
            with self._blobs.each([p for p in self._packs if p not in known], self._footer_spans) as packs:
                self._look_into(packs, rest, found)
        if not rest:
            return found
        renewed = self._again()
        if renewed is not None:
            self._packs = renewed
            return found | self.locate(rest)
        for error in self._unreadable.values():
            raise copy.copy(error)
        digest = min(rest)
        raise BlobNotFoundError(f"blob {digest} is not in {self.where}", digest=str(digest), hint=_ELSEWHERE)

    def _positions(self, index: PackIndex, wanted: set[Digest]) -> list[tuple[Digest, int]]:
        if self._kept and len(wanted) < index.blob_count:
            found = ((digest, index.find(digest)) for digest in wanted)
            return [(digest, position) for digest, position in found if position is not None]
        return [(Digest(d), position) for d, position in positions_in(index.footer.digests, wanted)]

    def _look_into(self, packs: Iterable[PackPlace], rest: set[Digest], found: dict[Digest, Place]) -> None:
        for pack in packs:
            index = self.index(pack)
            if index is None:
                continue
            for digest, position in self._positions(index, rest):
                found[digest] = self._blobs.place(pack, position)
            rest.difference_update(found)
            if not rest:
                break

    def _footer_spans(self, pack: PackPlace) -> list[Span]:
        return [] if pack in self._unreadable else self._blobs.footer_spans(pack)

    @contextmanager
    def reading(
        self, wanted: Iterable[Content], is_held: Callable[[Digest], bool] = lambda _: False
    ) -> Generator[Iterator[Content]]:
        """Give `wanted` again, in order; what `stored` takes of each is read ahead, where that saves waiting.

        Pieces that are held elsewhere are not.
        """
        with (
            # The recipes first, since they say what else there is to read.
            self._blobs.each(wanted, lambda content: self._blobs.recipe_spans(content.place)) as known,
            self._blobs.each(known, lambda content: self._stored_spans(content, is_held)) as read,
        ):
            yield read

    def _stored_spans(self, content: Content, is_held: Callable[[Digest], bool]) -> Iterator[Span]:
        pieces = self.pieces(content)
        yield from self._blobs.spans(content.place)
        if pieces:
            places = self.locate(piece.digest for piece in pieces)
            for piece in pieces:
                if is_held(piece.digest):
                    continue
                yield from self._blobs.spans(places[piece.digest])
            yield from self._blobs.spans(content.place)

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

    def stored(
        self, content: Content, held: Callable[[Digest], bytes | None] = lambda _: None
    ) -> Iterator[Stored]:
        """Yield what is stored of one blob: the pieces, then what lists them; or the blob alone.

        Pieces that `held` returns are not read here.

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
            raw = held(piece.digest)
            if raw is None:
                raw = self.read(piece.digest, places[piece.digest])
            check_size(piece, raw, content.digest)
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

    def whole(self, content: Content, bytes_max: int = MANIFEST_BYTES_MAX) -> bytes:
        """Return one blob whole, verified; of what is larger than `bytes_max`, nothing is read."""
        check_total(self.pieces(content), content.digest, bytes_max)
        return b"".join(part.raw for part in self.stored(content) if part.kind == Kind.BLOB)


def blobs_of(session: Session) -> PackBlobs:
    """Return the blobs of a store's live packs."""

    def again() -> list[PackPlace] | None:
        tip = session.log.state.number
        session.refresh()
        return None if session.log.state.number == tip else packs()

    def packs() -> list[PackPlace]:
        # What artifacts are made of is in none of the others, whose footers may be many times as large.
        live = sorted(session.log.state.packs.values(), key=lambda pack: not holds_saves(pack))
        return [pack_place(pack) for pack in live]

    where = f"the store at {session.storage.location}"
    storage = passing_through(session.storage)
    return PackBlobs(storage, packs(), where, again, reads_at_once=storage.reads_at_once)


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


def contents(blobs: PackBlobs, line: LockedName) -> Generator[Content]:
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
    parts = _located(blobs, [Digest(part.digest) for part in manifest.parts])
    if manifest.serializer != SNAPSHOT_SERIALIZER:
        yield from parts
        return
    for start in range(0, len(parts), _LEAVES_TOGETHER):
        yield from _contents_of_leaves(blobs, parts[start : start + _LEAVES_TOGETHER], line.selector)


def _contents_of_leaves(blobs: PackBlobs, leaves: Sequence[Content], selector: str) -> Iterator[Content]:
    """Yield leaves, then values, then their parts; each are looked for at once, since that may read all footers."""
    found: list[Leaf] = []
    unreadable: KeepstoneError | None = None
    with blobs.reading(leaves) as near:
        for content in near:
            try:
                found.append(decode_leaf(blobs.whole(content, LEAF_BYTES_MAX), where=selector))
            except UNREADABLE as error:
                # What the others name is told all the same: who asks what is damaged wants to know all of it.
                unreadable = unreadable or error
            yield content
    places = blobs.locate(Digest(value) for leaf in found for value in leaf.values())
    parts: list[Digest] = []
    made_of_parts = (row for leaf in found for row in leaf.rows() if row.form == Form.MANIFEST)
    with blobs.reading(Content(row.digest, places[row.digest]) for row in made_of_parts) as manifests:
        for row in (row for leaf in found for row in leaf.rows()):
            if row.form == Form.MANIFEST:
                try:
                    manifest = decode_manifest(blobs.whole(next(manifests)))
                    parts += [Digest(part.digest) for part in manifest.parts]
                except UNREADABLE as error:
                    unreadable = unreadable or error
            yield Content(row.digest, places[row.digest])
    yield from _located(blobs, parts)
    if unreadable is not None:
        raise unreadable


def _located(blobs: PackBlobs, digests: Sequence[Digest]) -> list[Content]:
    places = blobs.locate(digests)
    return [Content(digest, places[digest]) for digest in digests]


def items(blobs: PackBlobs, line: LockedName) -> Iterator[LeafRow]:
    """Yield key, digest and form of all items of a collection that a lock names, sorted by key."""
    (root,) = _located(blobs, [line.digest])
    parts = decode_manifest(blobs.whole(root)).parts
    with blobs.reading(_located(blobs, [Digest(part.digest) for part in parts])) as leaves:
        for leaf in leaves:
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
