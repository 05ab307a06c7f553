"""The survey of a sync: what one store has that another one lacks, before a byte is copied.

Layer: operations. After a sync of everything only what is new since then is looked at; else both are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from keepstone.blobs.footer import PackIndex
from keepstone.foundation.clock import FOLLOW_AHEAD_NS_MAX
from keepstone.foundation.digest import Digest
from keepstone.foundation.encoding import decode
from keepstone.foundation.format import LOCK_BYTES_MAX, Form, Kind
from keepstone.foundation.names import shown
from keepstone.history.commit import PackName
from keepstone.history.state import LivePack, State
from keepstone.history.validate import read_horizon
from keepstone.operations.lock import parse_lock
from keepstone.operations.orphans import WHOLE_PACK_BYTES_MIN
from keepstone.operations.pins import PinnedLock
from keepstone.operations.sync_content import Arrivals, Content, Root, Wanted, stored_bytes
from keepstone.operations.sync_decision import (
    Decision,
    Scope,
    aliases_of,
    decide,
    horizons_of,
    pins_of,
)
from keepstone.operations.sync_memory import News
from keepstone.operations.sync_names import NameSource, check_same_kind, parted, read_source
from keepstone.operations.sync_outbox import NEW_PACK_BYTES, has_items
from keepstone.operations.sync_reading import at_once, open_footers
from keepstone.operations.sync_rows import PackRows, too_far_ahead, wanted_rows
from keepstone.operations.sync_selection import Selection, names_of
from keepstone.repository.catalog_rows import holds_saves
from keepstone.repository.entries import pack_place
from keepstone.repository.refs import VERSIONS, read_name_ref
from keepstone.repository.session import Session


class Known(NamedTuple):
    """What a sync knows before it looks."""

    news: News | None = None
    """What came to the source since the target had everything; None where that is not known."""
    agreed: Mapping[str, bytes] = {}
    """Aliases and pins: the digest that both had when they last had the same."""
    open: frozenset[str] = frozenset()
    """Aliases that were left in conflict."""


class Survey(NamedTuple):
    """What goes over, and what becomes of the target's names if it stays as it is."""

    source_state: State
    target_state: State
    packs: tuple[LivePack, ...]
    """Copied byte for byte."""
    rows: tuple[tuple[PackRows, ...], ...]
    """Entries of all other packs, pack by pack, oldest first."""
    content: tuple[Wanted, ...]
    needs: frozenset[PackName]
    scope: Scope
    decision: Decision
    digests: frozenset[bytes]
    """Of all versions that can be read at the target once this is there."""
    bytes: int
    """Stored bytes that go over."""

    @property
    def items(self) -> int:
        """Entries of collections that go over."""
        whole = sum(pack.record.entries for pack in self.packs)
        return whole + sum(rows.number for of_pack in self.rows for rows in of_pack)

    @property
    def objects(self) -> int:
        """Packs that are written, about; the commit is another object."""
        results = sum(_rows_bytes(rows) for of_pack in self.rows for rows in of_pack)
        content = self.bytes - results - sum(pack.record.size for pack in self.packs)
        new = -(-results // NEW_PACK_BYTES) + (content // NEW_PACK_BYTES if content else 0)
        return len(self.packs) + new + (1 if content > 200_000 else 0)

    @property
    def is_empty(self) -> bool:
        """Whether the target lacks nothing."""
        return not self.packs and not self.rows and not self.content and self.decision.is_empty


def survey(source: Session, target: Session, selection: Selection, known: Known) -> Survey:
    """Return what the target lacks of `selection`. Changes nothing.

    Raises:
        KindError: a name is an artifact in one store and a collection in the other.
        InvalidInputError: an entry is stamped more than an hour ahead.
        CorruptionError, BlobNotFoundError: something is damaged or lost at the source; the message says of what.
    """
    return _Survey(source, target, selection, known).run()


class _Survey:
    def __init__(self, source: Session, target: Session, selection: Selection, known: Known) -> None:
        self._source = source
        self._target = target
        self._selection = selection
        self._known = known
        self._state = source.log.state
        self._there = target.log.state
        self._refs = self._state.refs
        self._rows: dict[PackName, list[PackRows]] = defaultdict(list)
        self._horizons: dict[str, int] = {}
        self._apart = self._names_apart()

    def run(self) -> Survey:
        names = self._names()
        collections = [name for name in self._collections() if self._choose_rows(name)]
        sources = self._sources(names | set(collections))
        scope = self._scope(sources, collections)
        decision = decide(self._target, self._there, scope, self._known.agreed)
        arrivals = Arrivals(
            frozenset(
                (pack_place(rows.pack).key, pack_place(rows.pack).offset, rows.collection)
                for of_pack in self._rows.values()
                for rows in of_pack
            ),
            self._horizons,
        )
        content = Content(self._source, self._target, arrivals)
        brought = {version.digest for version in decision.versions}
        content.add(self._version_roots(sources, brought))
        content.add(self._value_roots())
        content.add(self._pin_roots(scope, decision))
        packs, rows, wanted = self._whole_packs(content.wanted)
        size = sum(pack.record.size for pack in packs) + sum(map(_rows_bytes, (r for p in rows for r in p)))
        size += stored_bytes(wanted)
        return Survey(
            source_state=self._state,
            target_state=self._there,
            packs=tuple(packs),
            rows=tuple(rows),
            content=tuple(wanted),
            needs=frozenset(content.needs),
            scope=scope,
            decision=decision,
            digests=frozenset(
                row.digest for name in sources for row in name.versions if row.digest in content
            ),
            bytes=size,
        )

    # ---- names -------------------------------------------------------------------------------------------------------

    def _names_apart(self) -> set[str]:
        """Return the names that are of another kind there, for good, and were removed in one of the two stores."""
        wanted = self._selection.names | self._selection.versions.keys()
        both = wanted & self._refs.keys() & self._there.refs.keys()
        return {
            name
            for name in both
            if parted(read_name_ref(self._refs[name], name), read_name_ref(self._there.refs[name], name))
        }

    def _withheld(self) -> tuple[str, ...]:
        moved = None if self._known.news is None else {ref.partition("@")[0] for ref in self._known.news.refs}
        found = (name for name in sorted(self._apart) if moved is None or name in moved)
        return tuple(name for name in found if read_name_ref(self._refs[name], name).is_there)

    def _names(self) -> set[str]:
        """Return the names that are looked at: all that are selected, or those among them that have moved."""
        selected = {
            name for name in self._selection.names if name in self._refs
        } | self._selection.versions.keys()
        selected -= self._apart
        if self._known.news is None:
            return selected
        moved = {ref.partition("@")[0] for ref in (*self._known.news.refs, *self._known.open)}
        return selected & moved

    def _collections(self) -> list[str]:
        found: list[str] = []
        for name in sorted((self._selection.names & self._refs.keys()) - self._apart):
            if read_name_ref(self._refs[name], name).kind == "collection":
                found.append(name)
        return found

    def _sources(self, names: Iterable[str]) -> list[NameSource]:
        wanted = sorted(names)
        for name in wanted:
            there = self._there.refs.get(name)
            if there is not None:
                ours, theirs = read_name_ref(self._refs[name], name), read_name_ref(there, name)
                check_same_kind(name, ours, theirs, self._target.storage.location)
        if not wanted:
            return []
        open_footers(self._source, self._source.entries.packs_of(VERSIONS))
        if any(name in self._there.refs for name in wanted):
            open_footers(self._target, self._target.entries.packs_of(VERSIONS))
        sources = [read_source(self._source, name, self._selection.versions.get(name)) for name in wanted]
        ahead = self._source.clock.now_ns() + FOLLOW_AHEAD_NS_MAX
        for source in sources:
            for row in source.versions:
                if row.stamp > ahead:
                    raise too_far_ahead(f"{source.name}@v{row.number}", row.stamp)
        # Of an artifact without versions there is nothing to tell who never had it.
        return [s for s in sources if s.versions or s.ref.kind == "collection" or s.name in self._there.refs]

    def _scope(self, sources: list[NameSource], collections: list[str]) -> Scope:
        selection, known = self._selection, self._known
        aliases: set[str] = set(selection.aliases)
        pins: set[str] = set()
        refs = {**self._there.refs, **dict.fromkeys(known.agreed, b""), **self._refs}
        if known.news is not None:
            refs = dict.fromkeys((*known.news.refs, *known.open), b"")
        aliases |= aliases_of(
            refs,
            selection.names | frozenset(names_of(self._there.refs))
            if selection.is_whole
            else selection.names,
        )
        if selection.is_whole:
            pins = pins_of(refs)
        horizons = horizons_of(self._refs, set(self._collections()))
        return Scope(
            tuple(sources),
            frozenset(aliases),
            frozenset(pins),
            horizons,
            frozenset(
                rows.collection
                for of_pack in self._rows.values()
                for rows in of_pack
                if has_items(rows, self._source)
            )
            & frozenset(collections),
            self._refs,
            self._withheld(),
        )

    # ---- entries -----------------------------------------------------------------------------------------------------

    def _choose_rows(self, collection: str) -> bool:
        """Choose what goes over of a collection; return whether anything does."""
        news = self._known.news
        packs = [
            pack
            for pack in sorted(self._source.entries.packs_of(collection), key=_age)
            if news is None or pack.name in news.packs
        ]
        if not packs:
            return False
        since = max(read_horizon(self._refs, collection), read_horizon(self._there.refs, collection))
        self._horizons[collection] = since
        # After a sync of everything what is new here is new there; looking costs nothing where reading does not wait.
        looks = news is None or self._target.storage.reads_at_once <= 1
        target = self._target if looks else None
        for rows in wanted_rows(self._source, packs, target, collection, since):
            self._rows[rows.pack.name].append(rows)
        return any(rows.collection == collection for of_pack in self._rows.values() for rows in of_pack)

    def _value_roots(self) -> Iterable[Root]:
        """Yield the values that do not travel with their entries: large ones, and those that commits wrote."""
        for of_pack in self._rows.values():
            for rows in of_pack:
                index = self._source.blobs.index(pack_place(rows.pack))
                for entry, _ in rows.entries(index, _found_by_digest(rows, index)):
                    if entry.digest is not None:
                        title = f"item {shown(entry.key)} of {rows.collection!r}"
                        yield Root(entry.digest, title, entry.form)

    # ---- content -----------------------------------------------------------------------------------------------------

    def _version_roots(self, sources: Iterable[NameSource], brought: set[str]) -> Iterable[Root]:
        for source in sources:
            collection = source.name if source.ref.kind == "collection" else ""
            if collection:
                open_footers(self._target, self._target.entries.packs_of(collection))
                open_footers(self._source, self._source.entries.packs_of(collection))
            for row in source.versions:
                if str(row.digest) in brought:
                    yield Root(row.digest, f"{source.name}@v{row.number}", Form.MANIFEST, collection)

    def _pin_roots(self, scope: Scope, decision: Decision) -> Iterable[Root]:
        new = [
            change.name
            for change in decision.refs
            if change.name in scope.pins and change.new is not None and change.new != change.old
        ]
        blobs = at_once(self._source, self._read_pin, new)
        for ref, raw in zip(new, blobs, strict=True):
            yield Root(Digest(self._refs[ref]), ref, Form.BYTES)
            pinned = decode(raw, PinnedLock, what=ref, bytes_max=2 * LOCK_BYTES_MAX)
            for line in parse_lock(pinned.lock, where=ref).names:
                collection = line.name if line.kind == "collection" else ""
                yield Root(line.digest, f"{line.selector} (pinned)", Form.MANIFEST, collection)

    def _read_pin(self, ref: str) -> bytes:
        return self._source.read_blob(Digest(self._refs[ref]), bytes_max=2 * LOCK_BYTES_MAX)

    def _whole_packs(
        self, content: list[Wanted]
    ) -> tuple[list[LivePack], list[tuple[PackRows, ...]], list[Wanted]]:
        """Return packs that are copied as they are since everything in them is wanted, and what is left then."""
        packs: list[LivePack] = []
        rest: list[tuple[PackRows, ...]] = []
        goes = {bytes(item.digest) for item in content} | {
            bytes(d) for item in content for d, _ in item.pieces
        }
        done: set[bytes] = set()
        for pack in sorted(self._state.packs.values(), key=_age):
            rows = tuple(self._rows.get(pack.name, ()))
            if self._is_wanted_whole(pack, rows, goes):
                packs.append(pack)
                index = self._source.blobs.index(pack_place(pack))
                if holds_saves(pack):
                    done |= {bytes(index.digest(position)) for position in range(index.blob_count)}
            elif rows:
                rest.append(rows)
        if not done:
            return packs, rest, content
        left: list[Wanted] = []
        for item in content:
            pieces = tuple((d, p) for d, p in item.pieces if bytes(d) not in done)
            if bytes(item.digest) in done and not pieces:
                continue
            left.append(item._replace(pieces=pieces, is_all=item.is_all and len(pieces) == len(item.pieces)))
        return packs, rest, left

    def _is_wanted_whole(self, pack: LivePack, rows: tuple[PackRows, ...], goes: set[bytes]) -> bool:
        record = pack.record
        if record.size < WHOLE_PACK_BYTES_MIN or VERSIONS in record.collections:
            return False
        if {r.collection for r in rows} != set(record.collections) or not all(r.is_whole for r in rows):
            return False
        if not holds_saves(pack):
            return bool(rows) and _all_named(self._source, pack)
        index = self._source.blobs.index(pack_place(pack))
        kinds = index.frames.kinds
        return all(
            bytes(index.digest(position)) in goes
            for position in range(index.blob_count)
            if kinds[position] != Kind.DICTIONARY
        )


def _found_by_digest(rows: PackRows, index: PackIndex) -> Iterable[int]:
    """Return the rows whose values do not lie whole beside them, or are looked for by digest."""
    if holds_saves(rows.pack):
        return range(len(rows.wanted))
    blobs, kinds, here = index.columns(rows.collection).blobs, index.frames.kinds, index.blob_count
    if Kind.RECIPE not in kinds and max(blobs, default=0) < here:
        return ()
    return [row for row, blob in enumerate(blobs) if blob >= here or kinds[blob] == Kind.RECIPE]


def _age(pack: LivePack) -> PackName:
    return pack.name


def _all_named(source: Session, pack: LivePack) -> bool:
    """Whether an entry of the pack leads to each of its blobs."""
    index = source.blobs.index(pack_place(pack))
    named: set[int] = set()
    for collection in pack.record.collections:
        named.update(index.columns(collection).blobs)
    kinds = index.frames.kinds
    return all(
        position in named for position in range(index.blob_count) if kinds[position] != Kind.DICTIONARY
    )


def _rows_bytes(rows: PackRows) -> int:
    """Return about how many bytes the wanted entries and their values take."""
    share = rows.number / max(1, len(rows.wanted))
    if holds_saves(rows.pack):
        return 64 * rows.number
    others = max(1, rows.pack.record.entries)
    return int(rows.pack.record.size * share * len(rows.wanted) / others)
