"""Finding out whether a medium can be trusted with a store that several write to.

Layer: storage. Some servers accept a condition and do not heed it, or heed it only while nobody else writes: a single
request shows neither. So writers race for fresh keys, and each round must have exactly one winner.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from keepstone.foundation.errors import (
    KeepstoneError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StoragePermissionError,
    UnsafeStorageError,
)
from keepstone.storage.base import Storage
from keepstone.storage.trouble import UNSAFE_HINT

PROBE_PREFIX: Final = "probe/"
THREADS: Final = 8
ROUNDS: Final = 20
PROBE_REQUESTS: Final = 7 + ROUNDS * (THREADS + 1) + ROUNDS + 1
"""What trying a medium out takes behind a `CreateGuard`: seven, the races, a look at each, and removing it all."""


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe found, where it found nothing wrong."""

    location: str
    threads: int
    rounds: int
    refused: int
    """How many writes came second, and were refused as they must be."""


def probe(storage: Storage, *, threads: int = THREADS, rounds: int = ROUNDS) -> ProbeReport:
    """Try out below `probe/` what rests on the medium; whatever comes of it, what was written is removed.

    Raises:
        UnsafeStorageError: it overwrites, has two winners, does not show what was written, or knows no condition. The
            message says which.
        StoragePermissionError: it may not be written or listed, so that nothing can be said.
        StorageError: it does not answer.
    """
    prefix = f"{PROBE_PREFIX}{os.urandom(8).hex()}/"
    _absent_is_absent(storage, f"{prefix}absent")
    written = [f"{prefix}first"]
    try:
        _second_is_refused(storage, written[0], prefix)
        written += [_key(prefix, at) for at in range(rounds)]
        refused = _race(storage, prefix, threads, rounds)
    finally:
        _clean_up(storage, written)
    return ProbeReport(location=storage.location, threads=threads, rounds=rounds, refused=1 + refused)


def _absent_is_absent(storage: Storage, key: str) -> None:
    try:
        storage.read(key)
    except ObjectNotFoundError:
        return
    except StoragePermissionError as error:
        # S3 says 403 for what is not there to whoever may not list: the end of the log would never be found.
        raise StoragePermissionError(
            f"{storage.location} does not say whether an object exists: {error.message}",
            path=error.path,
            hint="allow listing the bucket (s3:ListBucket) besides reading, writing and deleting",
        ) from error
    raise _unsafe(storage, f"{key}, which nobody wrote, can be read")


def _second_is_refused(storage: Storage, key: str, prefix: str) -> None:
    # A refusal of one's own, where somebody between sends a request twice, is settled by reading back.
    try:
        _wins(storage, key, b"first")
    except StoragePermissionError as error:
        raise StoragePermissionError(
            f"these credentials may read at {storage.location}, and not write there: {error.message}",
            path=error.path,
            hint=error.hint,
        ) from error
    try:
        found = storage.read(key)
    except ObjectNotFoundError:
        raise _unsafe(storage, "what was just written is not there") from None
    if found != b"first":
        raise _unsafe(storage, "what was just written reads as something else")
    if _wins(storage, key, b"second"):
        raise _unsafe(storage, "an object that existed was overwritten by a write that must not")
    if storage.read(key) != b"first":
        raise _unsafe(storage, "a refused write changed the object all the same")
    if key not in (info.key for info in storage.list(prefix)):
        raise _unsafe(storage, "what was just written is not listed")


def _race(storage: Storage, prefix: str, threads: int, rounds: int) -> int:
    barrier = threading.Barrier(threads)

    def run(number: int) -> list[bool]:
        won: list[bool] = []
        try:
            for at in range(rounds):
                barrier.wait()
                won.append(_wins(storage, _key(prefix, at), _bytes(number)))
        except BaseException:
            barrier.abort()
            raise
        return won

    with ThreadPoolExecutor(threads) as pool:
        try:
            futures = [pool.submit(run, number) for number in range(threads)]
            results = [_result(future.result) for future in futures]
        except BaseException:
            # The pool waits for its threads, which wait for each other: after Ctrl-C for all rounds that are left.
            barrier.abort()
            raise
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        # Where one thread failed the barrier broke for the others; that is no news.
        raise next(
            (error for error in failures if not isinstance(error, threading.BrokenBarrierError)), failures[0]
        )
    won = [result for result in results if not isinstance(result, BaseException)]
    for at in range(rounds):
        winners = [number for number in range(threads) if won[number][at]]
        if len(winners) > 1:
            raise _unsafe(
                storage, f"of {threads} writers of one key {len(winners)} were told that they had created it"
            )
        # Where nobody was told so, it must be somebody's all the same.
        if storage.read(_key(prefix, at)) not in map(_bytes, winners or range(threads)):
            raise _unsafe(
                storage, "an object holds the bytes of a writer that was told that it came too late"
            )
    return rounds * (threads - 1)


def _result(ask: Callable[[], list[bool]]) -> list[bool] | BaseException:
    try:
        return ask()
    except (KeepstoneError, threading.BrokenBarrierError) as error:
        return error


def _clean_up(storage: Storage, written: list[str]) -> None:
    def is_answered(key: str) -> bool:
        try:
            storage.delete(key)
        except StorageBusyError:
            return False
        except KeepstoneError:
            # It takes up a few bytes; an error here would hide the one that matters.
            pass
        return True

    # Where nobody answers any more, asking about the rest would only keep the caller waiting.
    if is_answered(written[0]):
        with ThreadPoolExecutor(storage.reads_at_once) as pool:
            list(pool.map(is_answered, written[1:]))


def _wins(storage: Storage, key: str, data: bytes) -> bool:
    try:
        storage.write_new(key, data)
    except ObjectExistsError:
        return False
    return True


def _key(prefix: str, at: int) -> str:
    return f"{prefix}{at:02}"


def _bytes(number: int) -> bytes:
    return b"writer %d\n" % number * 100


def _unsafe(storage: Storage, what: str) -> UnsafeStorageError:
    return UnsafeStorageError(
        f"{storage.location} cannot keep a store that several write to: {what}",
        path=storage.location,
        hint=UNSAFE_HINT,
    )
