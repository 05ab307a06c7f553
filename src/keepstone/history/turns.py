"""Turns: writers who crowd at one log let pass who has waited longest, so that nobody starves.

Layer: history. Whoever appended last goes last: the log itself says who appends, and when, so all agree on an order
without asking each other. It is politeness and no rule: who does not keep to it, is slow or has gone away costs a
moment, never a commit. On media where reading costs no waiting all simply try.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from keepstone.history.commit import Commit

RECENT_COMMITS: Final = 8
"""How fast the log grows is seen from so many."""
KNOWN_COMMITS: Final = 64
"""Whoever has none of so many newest commits is not known any more: programs that append once never come again."""
RECENT_SECONDS: Final = 10.0
"""After so long without any commit nobody is waited for."""
CROWDED: Final = 2.0
"""The log is crowded where commits follow each other in less than so many times of making one."""
PATIENCE: Final = 2.5
"""Whoever is next may take so many times of making a commit, before who comes after goes instead."""
SILENCE_SECONDS_MAX: Final = 3.0
"""After so long without any commit all try, however many are next."""
PAUSE_SECONDS_MAX: Final = 1.0
AHEAD_MAX: Final = 16
NEWS_MAX: Final = 64
ALONE: Final = 8
"""Whoever appends alone, and fast, lets others pass that often: they would not be heard of else."""
_WRITE_SECONDS: Final = 0.05
_READ_SECONDS: Final = 0.02
_WEIGHT: Final = 0.2
"""Of the newest measurement."""
_MEASURED_SECONDS_MAX: Final = 1.0
"""What took longer was tried again and again, and says nothing of how long the next one takes."""


class Turns:
    """Who appends to one log, in which order. All but `hear` is for whoever holds the log's lock for appending."""

    def __init__(self, writer: bytes, *, now: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._now = now
        self._last: dict[bytes, int] = {}
        """The number of each writer's newest commit, of those who append these days; the oldest first."""
        self._times: deque[int] = deque([0], maxlen=RECENT_COMMITS)
        self._news: deque[Commit] = deque(maxlen=NEWS_MAX)
        self._number = -1
        """Of the newest commit that was learned from."""
        self._waited = 0.0
        """How long it is, of the time spent waiting here, that nothing was heard of others [s]."""
        self._heard = -math.inf
        """When the newest commits were heard of."""
        self._looked = now()
        self._opened = -1
        """The slot before which those whom nobody knows were let pass."""
        self._lost = False
        """Whether a slot was lost since the last news."""
        self._write_seconds = _WRITE_SECONDS
        self._read_seconds = _READ_SECONDS

    def after_fork(self, writer: bytes) -> None:
        """In a forked child: another writer, who has appended nothing yet."""
        self._writer = writer

    def hear(self, commits: Sequence[Commit]) -> None:
        """Take note of commits that are new here, in their order; from any thread."""
        if commits:
            self._heard = self._now()
            self._news.extend(commits)

    def note(self, commits: Sequence[Commit] = ()) -> None:
        """Learn from what was heard, and from these commits."""
        self.hear(commits)
        while self._news:
            self._learn(self._news.popleft())

    def _learn(self, commit: Commit) -> None:
        if commit.number <= self._number:
            return
        if commit.time > self._times[-1] + RECENT_SECONDS * 1e9:
            self._last.clear()
            self._times.clear()
        self._number = commit.number
        self._times.append(commit.time)
        self._last.pop(commit.writer, None)
        self._last[commit.writer] = commit.number
        # Who was passed over twice in a round has gone.
        gone = commit.number - min(2 * len(self._last), KNOWN_COMMITS)
        for writer in [writer for writer, number in self._last.items() if number < gone]:
            del self._last[writer]
        self._waited = 0.0
        self._lost = False

    def note_loss(self) -> None:
        """Take note of a slot that another one got."""
        self._lost = True

    def note_write(self, seconds: float) -> None:
        """Learn how long it took to make a commit."""
        self._write_seconds += _WEIGHT * (min(seconds, _MEASURED_SECONDS_MAX) - self._write_seconds)

    def note_read(self, seconds: float) -> None:
        """Learn how long it took to look for others' commits."""
        self._read_seconds += _WEIGHT * (min(seconds, _MEASURED_SECONDS_MAX) - self._read_seconds)
        self._waited += seconds
        self._looked = self._now() - seconds

    def note_look(self) -> None:
        """Learn that all news were looked for just now."""
        self._looked = self._now()

    @property
    def has_others(self) -> bool:
        """Whether others append as well."""
        return len(self._last) > (self._writer in self._last)

    @property
    def should_look(self) -> bool:
        """Whether there may be news that count before a slot is claimed; who has to wait looks afterwards."""
        return self.has_others and not (self._is_crowded and self._rank())

    @property
    def ahead(self) -> int:
        """How many new commits are to be expected, so that they are read at once."""
        if not self._is_recent:
            # How fast the log grew before a quiet time says nothing.
            return 1
        return max(1, min(AHEAD_MAX, round((self._now() - self._looked) / self._interval)))

    def pause(self, number: int) -> float:
        """Return how long to wait [s] before looking for news, or claiming slot `number` if there are none.

        0 when it is one's turn.
        """
        if not self._is_crowded:
            return 0.0
        rank = self._rank()
        if not rank:
            return self._door(number)
        if self._waited >= min(rank * PATIENCE * self._cycle, SILENCE_SECONDS_MAX):
            # They have nothing to say.
            for writer in list(self._last)[:rank]:
                del self._last[writer]
            self._lost = False
            return 0.0
        # Too early costs a read, too late everybody's time.
        pause = 0.7 * (rank - 1) * self._cycle - self._waited
        return min(PAUSE_SECONDS_MAX, max(pause, self._read_seconds / 4))

    def note_pause(self, seconds: float) -> None:
        """Take note of a pause that was made."""
        self._waited += seconds

    def _door(self, number: int) -> float:
        """Return how long to let those pass whom nobody knows yet, once in so many slots."""
        is_due = number % (1 + max(ALONE, len(self._last))) == 0
        if not is_due or self._opened == number or self._writer not in self._last:
            return 0.0
        self._opened = number
        return min(PAUSE_SECONDS_MAX, self._cycle)

    def _rank(self) -> int:
        """Return how many go first."""
        if self._writer in self._last:
            return list(self._last).index(self._writer)
        # A claim that is made as soon as another commit is seen comes as early as that of who is next.
        return int(self._lost)

    @property
    def _cycle(self) -> float:
        """How long a commit takes, from one to the next [s]."""
        return self._write_seconds + self._read_seconds

    @property
    def _interval(self) -> float:
        """How long it is from one commit to the next, as it was of late [s]."""
        if len(self._times) < 2:
            return self._cycle
        return max(self._cycle, (self._times[-1] - self._times[0]) / 1e9 / (len(self._times) - 1))

    @property
    def _is_recent(self) -> bool:
        return self._now() - self._heard < RECENT_SECONDS

    @property
    def _is_crowded(self) -> bool:
        return self._is_recent and len(self._times) > 1 and self._interval < CROWDED * self._cycle
