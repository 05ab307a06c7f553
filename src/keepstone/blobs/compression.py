"""Compression of blobs: zstd alone, or with a dictionary trained on the blobs of one pack.

Layer: blobs. Format: docs/format.md §3. Small JSON texts shrink to a quarter with a dictionary and to a half without;
a random read then costs one small decompression, where a group of texts would cost a large one.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import zstandard

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.frame import NO_DICTIONARY, check_claims

SEAL_LEVEL: Final = 3
"""Source: benchmarks/bench_size.py; 11 µs a record of 1.9 KB."""
MERGE_LEVEL: Final = 12
"""A tenth smaller than level 3 for seven times the work, paid once in the background."""
TRIAL_LEVEL: Final = 1
DICTIONARY_RAW_BYTES_MIN: Final = 512 * 1024
"""Below it a dictionary costs more than it brings (docs/decisions/0004)."""
DICTIONARY_BYTES_MAX: Final = 64 * 1024
DICTIONARY_BLOB_BYTES_MAX: Final = 64 * 1024
"""Larger blobs carry enough of their own patterns."""
_TRIAL_BYTES: Final = 16 * 1024
_TRIAL_BLOB_BYTES_MIN: Final = 64 * 1024
"""Smaller blobs are compressed at once: that is hardly more work than a trial."""
_SAMPLE_BYTES_MAX: Final = 4 * 1024 * 1024
_SAMPLES_MIN: Final = 16
_DIGESTED_MAX: Final = 64
_THREADS_MAX: Final = 8
"""Each has a context of some MiB."""
_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024


class Dictionary:
    """A zstd dictionary, known by the first 8 bytes of its digest."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.digest = Digest.of(content)
        self.id = bytes(self.digest[:8])


def train(blobs: Sequence[bytes], raw_bytes: int) -> Dictionary | None:
    """Return a dictionary for `blobs` (of `raw_bytes` bytes in all), or None where it would not pay.

    Its size is a hundredth of the content, at most 64 KB; training reads at most 4 MiB of evenly spread samples.
    """
    if raw_bytes < DICTIONARY_RAW_BYTES_MIN or len(blobs) < _SAMPLES_MIN:
        return None
    step = max(1, -(-raw_bytes // _SAMPLE_BYTES_MAX))
    size = min(DICTIONARY_BYTES_MAX, raw_bytes // 100)
    try:
        trained = zstandard.train_dictionary(size, list(blobs[::step]), k=200, d=8)
    except zstandard.ZstdError:
        # Too few or too uniform samples: zstd refuses to train, and the blobs do without.
        return None
    return Dictionary(trained.as_bytes())


def is_compressible(raw: bytes, trial: zstandard.ZstdCompressor | None = None) -> bool:
    """Whether compressing `raw` is worth trying: small, or a sample of its middle shrinks by 3 % at least.

    `trial` is a compressor for many trials, by one thread at a time.
    """
    if len(raw) < _TRIAL_BLOB_BYTES_MIN:
        return True
    middle = len(raw) // 2
    sample = raw[middle : middle + _TRIAL_BYTES]
    return len((trial or new_compressor(TRIAL_LEVEL)).compress(sample)) < 0.97 * len(sample)


def new_compressor(level: int) -> zstandard.ZstdCompressor:
    """Return what makes zstd frames, one after the other; making it costs more than compressing a small blob."""
    return zstandard.ZstdCompressor(level=level, write_content_size=False)


def compress_many(
    blobs: Sequence[bytes], level: int, dictionary: Dictionary | None, *, in_parallel: bool = False
) -> list[bytes]:
    """Return each of `blobs` as one zstd frame, compressed in batches without holding the interpreter lock.

    By several threads where `in_parallel` says that nothing else goes on meanwhile.
    """
    data = zstandard.ZstdCompressionDict(dictionary.content) if dictionary else None
    compressor = zstandard.ZstdCompressor(level=level, dict_data=data, write_content_size=False)
    if not hasattr(compressor, "multi_compress_to_buffer"):
        return [compressor.compress(raw) for raw in blobs]
    threads = min(os.cpu_count() or 1, _THREADS_MAX) if in_parallel else 0
    stored: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for raw in blobs:
        # zstandard's batch call does not take empty inputs.
        if not raw:
            stored.extend(_compress_batch(compressor, batch, threads))
            stored.append(compressor.compress(raw))
            batch, size = [], 0
            continue
        batch.append(raw)
        size += len(raw)
        if size >= _BATCH_BYTES_MAX:
            stored.extend(_compress_batch(compressor, batch, threads))
            batch, size = [], 0
    stored.extend(_compress_batch(compressor, batch, threads))
    return stored


def _compress_batch(compressor: zstandard.ZstdCompressor, batch: list[bytes], threads: int) -> list[bytes]:
    if not batch:
        return []
    result = compressor.multi_compress_to_buffer(cast(Any, batch), threads=threads)
    return [result[i].tobytes() for i in range(len(result))]


class Decompressor:
    """Decompresses frames; keeps at most 64 digested dictionaries, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: OrderedDict[bytes, zstandard.ZstdCompressionDict] = OrderedDict()
        self._local = threading.local()

    def at_hand(self, dictionary: bytes) -> zstandard.ZstdDecompressor | None:
        """Return this thread's context for a dictionary, if it was used before."""
        contexts: dict[bytes, zstandard.ZstdDecompressor] | None = getattr(self._local, "contexts", None)
        return None if contexts is None else contexts.get(dictionary)

    def decompress(
        self,
        stored: bytes | memoryview,
        raw_size: int,
        dictionary: bytes,
        load_dictionary: Callable[[bytes], bytes],
        *,
        where: str,
        offset: int,
    ) -> bytes:
        """Return `stored` decompressed to at most `raw_size` bytes, with the dictionary of that id if it is not zero.

        Raises:
            MalformedError: it is not zstd, or would be longer.
        """
        context = self._context(dictionary, load_dictionary)
        try:
            check_claims(stored, raw_size, where=where, offset=offset)
            return context.decompress(stored, max_output_size=raw_size)
        except zstandard.ZstdError as error:
            raise MalformedError(
                f"{where} cannot be decompressed at byte {offset}: {error}", where=where, offset=offset
            ) from error

    def _context(
        self, dictionary: bytes, load_dictionary: Callable[[bytes], bytes]
    ) -> zstandard.ZstdDecompressor:
        # Decompression contexts are not safe to share between threads; digested dictionaries are.
        contexts: dict[bytes, zstandard.ZstdDecompressor] | None = getattr(self._local, "contexts", None)
        if contexts is None:
            contexts = self._local.contexts = {}
        context = contexts.get(dictionary)
        if context is None:
            if len(contexts) >= _DIGESTED_MAX:
                contexts.clear()
            if dictionary == NO_DICTIONARY:
                context = zstandard.ZstdDecompressor()
            else:
                context = zstandard.ZstdDecompressor(dict_data=self._digested(dictionary, load_dictionary))
            contexts[dictionary] = context
        return context

    def _digested(
        self, dictionary: bytes, load_dictionary: Callable[[bytes], bytes]
    ) -> zstandard.ZstdCompressionDict:
        with self._lock:
            digested = self._contexts.get(dictionary)
            if digested is not None:
                self._contexts.move_to_end(dictionary)
                return digested
        digested = zstandard.ZstdCompressionDict(load_dictionary(dictionary))
        with self._lock:
            self._contexts[dictionary] = digested
            while len(self._contexts) > _DIGESTED_MAX:
                self._contexts.popitem(last=False)
        return digested
