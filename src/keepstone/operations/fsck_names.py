"""Checking names: does everything that a name or a key leads to exist, down to the last piece of a large blob?

Layer: operations. Digests are looked up in all footers at once, one round each for manifests, parts and pieces. What is
lost is told in the words of those who kept it: selectors of versions, keys of collections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final, NamedTuple

from keepstone.blobs.blobstore import BlobStore, Place, is_recipe
from keepstone.blobs.footer import Entry, PackIndex, positions_in
from keepstone.blobs.journal import Row
from keepstone.blobs.recipe import Piece, check_size, check_total
from keepstone.blobs.runs import Span
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import MANIFEST_BYTES_MAX, SNAPSHOT_SERIALIZER, Form, Kind
from keepstone.history.state import State
from keepstone.objects.manifest import decode_manifest
from keepstone.operations.findings import UNREADABLE, Findings, Trouble, invariant_of, told
from keepstone.operations.fsck_packs import CheckedPack
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.entries import pack_place
from keepstone.repository.leaves import Leaf, decode_leaf
from keepstone.repository.refs import VERSIONS, NameRef, read_alias_ref, read_name_ref, version_key
from keepstone.storage.base import Storage


class _Spot(NamedTuple):
    """Where a sound blob stands."""

    pack: CheckedPack
    position: int


_INDEX_BYTES_MAX: Final = 16 * 1024 * 1024
"""Footers held at once; what they decode to is several times as much."""
_LEAVES_MAX: Final = 200
"""Leaves of snapshots looked into at once: some 200,000 values, 60 MiB."""


class Blobs:
    """All blobs of the packs whose footers can be read."""

    def __init__(self, storage: Storage, packs: Sequence[CheckedPack]) -> None:
        self.packs = packs
        self._store = BlobStore(
            storage, reads_at_once=storage.reads_at_once, index_bytes_max=_INDEX_BYTES_MAX
        )

    def index(self, pack: CheckedPack) -> PackIndex:
        """Return what a pack holds, read again unless it was read lately."""
        return self._store.index(pack_place(pack.pack))

    def each(self, packs: Iterable[CheckedPack]) -> AbstractContextManager[Iterator[CheckedPack]]:
        """Give packs in order; their footers are read ahead, where that saves waiting."""
        return self._store.each(packs, lambda pack: self._store.footer_spans(pack_place(pack.pack)))

    def reading(self, spots: Iterable[tuple[_Spot, bool]]) -> AbstractContextManager[None]:
        """While this lasts, blobs will be read in this order: their recipes, or `whole` also what is no recipe."""

        def spans(wanted: tuple[_Spot, bool]) -> list[Span]:
            spot, whole = wanted
            place = self.place(spot)
            return self._store.spans(place) if whole else self._store.recipe_spans(place)

        return self._store.ahead(spots, spans)

    def locate(self, wanted: Iterable[bytes], *, everywhere: bool = False) -> dict[bytes, _Spot]:
        """Return a sound place of each wanted digest that has one; one pass over the footers where readers look.

        `everywhere`: in those of sealed journals too, where a snapshot finds values by their keys.
        """
        rest = set(wanted)
        found: dict[bytes, _Spot] = {}
        # A reader takes values of journals from where their entries say, and looks for others in these packs only.
        packs = [pack for pack in self.packs if everywhere or holds_saves(pack.pack)]
        with self.each(packs if rest else ()) as ordered:
            for pack in ordered:
                if not rest:
                    break
                for digest, position in positions_in(self.index(pack).footer.digests, rest):
                    if digest not in pack.damaged:
                        found[digest] = _Spot(pack, position)
                        rest.discard(digest)
        return found

    def own(self, spot: _Spot | None) -> _Spot | None:
        """Return where a reader takes an entry's value from without looking for its digest; None if it looks."""
        if spot is None or spot.position < 0 or is_recipe(self.place(spot)):
            return None
        return spot

    def place(self, spot: _Spot) -> Place:
        """Return the place of a blob."""
        return self._store.place(pack_place(spot.pack.pack), spot.position)

    def read(self, spot: _Spot, digest: bytes) -> bytes:
        """Return a blob, verified."""
        return self._store.read(self.place(spot), Digest(digest))

    def plain(self, spots: Mapping[bytes, _Spot]) -> set[bytes]:
        """Return which of the blobs are stored whole."""
        packs = {id(spot.pack): spot.pack for spot in spots.values()}
        kinds = {number: self.index(pack).frames.kinds for number, pack in packs.items()}
        return {
            digest for digest, spot in spots.items() if kinds[id(spot.pack)][spot.position] != Kind.RECIPE
        }

    def pieces(self, spot: _Spot, digest: bytes) -> list[Piece]:
        """Return the pieces of a large blob; none where it is a plain one."""
        place = self.place(spot)
        return self._store.read_pieces(place, Digest(digest)) if is_recipe(place) else []


class _Need(NamedTuple):
    """What must be there for one version or item to be read."""

    selector: str
    digest: bytes
    spot: _Spot | None = None
    """Where its entry says that it stands; None where it is looked for by digest."""


class _Found(NamedTuple):
    """An entry, and where it stands."""

    entry: Entry
    spot: _Spot | None
    """None: in a journal. A negative position: the value lies in another pack."""


def check_names(
    storage: Storage,
    state: State,
    packs: Sequence[CheckedPack],
    journal_rows: Sequence[tuple[str, Row]],
    findings: Findings,
) -> None:
    """Check what every ref, version and entry leads to."""
    _NameCheck(Blobs(storage, packs), state, journal_rows, findings).run()


class _NameCheck:
    def __init__(
        self, blobs: Blobs, state: State, journal_rows: Sequence[tuple[str, Row]], findings: Findings
    ) -> None:
        self._blobs = blobs
        self._state = state
        self._journal_rows = journal_rows
        self._findings = findings
        self._lost: dict[str, set[bytes]] = defaultdict(set)
        """Digests that a selector needs and that cannot be read."""
        self._reasons: dict[bytes, str] = {}
        self._in_journal = frozenset(
            (name, row.key, row.stamp) for name, row in journal_rows if row.offset >= 0
        )
        """Entries whose values lie in a journal themselves."""
        self._leaves: dict[bytes, list[str]] = defaultdict(list)
        """Leaves of snapshots, each with the versions that it belongs to: most are shared."""

    def run(self) -> None:
        """Check all, and share what is lost out among those who lost it."""
        versions = self._newest(VERSIONS)
        manifests = [
            _Need(key, bytes(found.entry.digest))
            for key, found in versions.items()
            if found.entry.digest is not None
        ]
        items, item_manifests = self._items()
        entries = {key: found.entry for key, found in versions.items()}
        self._check_refs(entries)
        self._doubt(entries)
        self._require([*manifests, *item_manifests], parts=True)
        self._require(items, parts=False)
        self._check_leaves()
        self._share_out()

    # ---- entries -----------------------------------------------------------------------------------------------------

    def _entries(self, collection: str) -> Iterator[_Found]:
        packs = [pack for pack in self._blobs.packs if collection in pack.pack.record.collections]
        with self._blobs.each(packs) as ordered:
            for pack in ordered:
                for entry, position in self._blobs.index(pack).entries(collection):
                    yield _Found(entry, _Spot(pack, position))
        for name, row in self._journal_rows:
            if name == collection:
                yield _Found(row.entry, None)

    def _newest(self, collection: str, keys: set[str] | None = None) -> dict[str, _Found]:
        newest: dict[str, _Found] = {}
        for found in self._entries(collection):
            entry = found.entry
            if keys is not None and entry.key not in keys:
                continue
            known = newest.get(entry.key)
            if known is None or (entry.stamp, entry.writer) > (known.entry.stamp, known.entry.writer):
                newest[entry.key] = found
        return newest

    def _items(self) -> tuple[list[_Need], list[_Need]]:
        """Return what items of collections need: those that may be lost, and those that are made of parts.

        An item whose value lies sound in its own pack, which is nearly all of them, needs no second look.
        """
        suspects: dict[str, set[str]] = defaultdict(set)
        for pack in self._blobs.packs:
            for name in sorted(pack.pack.record.collections if pack.damaged else pack.special):
                if name == VERSIONS:
                    continue
                index = self._blobs.index(pack)
                for entry, position in index.entries(name):
                    if entry.digest is None:
                        continue
                    if _is_special(index, entry, position) or entry.digest in pack.damaged:
                        suspects[name].add(entry.key)
        for name, row in self._journal_rows:
            if row.digest is not None and row.offset < 0:
                suspects[name].add(row.key)
        plain: list[_Need] = []
        built_ones: list[_Need] = []
        for name, keys in suspects.items():
            for key, (entry, spot) in self._newest(name, keys).items():
                if entry.digest is None or (name, key, entry.stamp) in self._in_journal:
                    continue
                target = built_ones if entry.form == Form.MANIFEST else plain
                target.append(_Need(f"{name}[{key}]", bytes(entry.digest), self._blobs.own(spot)))
        return plain, built_ones

    # ---- refs --------------------------------------------------------------------------------------------------------

    def _check_refs(self, versions: dict[str, Entry]) -> None:
        for name, value in sorted(self._state.refs.items()):
            if name.startswith(":"):
                continue
            try:
                if "@" in name:
                    self._check_alias(name, value, versions)
                else:
                    self._check_name(name, read_name_ref(value, name), versions)
            except UNREADABLE as error:
                self._findings.damage(invariant_of(error, "I6"), name, told(error), [name])

    def _check_alias(self, name: str, value: bytes, versions: dict[str, Entry]) -> None:
        ref = read_alias_ref(value, name)
        entry = versions.get(version_key(name.partition("@")[0], ref.number))
        if entry is None or entry.digest != ref.digest:
            self._miss(name, ref.digest, f"means v{ref.number}, which has no such entry")

    def _check_name(self, name: str, ref: NameRef, versions: dict[str, Entry]) -> None:
        if not ref.newest:
            return
        newest = versions.get(version_key(name, ref.newest))
        if newest is None or newest.digest != ref.digest:
            self._miss(
                version_key(name, ref.newest),
                ref.digest,
                f"{name!r} is at v{ref.newest}, which has no such entry",
            )
        for number in range(1, ref.newest):
            # Removal leaves a tombstone, so a number that nothing is known of was lost.
            if version_key(name, number) not in versions:
                self._miss(version_key(name, number), b"", f"v{number} of {name!r} is in no footer")

    def _doubt(self, versions: dict[str, Entry]) -> None:
        """Name the versions of which a pack without a footer may say that they were removed: readers refuse them."""
        lost = [t for t in self._findings.troubles if t.pack and VERSIONS in t.pack.collections]
        for key, entry in versions.items() if lost else ():
            name, _, number = key.rpartition("@v")
            try:
                ref = read_name_ref(self._state.refs[name], name)
            except UNREADABLE:
                continue
            if entry.digest is None or not ref.removals or ref.newest == int(number):
                continue
            for trouble in lost:
                if trouble.pack and trouble.pack.stamp_max > entry.stamp:
                    trouble.touches.add(key)

    def _miss(self, selector: str, digest: bytes, reason: str) -> None:
        self._lost[selector].add(digest)
        self._reasons.setdefault(digest, reason)

    # ---- what they need ----------------------------------------------------------------------------------------------

    def _require(self, needs: Sequence[_Need], *, parts: bool) -> None:
        """Look for all that `needs` name; then for the parts of manifests, and for the pieces of large blobs."""
        while needs:
            spots = self._blobs.locate(need.digest for need in needs if need.spot is None)
            below: list[_Need] = []
            placed: list[tuple[_Need, _Spot]] = []
            for need in needs:
                spot = need.spot or spots.get(need.digest)
                if spot is None or need.digest in spot.pack.damaged:
                    problem = f"needs {Digest(need.digest)}, which no live pack holds undamaged"
                    self._miss(need.selector, need.digest, problem)
                else:
                    placed.append((need, spot))
            with self._blobs.reading((spot, parts) for _, spot in placed):
                for need, spot in placed:
                    try:
                        below += self._needs_of(need, spot, parts)
                    except UNREADABLE as error:
                        self._miss(need.selector, need.digest, told(error))
            needs, parts = below, False

    def _needs_of(self, need: _Need, spot: _Spot, parts: bool) -> list[_Need]:
        pieces = self._blobs.pieces(spot, need.digest)
        if not parts:
            return [_Need(need.selector, bytes(piece.digest)) for piece in pieces]
        manifest = decode_manifest(self._whole(need.digest, spot))
        if manifest.serializer == SNAPSHOT_SERIALIZER:
            for part in manifest.parts:
                self._leaves[bytes(part.digest)].append(need.selector)
        return [_Need(need.selector, bytes(part.digest)) for part in manifest.parts]

    def _check_leaves(self) -> None:
        """Look for the values that snapshots name, many leaves at once."""
        batch: list[tuple[bytes, Leaf]] = []
        for digest, spot in self._blobs.locate(self._leaves).items():
            # A leaf that cannot be found or read was told of when it was looked for as a part.
            with suppress(*UNREADABLE):
                batch.append((digest, decode_leaf(self._whole(digest, spot), where=self._leaves[digest][0])))
            if len(batch) >= _LEAVES_MAX:
                self._check_values(batch)
                batch = []
        self._check_values(batch)

    def _check_values(self, leaves: Sequence[tuple[bytes, Leaf]]) -> None:
        wanted = {value for _, leaf in leaves for value in leaf.values()}
        spots = self._blobs.locate(wanted, everywhere=True)
        # Nearly all are there and whole, and need no second look.
        suspects = wanted - self._blobs.plain(spots)
        needs: dict[bool, list[_Need]] = {False: [], True: []}
        for digest, leaf in leaves:
            for key, value, form in zip(leaf.keys, leaf.values(), leaf.forms, strict=True):
                if value in suspects or form == Form.MANIFEST:
                    needs[form == Form.MANIFEST] += [
                        _Need(f"{selector}[{key}]", value, spots.get(value))
                        for selector in self._leaves[digest]
                    ]
        for parts, found in needs.items():
            self._require(found, parts=parts)

    def _whole(self, digest: bytes, spot: _Spot) -> bytes:
        pieces = self._blobs.pieces(spot, digest)
        if not pieces:
            return self._blobs.read(spot, digest)
        check_total(pieces, Digest(digest), MANIFEST_BYTES_MAX)
        located = self._blobs.locate(bytes(piece.digest) for piece in pieces)
        parts: list[bytes] = []
        for piece in pieces:
            if piece.digest in located:
                parts.append(self._blobs.read(located[piece.digest], piece.digest))
                check_size(piece, parts[-1], Digest(digest))
        raw = b"".join(parts)
        if Digest.of(raw) != digest:
            raise MalformedError(f"{Digest(digest)} cannot be put together")
        return raw

    def _share_out(self) -> None:
        """Tell each trouble what it costs, and report what none of them explains."""
        unknown = [trouble for trouble in self._findings.troubles if trouble.pack]
        for selector, digests in sorted(self._lost.items()):
            guilty: list[Trouble] = [t for t in self._findings.troubles if t.lost & digests] or unknown
            for trouble in guilty:
                trouble.touches.add(selector)
            if not guilty:
                digest = min(digests)
                self._findings.damage("I3", selector, self._reasons.get(digest, "cannot be read"), [selector])


def _is_special(index: PackIndex, entry: Entry, position: int) -> bool:
    return position < 0 or index.frames.kinds[position] == Kind.RECIPE or entry.form == Form.MANIFEST
