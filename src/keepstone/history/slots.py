"""The slots of the log: reading commits by number, and claiming the next one.

Layer: history. Slots are probed by key and never listed. A slot that is taken stays taken, so what `claim`
learns about one is final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Final

from keepstone.foundation.errors import (
    DivergedError,
    MalformedError,
    NotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
)
from keepstone.foundation.format import LOG_PREFIX, log_key
from keepstone.history.commit import Commit, decode_commit, header_size_of, where_is
from keepstone.storage.base import Storage

HEADER_BYTES_GUESS: Final = 16 * 1024
"""The first read of a slot; most headers are shorter, a longer one takes a second read."""
SINGLE_READS: Final = 4
"""Commits read one by one before a tail is taken to be long and read in parallel."""
PUTS_MAX: Final = 6
"""How often the same bytes are offered to a slot that stays empty."""
_SPENT: Final = (StorageFullError, StoragePermissionError, StorageBusyError)
"""Errors that offering the same once more does not help: a medium that did not answer has been asked patiently."""
WAIT_SECONDS_FIRST: Final = 0.002
WAIT_SECONDS_MAX: Final = 1.0


class Slots:
    """The numbered commits of one store on one storage. Holds no state, so any thread may use it."""

    def __init__(
        self,
        storage: Storage,
        store_id: bytes,
        *,
        sleep: Callable[[float], None],
        random: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._store_id = store_id
        self._sleep = sleep
        self._random = random

    def find(self, number: int) -> Commit | None:
        """Return commit `number`, or None while its slot is free. One read; inline bytes are not looked at.

        Damage in an inline pack costs the blobs in it; it must not make the log unreadable.

        Raises:
            CorruptionError: the header is damaged, or belongs to another number.
            DivergedError: the commit belongs to another store.
            UnsupportedFormatError: written by a newer release.
        """
        key, where = log_key(number), where_is(number)
        try:
            data = self._storage.read_range(key, 0, HEADER_BYTES_GUESS)
            size = header_size_of(data, where=where)
            if size > len(data) == HEADER_BYTES_GUESS:
                data += self._storage.read_range(key, HEADER_BYTES_GUESS, size)
        except ObjectNotFoundError:
            return None
        commit = decode_commit(data[:size], where=where)
        if commit.number != number:
            raise MalformedError(
                f"{where} holds commit {commit.number}", where=where, hint="run `keepstone fsck`"
            )
        if commit.store != self._store_id:
            raise DivergedError(
                f"{where} was written for store {commit.store.hex()}, not for {self._store_id.hex()}",
                hint="two stores were mixed in one place; restore the log from a copy",
            )
        return commit

    def get(self, number: int) -> Commit:
        """Return commit `number`.

        Raises:
            NotFoundError: the log is not that long.
        """
        commit = self.find(number) if number >= 0 else None
        if commit is None:
            raise NotFoundError(f"the log has no commit {number}", hint="`keepstone history` lists them")
        return commit

    def tail(self, first: int, ahead: int = 1, *, looks_behind: bool = False) -> Iterator[list[Commit]]:
        """Yield the commits from `first` to the tip, in lists; a long tail is read in parallel.

        `ahead`: about how many reads it will take. `looks_behind`: also if there is just one commit or none, and so
        one read found the end.

        Raises:
            MalformedError: a slot is empty although the one behind it is taken.
        """
        window = self._storage.reads_at_once
        if ahead > 1 and window > 1:
            yield from self._tail_in_parallel(first, window, ahead, looks_behind=looks_behind)
            return
        singles = SINGLE_READS
        while window == 1 or singles:
            commit = self.find(first)
            if commit is None:
                if (looks_behind or not singles) and self.find(first + 1) is not None:
                    self.require(first)
                    continue
                return
            yield [commit]
            first += 1
            singles = max(0, singles - 1)
        yield from self._tail_in_parallel(first, window, SINGLE_READS, looks_behind=looks_behind)

    def _tail_in_parallel(
        self, first: int, limit: int, ahead: int, *, looks_behind: bool
    ) -> Iterator[list[Commit]]:
        from concurrent.futures import ThreadPoolExecutor

        window = min(limit, ahead)
        with ThreadPoolExecutor(limit) as pool:
            while True:
                numbers = range(first, first + window)
                try:
                    found = list(pool.map(self.find, numbers))
                except RuntimeError:
                    # At exit no thread can be started any more, and closing a store still reads the log.
                    found = [self.find(number) for number in numbers]
                present = [commit for commit in takewhile(bool, found) if commit is not None]
                if present:
                    yield present
                first += len(present)
                if any(found[len(present) :]):
                    # A later slot is taken: so this one was taken after the read that missed it, or is lost.
                    self.require(first)
                elif len(present) < window:
                    # One read alone found the end where the others were all taken.
                    if len(present) < window - 1 or not looks_behind or self.find(first + 1) is None:
                        return
                    self.require(first)
                # As long as there was, so much may be to come: reads behind the tip cost as much as others.
                window = min(2 * window, limit)

    def require(self, number: int) -> None:
        """Return if slot `number`, before one that is taken, is taken too.

        Raises:
            MalformedError: the log has a gap.
        """
        if self.find(number) is None:
            raise MalformedError(
                f"{where_is(number)} is missing although a later commit exists",
                where=where_is(number),
                hint="bring the file back from a copy of the store; nothing was changed",
            )

    def claim(self, commit: Commit, data: bytes, ahead: int = 1) -> list[Commit]:
        """Return the commits that now stand from the slot of `commit` on; the first has its txn, or another one won.

        While the outcome is unknown the same bytes are offered to the same slot again (rule 6). `ahead`: how many
        commits to look for at once where another one won.

        Raises:
            StorageError: with `landed=True` the commit stands; otherwise that is unknown, it may yet land.
        """
        key = log_key(commit.number)
        failure: StorageError | None = None
        for attempt in range(PUTS_MAX):
            if attempt:
                self.wait(attempt)
            try:
                self._storage.write_new(key, data)
                return [commit]
            except ObjectExistsError:
                pass
            except StorageError as error:
                if error.landed:
                    raise
                failure = failure or error
            try:
                found = next(self.tail(commit.number, ahead), None)
            except StorageError as error:
                failure = failure or error
                if isinstance(failure, _SPENT):
                    break
                continue
            if found:
                return found
            if isinstance(failure, _SPENT):
                break
        raise failure or StorageError(
            f"{self._storage.location}/{key} is said to exist, but reading finds nothing",
            path=f"{self._storage.location}/{key}",
            hint="the medium contradicts itself; check its caching",
        )

    def wait(self, attempt: int) -> None:
        """Sleep for a random part of a time that doubles with each attempt, up to a second."""
        self._sleep(min(WAIT_SECONDS_MAX, WAIT_SECONDS_FIRST * 2 ** min(attempt, 16)) * self._random())

    def settle(self) -> None:
        """Make durable what others wrote to the log and this process has seen."""
        self._storage.settle(LOG_PREFIX)


def in_batches(tail: Iterator[list[Commit]], size: int) -> Iterator[list[Commit]]:
    """Yield the commits of a tail in lists of at least `size`, but for the last."""
    batch: list[Commit] = []
    for commits in tail:
        batch += commits
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
