"""Checking names: does everything that a name or a key leads to exist, down to the last piece of a large blob?

Layer: operations. Digests are looked up in all footers at once, one round each for manifests, parts and pieces. What is
lost is told in the words of those who kept it: selectors of versions, keys of collections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from keepstone.blobs.blobstore import BlobStore, Place
from keepstone.blobs.footer import Entry, unpack_column
from keepstone.blobs.journal import Row
from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.format import Form, Kind
from keepstone.history.state import State
from keepstone.objects.manifest import decode_manifest
from keepstone.operations.findings import UNREADABLE, Findings, Trouble, invariant_of, told
from keepstone.operations.fsck_packs import CheckedPack
from keepstone.repository.entries import pack_place
from keepstone.repository.refs import VERSIONS, NameRef, read_alias_ref, read_name_ref, version_key
from keepstone.storage.base import Storage


class _Spot(NamedTuple):
    """Where a sound blob stands."""

    pack: CheckedPack
    position: int


class Blobs:
    """All blobs of the packs whose footers can be read."""

    def __init__(self, storage: Storage, packs: Sequence[CheckedPack]) -> None:
        self.packs = packs
        self._store = BlobStore(storage)

    def locate(self, wanted: Iterable[bytes]) -> dict[bytes, _Spot]:
        """Return a sound place of each wanted digest that has one; one pass over all footers."""
        rest = set(wanted)
        found: dict[bytes, _Spot] = {}
        for pack in self.packs:
            if not rest:
                break
            digests = pack.contents.footer.digests
            for position in range(pack.contents.blob_count):
                digest = digests[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES]
                if digest in rest and digest not in pack.damaged:
                    found[digest] = _Spot(pack, position)
                    rest.discard(digest)
        return found

    def place(self, spot: _Spot) -> Place:
        """Return the place of a blob."""
        return self._store.place(pack_place(spot.pack.pack), spot.position)

    def read(self, spot: _Spot, digest: bytes) -> bytes:
        """Return a blob, verified."""
        return self._store.read(self.place(spot), Digest(digest))

    def pieces(self, spot: _Spot, digest: bytes) -> list[bytes]:
        """Return the pieces of a large blob; none where it is a plain one."""
        if spot.pack.contents.row(spot.position).kind != Kind.RECIPE:
            return []
        return [bytes(piece.digest) for piece in self._store.read_pieces(self.place(spot), Digest(digest))]


class _Need(NamedTuple):
    """What must be there for one version or item to be read."""

    selector: str
    digest: bytes


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

    def run(self) -> None:
        """Check all, and share what is lost out among those who lost it."""
        versions = self._newest(VERSIONS)
        manifests = [
            _Need(key, bytes(entry.digest)) for key, entry in versions.items() if entry.digest is not None
        ]
        items, item_manifests = self._items()
        self._check_refs(versions)
        self._require([*manifests, *item_manifests], parts=True)
        self._require(items, parts=False)
        self._share_out()

    # ---- entries -----------------------------------------------------------------------------------------------------

    def _entries(self, collection: str) -> Iterator[Entry]:
        for pack in self._blobs.packs:
            if collection in pack.contents.sections:
                for entry, _ in pack.contents.entries(collection):
                    yield entry
        for name, row in self._journal_rows:
            if name == collection:
                yield row.entry

    def _newest(self, collection: str, keys: set[str] | None = None) -> dict[str, Entry]:
        newest: dict[str, Entry] = {}
        for entry in self._entries(collection):
            if keys is not None and entry.key not in keys:
                continue
            known = newest.get(entry.key)
            if known is None or (entry.stamp, entry.writer) > (known.stamp, known.writer):
                newest[entry.key] = entry
        return newest

    def _items(self) -> tuple[list[_Need], list[_Need]]:
        """Return what items of collections need: those that may be lost, and those that are made of parts.

        An item whose value lies sound in its own pack, which is nearly all of them, needs no second look.
        """
        suspects: dict[str, set[str]] = defaultdict(set)
        for pack in self._blobs.packs:
            for name, section in pack.contents.sections.items():
                if name == VERSIONS:
                    continue
                built = Form.MANIFEST in set(_forms(pack, name))
                if not (built or pack.damaged or pack.contents.footer.externals or _has_recipes(pack)):
                    continue
                rows = pack.contents.rows
                for entry, position in pack.contents.entries(name):
                    if entry.digest is None:
                        continue
                    special = (
                        position < 0 or rows[position].kind == Kind.RECIPE or entry.form == Form.MANIFEST
                    )
                    if special or entry.digest in pack.damaged:
                        suspects[section.collection].add(entry.key)
        for name, row in self._journal_rows:
            if row.digest is not None and row.offset < 0:
                suspects[name].add(row.key)
        plain: list[_Need] = []
        built_ones: list[_Need] = []
        for name, keys in suspects.items():
            for key, entry in self._newest(name, keys).items():
                if entry.digest is not None and (name, key, entry.stamp) not in self._in_journal:
                    target = built_ones if entry.form == Form.MANIFEST else plain
                    target.append(_Need(f"{name}[{key}]", bytes(entry.digest)))
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

    def _miss(self, selector: str, digest: bytes, reason: str) -> None:
        self._lost[selector].add(digest)
        self._reasons.setdefault(digest, reason)

    # ---- what they need ----------------------------------------------------------------------------------------------

    def _require(self, needs: Sequence[_Need], *, parts: bool) -> None:
        """Look for all that `needs` name; then for the parts of manifests, and for the pieces of large blobs."""
        while needs:
            spots = self._blobs.locate(need.digest for need in needs)
            below: list[_Need] = []
            for need in needs:
                spot = spots.get(need.digest)
                if spot is None:
                    self._miss(
                        need.selector, need.digest, f"needs {Digest(need.digest)}, which no live pack holds"
                    )
                    continue
                try:
                    below += self._needs_of(need, spot, parts)
                except UNREADABLE as error:
                    self._miss(need.selector, need.digest, told(error))
            needs, parts = below, False

    def _needs_of(self, need: _Need, spot: _Spot, parts: bool) -> list[_Need]:
        pieces = self._blobs.pieces(spot, need.digest)
        if not parts:
            return [_Need(need.selector, piece) for piece in pieces]
        if pieces:
            located = self._blobs.locate(pieces)
            raw = b"".join(self._blobs.read(located[piece], piece) for piece in pieces if piece in located)
            if Digest.of(raw) != need.digest:
                self._miss(need.selector, need.digest, "has a list of parts that cannot be read")
                return []
        else:
            raw = self._blobs.read(spot, need.digest)
        return [_Need(need.selector, bytes(part.digest)) for part in decode_manifest(raw).parts]

    def _share_out(self) -> None:
        """Tell each trouble what it costs, and report what none of them explains."""
        unknown = [trouble for trouble in self._findings.troubles if trouble.unknown]
        for selector, digests in sorted(self._lost.items()):
            guilty: list[Trouble] = [t for t in self._findings.troubles if t.lost & digests] or unknown
            for trouble in guilty:
                trouble.touches.add(selector)
            if not guilty:
                digest = min(digests)
                self._findings.damage("I3", selector, self._reasons.get(digest, "cannot be read"), [selector])


def _forms(pack: CheckedPack, collection: str) -> bytes:
    section = pack.contents.sections[collection]
    return unpack_column("B", section.forms, section.count, where=pack.contents.where).tobytes()


def _has_recipes(pack: CheckedPack) -> bool:
    return any(row.kind == Kind.RECIPE for row in pack.contents.rows)
