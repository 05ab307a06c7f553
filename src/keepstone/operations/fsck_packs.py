"""Checking packs: is each there, does its footer say what its frames say, and are its bytes those of its name?

Layer: operations. Format: docs/format.md §3 and §4. Whole packs are hashed; frames are opened only in packs that fail,
to name the blobs that are damaged, and in a sample of the others.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from blake3 import blake3

from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import TOMBSTONE, BlobRow, PackIndex, unpack_column
from keepstone.blobs.pack import read_index, scan_blobs
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, read_raw
from keepstone.blobs.recipe import decode_recipe
from keepstone.foundation.clock import FOLLOW_AHEAD_NS_MAX
from keepstone.foundation.digest import DIGEST_BYTES, Digest, hash_threads
from keepstone.foundation.errors import DigestMismatchError, MalformedError
from keepstone.foundation.format import PACK_FRAME_MAGIC, PACK_PREFIX, Kind
from keepstone.history.state import IN_PACK, LivePack
from keepstone.operations.findings import UNREADABLE, Findings, invariant_of, told
from keepstone.operations.fsck_log import LogCheck
from keepstone.storage.base import Storage

_STATED: Final = struct.Struct("<2sBBII")
"""What header and footer both say of a frame."""
_READ_WHOLE_FRAME_BYTES: Final = 4 * 1024
"""Where frames are smaller on average, reading a pack whole is cheaper than reading each header."""
_PIECE_BYTES: Final = 4 * 1024 * 1024
"""Read at once; larger pieces leave the processor's caches and cost page faults."""
SAMPLE_EVERY: Final = 100
"""One frame of so many is opened in a pack whose bytes are right."""


class CheckedPack(NamedTuple):
    """A live pack whose footer can be read."""

    pack: LivePack
    contents: PackIndex
    damaged: frozenset[bytes]
    """Digests of blobs that cannot be read here."""


def check_packs(
    storage: Storage, log: LogCheck, findings: Findings, *, read_data: bool, now_ns: int
) -> list[CheckedPack]:
    """Check every live pack; return those whose footers can be read."""
    sizes = {info.key: info.size for info in storage.list(PACK_PREFIX)}
    checked: list[CheckedPack] = []
    check = _PackCheck(storage, {**log.sizes, **sizes}, findings, read_data)
    for name in sorted(log.state.packs):
        pack = log.state.packs[name]
        findings.packs += 1
        result = check.run(pack)
        if result is not None:
            checked.append(result)
        if pack.record.stamp_max > now_ns + FOLLOW_AHEAD_NS_MAX:
            ahead = (pack.record.stamp_max - now_ns) / 3.6e12
            findings.warn(
                "I6", pack.key, f"has stamps {ahead:,.1f} h ahead of this clock; they win over later writes"
            )
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
        self._decompressor = Decompressor()

    def run(self, pack: LivePack) -> CheckedPack | None:
        """Return the pack with its index; None where it has none that can be read."""
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
            self._check_footer(pack, index)
            rows = index.rows
        except UNREADABLE as error:
            self._without_footer(pack, error)
            return None
        self._findings.blobs += index.blob_count
        damaged = self._check_frames(pack, index, rows)
        return CheckedPack(pack, index, damaged)

    def _read(self, pack: LivePack, start: int, end: int) -> bytes:
        data = self._storage.read_range(pack.key, pack.offset + start, pack.offset + end)
        self._findings.bytes_read += len(data)
        return data

    # ---- the footer --------------------------------------------------------------------------------------------------

    def _check_footer(self, pack: LivePack, index: PackIndex) -> None:
        sections = index.footer.sections
        stated = (
            sum(section.count for section in sections),
            tuple(sorted(section.collection for section in sections)),
            max((section.stamp_max for section in sections), default=0),
            index.footer.origin,
        )
        record = pack.record
        recorded = (record.entries, tuple(sorted(record.collections)), record.stamp_max, record.origin)
        if stated != recorded:
            raise MalformedError(
                f"its footer says {stated}, the commit that adds it {recorded}", where=pack.key
            )
        limit = index.blob_count + len(index.footer.externals) // DIGEST_BYTES
        for section in sections:
            stamps = accumulate(
                unpack_column("q", section.stamps, section.count, where=pack.key), initial=section.stamp_min
            )
            if max(stamps) != section.stamp_max:
                raise MalformedError(f"the stamps of {section.collection!r} do not add up", where=pack.key)
            positions = accumulate(unpack_column("q", section.blobs, section.count, where=pack.key))
            if not all(0 <= p < limit or p == TOMBSTONE for p in positions):
                raise MalformedError(f"{section.collection!r} names blobs that are not there", where=pack.key)
            self._findings.entries += section.count
        end = sum(PACK_FRAME_HEADER_BYTES + row.stored_size for row in index.rows)
        if end != record.size - record.footer_size:
            raise MalformedError(f"its frames end at byte {end:,} by its footer", where=pack.key)

    def _gone(self, pack: LivePack, problem: str) -> None:
        self._name_collections(pack, self._findings.trouble("I3", pack.key, problem, unknown=True).touches)

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
        trouble = self._findings.trouble(invariant_of(error, "I7"), pack.key, problem, found, unknown=True)
        self._name_collections(pack, trouble.touches)

    def _name_collections(self, pack: LivePack, touches: set[str]) -> None:
        # Keys stand in the footer alone; the commit remembers whose they were.
        touches |= {f"{name}[*]" for name in pack.record.collections if not name.startswith(":")}

    # ---- the frames --------------------------------------------------------------------------------------------------

    def _check_frames(self, pack: LivePack, index: PackIndex, rows: list[BlobRow]) -> frozenset[bytes]:
        frames_size = pack.record.size - pack.record.footer_size
        problem, wrong = "", set[int]()
        try:
            if self._read_data:
                hasher = blake3(max_threads=hash_threads())
                wrong = self._wrong_headers(pack, rows, pack.record.size, hasher)
                actual = hasher.digest()
                sound = actual == pack.name.digest
                if not sound:
                    problem = f"its bytes hash to {actual.hex()[:16]}…, not to what its name says"
                wrong |= self._unreadable(pack, index, range(0, len(rows), SAMPLE_EVERY if sound else 1))
            elif frames_size < _READ_WHOLE_FRAME_BYTES * len(rows):
                wrong = self._wrong_headers(pack, rows, frames_size, None)
            else:
                wrong = {i for i, row in enumerate(rows) if not self._is_as_stated(pack, row)}
        except UNREADABLE as error:
            problem = told(error)
            wrong = set(range(index.blob_count))
        if wrong:
            problem = (
                f"{problem + '; ' if problem else ''}{len(wrong):,} of its {len(rows):,} blobs cannot be read"
            )
        lost = frozenset(bytes(index.digest(i)) for i in wrong)
        if problem:
            self._findings.trouble("I7", pack.key, problem, lost)
        return lost

    def _wrong_headers(
        self, pack: LivePack, rows: list[BlobRow], end: int, hasher: blake3 | None
    ) -> set[int]:
        """Return the positions of frames whose headers are not as the footer says; hash [0, end) in the same pass."""
        wrong: set[int] = set()
        first = 0
        for start in range(0, end, _PIECE_BYTES):
            data = self._read(pack, start, min(start + _PIECE_BYTES, end))
            if hasher is not None:
                hasher.update(data)
            inside = start + len(data) - _STATED.size
            last = bisect_right(rows, inside, lo=first, key=itemgetter(0))
            wrong |= _compared(data, rows, range(first, last), start)
            if last < len(rows) and rows[last].offset < start + len(data):
                # Its header lies across two pieces.
                if not self._is_as_stated(pack, rows[last]):
                    wrong.add(last)
                last += 1
            first = last
        return wrong

    def _is_as_stated(self, pack: LivePack, row: BlobRow) -> bool:
        return self._read(pack, row.offset, row.offset + _STATED.size) == _stated(row)

    def _unreadable(self, pack: LivePack, index: PackIndex, positions: range) -> set[int]:
        wrong: set[int] = set()
        for position in positions:
            try:
                self._open(pack, index, position)
            except UNREADABLE:
                wrong.add(position)
        return wrong

    def _open(self, pack: LivePack, index: PackIndex, position: int) -> bytes:
        row = index.row(position)
        digest = index.digest(position)
        dictionary = index.footer.dictionaries[row.dictionary - 1][0] if row.dictionary else bytes(8)
        known = dict(index.footer.dictionaries)
        raw = read_raw(
            self._read(pack, row.offset, row.offset + PACK_FRAME_HEADER_BYTES + row.stored_size),
            self._decompressor,
            dictionary,
            lambda identity: self._open(pack, index, known[identity]),
            where=index.where,
            offset=row.offset,
        )
        if row.kind == Kind.RECIPE:
            decode_recipe(raw, where=index.where)
        elif (actual := Digest.of(raw)) != digest:
            raise DigestMismatchError(f"{digest} reads as {actual}", expected=str(digest), actual=str(actual))
        return raw


def _stated(row: BlobRow) -> bytes:
    return _STATED.pack(PACK_FRAME_MAGIC, row.kind, row.codec, row.stored_size, row.raw_size)


def _compared(data: bytes, rows: list[BlobRow], positions: range, start: int) -> set[int]:
    """Return those of `positions` whose headers in `data`, which begins at byte `start`, are not as stated."""
    if not positions:
        return set()
    offsets, stored, raw, kinds, codecs, _ = zip(*rows[positions.start : positions.stop], strict=True)
    size = _STATED.size
    found = b"".join([data[offset - start : offset - start + size] for offset in offsets])
    # Three little-endian words a frame: all are compared at once, not one by one.
    words = array("I", bytes(size * len(positions)))
    magic = int.from_bytes(PACK_FRAME_MAGIC, "little")
    words[0::3] = array(
        "I", [magic | kind << 16 | codec << 24 for kind, codec in zip(kinds, codecs, strict=True)]
    )
    words[1::3] = array("I", stored)
    words[2::3] = array("I", raw)
    if sys.byteorder == "big":
        words.byteswap()
    if found == words.tobytes():
        return set()
    return {
        i
        for i, offset in zip(positions, offsets, strict=True)
        if data[offset - start : offset - start + size] != _stated(rows[i])
    }
