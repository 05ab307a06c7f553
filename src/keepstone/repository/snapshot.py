"""Taking a snapshot: what a collection holds now becomes a version of its name.

Layer: repository. Format: docs/format.md §12. The manifest is the root, its parts are the leaves; no stamp stands in
either, so equal content is the same version. Values stay where they are: the commit states the packs that hold them,
and brings along only what still lies in a journal (rule 8).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from keepstone.blobs.blobstore import Place, is_recipe
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import BlobNotFoundError
from keepstone.foundation.format import SNAPSHOT_SERIALIZER, Form
from keepstone.history.commit import PackName
from keepstone.history.state import State
from keepstone.history.validate import read_horizon
from keepstone.objects.manifest import Manifest, Part, encode_manifest
from keepstone.repository.arguments import check_message, check_save
from keepstone.repository.leaves import LeafRow, Root, cut_leaves, encode_leaf
from keepstone.repository.naming import not_found
from keepstone.repository.refs import check_kind
from keepstone.repository.repository import RESTAGES_MAX, too_fast
from keepstone.repository.sealing import sealer_lock
from keepstone.repository.session import Session
from keepstone.repository.sketch import ANY, Saved, Sketch
from keepstone.repository.sorted_rows import SortedRow, sorted_rows
from keepstone.repository.staging import Restage, Staging
from keepstone.repository.tracking import with_tracked
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository


def take_snapshot(
    repository: Repository,
    name: str,
    message: str,
    metadata: Mapping[str, Any] | None,
    aliases: Iterable[str],
) -> Version:
    """Keep what the collection `name` holds as its next version. See `Collection.snapshot`."""
    session = repository.session
    session.require_writable()
    check_message(message)
    wanted = check_save(name, metadata, aliases)
    # What lies in this process's journal is published as always, rather than copied into the snapshot's pack.
    repository.sealer.flush()
    session.refresh()
    for attempt in range(RESTAGES_MAX):
        staging = Staging(session)
        try:
            # Merging may drop a pack while a million keys are read. If it did, it is kept from doing so again.
            with sealer_lock(session) if attempt else contextlib.nullcontext():
                digest = _Content(session, name, staging).stage(dict(metadata or {}))
                staging.settle()
            version = repository.staged_version(staging, name, digest)

            def then(saved: Saved, sketch: Sketch, version: Version = version) -> None:
                sketch.settle(version, saved)

            repository.decide(lambda sketch, d=digest: _save(sketch, name, d, wanted), staging, message, then)
        except Restage:
            session.refresh()
            continue
        return version
    raise too_fast()


def _save(sketch: Sketch, name: str, digest: Digest, aliases: tuple[str, ...]) -> Saved:
    ref = sketch.name_ref(name)
    if ref is not None:
        check_kind(ref, name, "collection")
    if ref is None or not ref.number:
        raise not_found(
            sketch.refs,
            name,
            f"there is no collection {name!r} to take a snapshot of",
            hint="it begins with the first item that is set",
        )
    return sketch.save(name, digest, aliases, ANY, "collection")


class _Source(NamedTuple):
    """Where the content is read from."""

    state: State
    rows: Iterator[SortedRow]


class _Content:
    """What a collection holds, on its way into leaves."""

    def __init__(self, session: Session, name: str, staging: Staging) -> None:
        self._session = session
        self._name = name
        self._staging = staging
        self._packs: set[PackName] = set()
        self._names: dict[tuple[str, int], PackName] = {}
        """By object and offset: which live pack lies there."""
        self._count = 0

    def stage(self, metadata: dict[str, Any]) -> Digest:
        """Stage leaves and root; return the root's digest.

        Raises:
            Restage: a pack was dropped while it was read.
        """
        state, rows = self._open()
        self._names = {(pack.key, pack.offset): pack.name for pack in state.packs.values()}
        parts: list[Part] = []
        firsts: list[str] = []
        try:
            with self._session.blobs.each(rows, self._spans_of) as read:
                for leaf in cut_leaves(map(self._take, read)):
                    raw = encode_leaf(leaf)
                    firsts.append(leaf.keys[0])
                    parts.append(Part(f"{len(parts):08d}", self._staging.add(raw), len(raw)))
        except BlobNotFoundError:
            if self._session.log.refresh().packs.keys() >= state.packs.keys():
                raise
            raise Restage from None
        manifest = Manifest(
            serializer=SNAPSHOT_SERIALIZER,
            serializer_version=1,
            type_name="collection",
            parts=tuple(parts),
            metadata=metadata,
            parents=with_tracked(()),
            detail=msgspec.structs.asdict(Root(self._count, tuple(firsts))),
        )
        self._staging.rely_on(self._packs)
        return self._staging.add_bytes(encode_manifest(manifest))

    def _open(self) -> _Source:
        session = self._session
        session.refresh()
        # Journals first, as always: what leaves one meanwhile is in the state that is taken after.
        journal_rows = session.spool.rows(self._name)
        state = session.log.state
        rows = sorted_rows(
            session.blobs,
            state.packs.values(),
            journal_rows,
            self._name,
            since=read_horizon(state.refs, self._name),
        )
        return _Source(state, rows)

    def _spans_of(self, found: SortedRow) -> list[Span]:
        """Return what `_rely_on` begins with."""
        if found.pack is not None or (found.row is not None and found.row.offset >= 0):
            return []
        session = self._session
        place = session.entries.find_blob(found.digest)
        return (
            session.blobs.spans(place) if found.form == Form.MANIFEST else session.blobs.recipe_spans(place)
        )

    def _take(self, found: SortedRow) -> LeafRow:
        self._count += 1
        row = found.row
        if found.pack is not None:
            self._packs.add(found.pack)
        elif row is not None and row.offset >= 0:
            # The bytes, verified; what is above a chunk becomes a recipe.
            self._staging.add_bytes(row.journal.read_value(row))
        else:
            self._rely_on(found.digest, found.form)
        return LeafRow(found.key, found.digest, found.form)

    def _rely_on(self, digest: Digest, form: int) -> None:
        """Note all packs that a published value needs: its pieces, and the parts of what is made of parts."""
        place = self._note_place(digest)
        if is_recipe(place):
            for piece in self._session.blobs.read_pieces(place, digest):
                self._note_place(piece.digest)
        if form == Form.MANIFEST:
            for part in self._session.read_manifest(digest).parts:
                self._rely_on(Digest(part.digest), Form.BYTES)

    def _note_place(self, digest: Digest) -> Place:
        place = self._session.find_blob(digest)
        name = self._names.get((place.pack.key, place.pack.offset))
        if name is None:
            # It is where a commit put it that came since.
            raise Restage
        self._packs.add(name)
        return place
