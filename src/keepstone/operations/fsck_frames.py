"""Checking the frames of one pack: a digest of all its bytes, and frames opened one by one where that is needed.

Layer: operations. Format: docs/format.md §3. A pack is read in small pieces, each of which is hashed while the
processor still holds it; memory does not grow with the pack.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from blake3 import blake3

from keepstone.blobs.compression import Decompressor
from keepstone.blobs.footer import PackIndex
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES, quick_raw, read_raw
from keepstone.blobs.recipe import decode_recipe
from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import PACK_FRAME_MAGIC, Kind
from keepstone.foundation.frame import NO_DICTIONARY
from keepstone.operations.findings import UNREADABLE

_STATED: Final = struct.Struct("<2sBBII")
"""What header and footer both say of a frame."""
_PIECE_BYTES: Final = 256 * 1024
"""Read at once; larger pieces leave the processor's caches and cost page faults."""
PIECE_BYTES_FAR: Final = 8 * 1024 * 1024
"""... where each read is a request."""
SAMPLE_EVERY: Final = 100
"""One frame of so many is opened in a pack whose bytes are right."""
HEADERS_MAX: Final = 100
"""About so many headers are read of a pack whose bytes are not."""
HEADERS_MAX_FAR: Final = 4
"""... where each read is a request."""

Read = Callable[[int, int], bytes]
"""Returns bytes [start, end) of the pack."""


class FramesCheck:
    """The frames of one pack whose footer can be read and adds up."""

    def __init__(
        self, index: PackIndex, read: Read, decompressor: Decompressor, *, is_far: bool = False
    ) -> None:
        """`is_far`: each read waits."""
        self._is_far = is_far
        self._index = index
        self._read = read
        self._decompressor = decompressor
        self._frames = index.frames
        self._digests = index.footer.digests
        self._dictionaries = dict(index.footer.dictionaries)
        self._identities = [NO_DICTIONARY, *self._dictionaries]

    def hash_and_sample(self, size: int) -> tuple[bytes, set[int]]:
        """Return the digest of the pack's `size` bytes, and which frames of a sample are not what they should be."""
        sample: list[tuple[int, int, bytes | None]] = []
        waiting = deque(self._sample(SAMPLE_EVERY))
        hasher = blake3()
        piece_bytes = PIECE_BYTES_FAR if self._is_far else _PIECE_BYTES
        for start in range(0, size, piece_bytes):
            data = self._read(start, min(start + piece_bytes, size))
            hasher.update(data)
            end = start + len(data)
            while waiting and waiting[0][1] < end:
                position, first = waiting.popleft()
                last = self._end(position, first)
                # One that lies across two pieces is read once more.
                is_inside = start <= first and last <= end
                sample.append((position, first, data[first - start : last - start] if is_inside else None))
        # Opened at the end: hashing in between would push their dictionary out of the processor's caches each time.
        return hasher.digest(), {
            position for position, first, frame in sample if not self._is_sound(position, first, frame)
        }

    def unreadable(self) -> set[int]:
        """Return the positions of all frames that a reader may refuse: also for their check alone."""
        wrong: set[int] = set()
        for position, start in enumerate(self._index.offsets):
            try:
                self._open(position, start, self._read(start, self._end(position, start)))
            except UNREADABLE:
                wrong.add(position)
        return wrong

    def wrong_headers(self) -> set[int]:
        """Return those of some evenly spread frames whose headers are not as the footer says."""
        return {
            position
            for position, start in self._sample(self._headers_every)
            if self._read(start, start + _STATED.size) != self._stated(position)
        }

    def headers(self) -> Iterator[tuple[int, int]]:
        """Yield first byte and end of what `wrong_headers` reads."""
        for _, start in self._sample(self._headers_every):
            yield start, start + _STATED.size

    @property
    def _headers_every(self) -> int:
        return max(1, -(-self._index.blob_count // (HEADERS_MAX_FAR if self._is_far else HEADERS_MAX)))

    def _sample(self, every: int) -> Iterator[tuple[int, int]]:
        """Yield position and first byte of one frame of `every`; adds up sizes, which is quicker than all offsets."""
        sizes, start = self._frames.stored_sizes, 0
        for position in range(0, self._index.blob_count, every):
            yield position, start
            start += sum(sizes[position : position + every]) + every * PACK_FRAME_HEADER_BYTES

    def _end(self, position: int, start: int) -> int:
        return start + PACK_FRAME_HEADER_BYTES + self._frames.stored_sizes[position]

    def _stated(self, position: int) -> bytes:
        frames = self._frames
        return _STATED.pack(
            PACK_FRAME_MAGIC,
            frames.kinds[position],
            frames.codecs[position],
            frames.stored_sizes[position],
            frames.raw_sizes[position],
        )

    def _is_sound(self, position: int, start: int, frame: bytes | None) -> bool:
        try:
            if frame is None:
                frame = self._read(start, self._end(position, start))
            # As a reader does; what does not pass is looked at closely, and so is what no digest is stated of.
            raw = quick_raw(frame, self._decompressor, self._dictionary_of(position))
            if raw is not None and frame.startswith(self._stated(position)):
                stated = self._digests[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES]
                if blake3(raw).digest() == stated:
                    return True
            self._open(position, start, frame)
        except UNREADABLE:
            return False
        return True

    def _dictionary_of(self, position: int) -> bytes:
        return self._identities[self._frames.dictionaries[position]]

    def _open(self, position: int, start: int, data: bytes) -> bytes:
        index, where = self._index, self._index.where
        if data[: _STATED.size] != self._stated(position):
            raise MalformedError(f"{where} has another frame at byte {start} than it says", where=where)
        raw = read_raw(
            data,
            self._decompressor,
            self._dictionary_of(position),
            self._dictionary,
            where=where,
            offset=start,
        )
        if self._frames.kinds[position] == Kind.RECIPE:
            decode_recipe(raw, where=where)
        elif Digest.of(raw) != index.digest(position):
            raise MalformedError(f"{where} has another blob at byte {start} than it says", where=where)
        return raw

    def _dictionary(self, identity: bytes) -> bytes:
        # A footer that adds up has no dictionary that needs another.
        position = self._dictionaries[identity]
        start = self._index.offsets[position]
        return self._open(position, start, self._read(start, self._end(position, start)))


def digests_at(index: PackIndex, positions: Iterable[int]) -> frozenset[bytes]:
    """Return the digests of the blobs at `positions`."""
    return frozenset(bytes(index.digest(i)) for i in positions)
