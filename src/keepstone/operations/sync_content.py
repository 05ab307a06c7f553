"""Which blobs go over besides the values that travel with their entries: manifests, their parts, pieces, large values.

Layer: operations. Follows how things are stored, as closure.py does, many blobs at once. What the target has is not
copied; its packs are then stated as needed (rule 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from keepstone.blobs.blobstore import Place, is_recipe
from keepstone.blobs.recipe import Piece, check_total, decode_recipe
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError, MalformedError
from keepstone.foundation.format import LEAF_BYTES_MAX, MANIFEST_BYTES_MAX, SNAPSHOT_SERIALIZER, Form
from keepstone.history.commit import PackName
from keepstone.objects.manifest import Manifest, decode_manifest
from keepstone.operations.closure import naming
from keepstone.operations.sync_reading import FrameReader, open_footers
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.leaves import LeafRow, decode_leaf
from keepstone.repository.rows import EntryRow
from keepstone.repository.session import Session
from keepstone.repository.staging import Restage

TOGETHER_MAX: Final = 64
"""Manifests, or leaves of snapshots, that are in memory at once."""

T = TypeVar("T")


class Root(NamedTuple):
    """Something that is to be readable at the target."""

    digest: Digest
    title: str
    """For messages: `name@v3`, or `collection['key']`."""
    form: int = Form.MANIFEST
    collection: str = ""
    """Of a snapshot: whose items it may hold."""


class Wanted(NamedTuple):
    """One blob that goes over."""

    digest: Digest
    place: Place
    """At the source."""
    title: str
    """What needs it, for messages."""
    pieces: tuple[tuple[Digest, Place], ...] = ()
    """Of a large one, those that go over."""
    is_all: bool = False
    """Whether these are all of its pieces, in order: then their sum can be compared with it."""


class Arrivals(NamedTuple):
    """Which entries come to the target in one sync, each with its value."""

    packs: frozenset[tuple[str, int, str]] = frozenset()
    """Object and offset of packs of the source, with a collection whose newest entries go over from there."""
    horizons: Mapping[str, int] = MappingProxyType({})
    """By collection: entries stamped below it stay."""

    def bring(self, collection: str, row: EntryRow) -> bool:
        """Whether the newest entry of a key is among those that are sent."""
        place = row.place
        return (
            place is not None
            and (place.pack.key, place.pack.offset, collection) in self.packs
            and row.stamp >= self.horizons.get(collection, 0)
        )


class Content:
    """The blobs that go from one store to another. Filled by `add`."""

    def __init__(self, source: Session, target: Session, arrivals: Arrivals) -> None:
        self._source = source
        self._target = target
        self._arrivals = arrivals
        self._reader = FrameReader(source)
        self._seen: set[bytes] = set()
        self._is_open = False
        self._names: dict[tuple[str, int], PackName] = {}
        self.wanted: list[Wanted] = []
        """In the order in which they go over: what belongs together stands together."""
        self.needs: set[PackName] = set()
        """Packs of the target that hold the rest."""

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._seen

    def add(self, roots: Iterable[Root]) -> None:
        """Want all that reading `roots` needs.

        Raises:
            BlobNotFoundError, CorruptionError: something is missing or damaged at the source; the message says of what.
        """
        rest = iter(roots)
        while batch := list(islice(rest, TOGETHER_MAX)):
            self._open()
            for root, manifest in self._manifests(batch):
                with naming(root.title):
                    self._add_parts(root, manifest)

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        for session in (self._source, self._target):
            packs = session.log.state.packs.values()
            open_footers(session, [pack for pack in packs if holds_saves(pack)])
        state = self._target.log.state
        self._names = {(pack.key, pack.offset): pack.name for pack in state.packs.values()}

    def _manifests(self, roots: Sequence[Root]) -> Iterator[tuple[Root, Manifest]]:
        built: list[Root] = []
        for root in roots:
            is_new = bytes(root.digest) not in self._seen
            with naming(root.title):
                self._add_blob(root.digest, root.title)
            # Of a snapshot the items may be those of another collection this time.
            if root.form == Form.MANIFEST and (is_new or root.collection):
                built.append(root)
        for root, raw in zip(built, self._contents(built, MANIFEST_BYTES_MAX), strict=True):
            with naming(root.title):
                manifest = decode_manifest(raw)
            yield root, manifest

    def _contents(self, roots: Sequence[Root], bytes_max: int) -> Iterator[bytes]:
        """Yield the blobs of `roots`, of the target's own where that is cheaper."""
        cheap = self._target.storage.reads_at_once <= self._source.storage.reads_at_once
        places: list[tuple[Digest, list[tuple[Digest, Place]]]] = []
        near: set[Digest] = set()
        for root in roots:
            if cheap and self._target.entries.find_blob(root.digest) is not None:
                near.add(root.digest)
                continue
            with naming(root.title):
                places.append((root.digest, self._places(root.digest, bytes_max)))
        far = self._reader.whole(places)
        for root in roots:
            with naming(root.title):
                raw = self._target.read_blob(root.digest) if root.digest in near else next(far)
            yield raw

    def _places(self, digest: Digest, bytes_max: int) -> list[tuple[Digest, Place]]:
        place = self._find(digest)
        if not is_recipe(place):
            return [(digest, place)]
        pieces = self._pieces(digest, place)
        check_total(pieces, digest, bytes_max)
        return [(piece.digest, self._find_piece(digest, piece)) for piece in pieces]

    def _find_piece(self, digest: Digest, piece: Piece) -> Place:
        place = self._find(piece.digest)
        if is_recipe(place) or place.raw_size != piece.size:
            raise MalformedError(
                f"piece {piece.digest} of {digest} is no blob of {piece.size:,} bytes", where=place.pack.key
            )
        return place

    def _pieces(self, digest: Digest, place: Place) -> list[Piece]:
        (frame,) = self._reader.read([(digest, place)])
        return decode_recipe(frame.raw, where=place.pack.key)

    def _find(self, digest: Digest) -> Place:
        place = self._source.entries.find_blob(digest)
        if place is None:
            self._source.entries.raise_unreadable()
            raise BlobNotFoundError(
                f"blob {digest} is not in the store at {self._source.storage.location}",
                digest=str(digest),
                hint="run `keepstone fsck` on that store; nothing was changed",
            )
        return place

    # ---- one blob ----------------------------------------------------------------------------------------------------

    def _add_parts(self, root: Root, manifest: Manifest) -> None:
        for part in manifest.parts:
            self._add_blob(Digest(part.digest), root.title)
        if manifest.serializer != SNAPSHOT_SERIALIZER:
            return
        leaves = iter(Root(Digest(part.digest), root.title) for part in manifest.parts)
        while batch := list(islice(leaves, TOGETHER_MAX)):
            for raw in self._contents(batch, LEAF_BYTES_MAX):
                for row in decode_leaf(raw, where=root.title).rows():
                    self._add_item(root, row)

    def _add_item(self, root: Root, row: LeafRow) -> None:
        """Want a value of a snapshot, unless an entry of its key leads to it at the target."""
        collection = root.collection
        there = self._target.entries.history(collection, row.key) if collection else []
        for known in there:
            if known.digest == row.digest and known.place is not None and not is_recipe(known.place):
                self._rely_on(known.place)
                break
        else:
            newest = self._source.entries.find(collection, row.key) if collection else None
            comes = (
                newest is not None
                and newest.digest == row.digest
                and (not there or there[0].order < newest.order)
            )
            if newest is None or not (comes and self._arrivals.bring(collection, newest)):
                self._add_value(root, row)
        if row.form == Form.MANIFEST:
            for part in self._source.read_manifest(row.digest).parts:
                self._add_blob(Digest(part.digest), root.title)

    def _add_value(self, root: Root, row: LeafRow) -> None:
        if bytes(row.digest) in self._seen or self._source.entries.find_blob(row.digest) is not None:
            self._add_blob(row.digest, root.title)
            return
        # In a pack of journals, found by its key alone.
        for older in self._source.entries.history(root.collection or root.title.partition("@")[0], row.key):
            if older.digest == row.digest and older.place is not None:
                self._seen.add(bytes(row.digest))
                if not self._has(row.digest):
                    self.wanted.append(Wanted(row.digest, older.place, root.title))
                return
        self._add_blob(row.digest, root.title)

    def _add_blob(self, digest: Digest, title: str) -> None:
        if bytes(digest) in self._seen:
            return
        self._seen.add(bytes(digest))
        there = self._target.entries.find_blob(digest)
        if there is not None and not is_recipe(there):
            self._rely_on(there)
            return
        place = self._find(digest)
        if not is_recipe(place):
            self.wanted.append(Wanted(digest, place, title))
            return
        pieces = self._pieces(digest, place)
        missing: list[tuple[Digest, Place]] = []
        for piece in pieces:
            if bytes(piece.digest) not in self._seen and not self._has(piece.digest):
                missing.append((piece.digest, self._find_piece(digest, piece)))
            self._seen.add(bytes(piece.digest))
        if there is not None and not missing:
            self._rely_on(there)
            return
        self.wanted.append(Wanted(digest, place, title, tuple(missing), len(missing) == len(pieces)))

    def _has(self, digest: Digest) -> bool:
        """Whether the target has a plain blob; its pack is needed then."""
        there = self._target.entries.find_blob(digest)
        if there is None:
            return False
        self._rely_on(there)
        return True

    def _rely_on(self, place: Place) -> None:
        name = self._names.get((place.pack.key, place.pack.offset))
        if name is None:
            # Another thread has seen a commit that came since.
            raise Restage
        self.needs.add(name)


def stored_bytes(wanted: Iterable[Wanted]) -> int:
    """Return how many bytes of frames go over."""
    return sum(item.place.stored_size + sum(place.stored_size for _, place in item.pieces) for item in wanted)
