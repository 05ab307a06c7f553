"""Checking packs: is each there, does its footer say what its frames say, and are its bytes those of its name?

Layer: operations. Format: docs/format.md §3 and §4. Where data are read, a pack is hashed whole: that proves every byte
of it at once. Frames are opened one by one only in packs that fail, to name the blobs that are damaged, and in a sample
of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import PackIndex, unpack_column
from keepstone.blobs.pack import read_index
from keepstone.blobs.pack_scan import scan_blobs
from keepstone.blobs.runs import Span
from keepstone.foundation.clock import FOLLOW_AHEAD_NS_MAX
from keepstone.foundation.format import INLINE_BYTES_MAX, PACK_PREFIX, Form, Kind
from keepstone.history.state import IN_PACK, LivePack
from keepstone.operations.findings import UNREADABLE, Findings, invariant_of, told
from keepstone.operations.fsck_footer import check_footer
from keepstone.operations.fsck_frames import PIECE_BYTES_FAR, FramesCheck, digests_at
from keepstone.operations.fsck_log import LogCheck
from keepstone.operations.planned_reads import reading_ahead
from keepstone.repository.refs import VERSIONS
from keepstone.storage.base import Storage


class CheckedPack(NamedTuple):
    """A live pack whose footer can be read and adds up. The footer itself is read again by who needs it."""

    pack: LivePack
    special: frozenset[str]
    """Collections of which an item may need more than a sound blob in this very pack."""
    damaged: frozenset[bytes]
    """Digests of blobs that cannot be read here."""


def check_packs(
    storage: Storage, log: LogCheck, findings: Findings, *, read_data: bool, now_ns: int
) -> list[CheckedPack]:
    """Check every live pack; return those whose footers can be read."""
    sizes = {info.key: info.size for info in storage.list(PACK_PREFIX)}
    checked: list[CheckedPack] = []
    check = _PackCheck(storage, {**log.sizes, **sizes}, findings, read_data)
    packs = [log.state.packs[name] for name in sorted(log.state.packs)]
    with reading_ahead(storage, (span for pack in packs for span in check.spans(pack))):
        for pack in packs:
            findings.packs += 1
            result = check.run(pack)
            if result is not None:
                checked.append(result)
            if pack.record.stamp_max > now_ns + FOLLOW_AHEAD_NS_MAX:
                hours = (pack.record.stamp_max - now_ns) / 3.6e12
                problem = f"has stamps {hours:,.1f} h ahead of this clock: its items are dated wrong"
                findings.warn("I6", pack.key, problem)
    _report_orphans(sizes, log, findings)
    return checked


def _report_orphans(sizes: Mapping[str, int], log: LogCheck, findings: Findings) -> None:
    live = {pack.key for pack in log.state.packs.values()}
    dropped = {name.key for name in log.state.dropped} & sizes.keys()
    orphans = sizes.keys() - live - dropped
    findings.orphans = len(orphans)
    if not log.whole:
        # Commits that cannot be reached may add them: whoever took them for litter would lose them.
        return
    if orphans:
        size = sum(sizes[key] for key in orphans)
        findings.litter(
            PACK_PREFIX,
            f"{len(orphans):,} packs ({size:,} bytes) are in no commit: under way, or left by a crash",
        )
    if dropped:
        size = sum(sizes[key] for key in dropped)
        findings.litter(
            PACK_PREFIX, f"{len(dropped):,} dropped packs ({size:,} bytes) wait for their grace to end"
        )


class _PackCheck:
    """Checks one pack after the other."""

    def __init__(
        self, storage: Storage, sizes: Mapping[str, int], findings: Findings, read_data: bool
    ) -> None:
        self._storage = storage
        self._sizes = sizes
        self._findings = findings
        self._read_data = read_data
        self._waits = storage.reads_at_once > 1
        whole = PIECE_BYTES_FAR if read_data else INLINE_BYTES_MAX
        self._whole_max = whole if self._waits else 0
        """A pack up to this size is read at once [bytes]."""
        self._whole: tuple[LivePack, bytes] | None = None

    def spans(self, pack: LivePack) -> Iterator[Span]:
        """Yield what `run` will read of a pack, if nothing is wrong with it, but for a few headers."""
        size = pack.record.size
        if size <= self._whole_max:
            yield self._span(pack, 0, size)
            return
        yield self._span(pack, size - pack.record.footer_size, size)
        if self._read_data:
            for start in range(0, size, PIECE_BYTES_FAR):
                yield self._span(pack, start, min(start + PIECE_BYTES_FAR, size))

    def _span(self, pack: LivePack, start: int, end: int) -> Span:
        return Span(pack.key, pack.offset + start, pack.offset + end)

    def run(self, pack: LivePack) -> CheckedPack | None:
        """Return the pack with what is known of it; None where it has no footer that can be read."""
        size = self._sizes.get(pack.key, -1)
        end = pack.offset + pack.record.size
        if size < 0 or (pack.slot != IN_PACK and size <= pack.offset):
            self._gone(
                pack, "is missing" if pack.slot == IN_PACK else "has lost its inline pack, which is live"
            )
            return None
        if size != end:
            self._findings.trouble("I7", pack.key, f"has {size:,} bytes, not {end:,}")
        try:
            tail = self._read(pack, pack.record.size - pack.record.footer_size, pack.record.size)
            index = read_index(tail, where=pack.key)
            check_footer(index, pack.record)
        except UNREADABLE as error:
            self._without_footer(pack, error)
            return None
        self._findings.blobs += index.blob_count
        self._findings.entries += pack.record.entries
        return CheckedPack(pack, _special(index), self._check_frames(pack, index))

    def _read(self, pack: LivePack, start: int, end: int) -> bytes:
        if pack.record.size > self._whole_max:
            return self._fetch(pack, start, end)
        if self._whole is None or self._whole[0] is not pack:
            self._whole = pack, self._fetch(pack, 0, pack.record.size)
        return self._whole[1][start:end]

    def _fetch(self, pack: LivePack, start: int, end: int) -> bytes:
        data = self._storage.read_range(*self._span(pack, start, end))
        self._findings.bytes_read += len(data)
        return data

    def _check_frames(self, pack: LivePack, index: PackIndex) -> frozenset[bytes]:
        # A decompressor of its own: dictionaries that it knows from elsewhere would hide that this pack's is damaged.
        frames = FramesCheck(
            index, lambda start, end: self._read(pack, start, end), Decompressor(), is_far=self._waits
        )
        problem, wrong = "", set[int]()
        try:
            if not self._read_data:
                headers = (self._span(pack, start, end) for start, end in frames.headers())
                is_whole = pack.record.size <= self._whole_max
                with reading_ahead(self._storage, () if is_whole else headers):
                    wrong = frames.wrong_headers()
            else:
                actual, wrong = frames.hash_and_sample(pack.record.size)
                if actual != pack.name.digest:
                    problem = f"its bytes hash to {actual.hex()[:16]}…, not to what its name says; "
                    wrong = frames.unreadable()
        except UNREADABLE as error:
            problem = f"{told(error)}; "
            wrong = set(range(index.blob_count))
        if not problem and not wrong:
            return frozenset()
        lost = digests_at(index, wrong)
        problem += f"{len(wrong):,} of its {index.blob_count:,} blobs cannot be read"
        self._findings.trouble("I7", pack.key, problem, lost)
        return lost

    # ---- packs without a footer --------------------------------------------------------------------------------------

    def _gone(self, pack: LivePack, problem: str) -> None:
        self._name_collections(
            pack, self._findings.trouble("I3", pack.key, problem, pack=pack.record).touches
        )

    def _without_footer(self, pack: LivePack, error: BaseException) -> None:
        found: set[bytes] = set()
        try:
            data = self._read(pack, 0, pack.record.size)
            for blob in scan_blobs(data, where=pack.key):
                if blob.digest is not None:
                    found.add(bytes(blob.digest))
        except UNREADABLE:
            pass
        problem = f"{told(error)}; {len(found):,} blobs can still be found by a scan of its frames"
        trouble = self._findings.trouble(
            invariant_of(error, "I7"), pack.key, problem, found, pack=pack.record
        )
        self._name_collections(pack, trouble.touches)

    def _name_collections(self, pack: LivePack, touches: set[str]) -> None:
        # Keys stand in the footer alone; the commit remembers whose they were.
        touches |= {f"{name}[*]" for name in pack.record.collections if not name.startswith(":")}


def _special(index: PackIndex) -> frozenset[str]:
    collections = [section for section in index.footer.sections if section.collection != VERSIONS]
    if index.footer.externals or Kind.RECIPE in index.frames.kinds:
        return frozenset(section.collection for section in collections)
    return frozenset(
        section.collection
        for section in collections
        if Form.MANIFEST in unpack_column("B", section.forms, section.count, where=index.where).tobytes()
    )
