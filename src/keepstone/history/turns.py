"""Turns: writers who crowd at one log let pass who has waited longest, so that nobody starves.

Layer: history. Whoever appended last goes last: the log itself says who appends, and when, so all agree on an order
without asking each other. Who wins nothing is not in the log, and says in a hint that it waits; whoever keeps winning
asks for that now and then. It is politeness and no rule: who does not keep to it, is slow or has gone away costs a
moment, never a commit. On media where reading costs no waiting all simply try.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from keepstone.history.commit import Commit
from keepstone.history.waiting import Waiting, read_waiting, write_waiting
from keepstone.storage.base import Storage

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
LOSSES: Final = 3
"""Whoever lost so many slots says that it waits."""
ASK_SLOTS: Final = 8
"""Before every so many slots whoever is next asks who waits, unless it has itself appended fewer so far."""
COURTESY_SECONDS: Final = 3.0
"""Whoever says that it waits gets so long, once."""
PACE_SECONDS_MAX: Final = 0.5
"""Nobody is taken to need longer for a commit."""
LANDED_COMMITS: Final = 256
"""Whoever said before so many commits that it waits has gone."""
_WRITE_SECONDS: Final = 0.05
_READ_SECONDS: Final = 0.02
_WEIGHT: Final = 0.2
"""Of the newest measurement."""
_MEASURED_SECONDS_MAX: Final = 1.0
"""What took longer was tried again and again, and says nothing of how long the next one takes."""


class Turns:
    """Who appends to one log, in which order. All but `hear` is for whoever holds the log's lock for appending."""

    def __init__(self, storage: Storage, writer: bytes, *, now: Callable[[], float] = time.monotonic) -> None:
        self._storage = storage
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
        self._unread = 0
        """How often in a row a look did not come to the end of the log."""
        self._landed: deque[tuple[int, bytes]] = deque(maxlen=LANDED_COMMITS)
        """Number and writer of the newest commits, without a gap."""
        self._own = 0
        """How many commits of its own this writer made since there was a quiet time."""
        self._asked = -1
        """The slot before which it was asked who waits."""
        self._asks_again = False
        """Whether to ask before the next slot, whatever its number."""
        self._heeded: Waiting | None = None
        """What was heard last of who waits."""
        self._guest: Waiting | None = None
        """Whoever goes first because it waits."""
        self._courtesy = 0.0
        """How long it has been waited for [s]."""
        self._pace = 0.0
        """How long a commit takes whoever said last that it waits [s]."""
        self._pace_heard = -math.inf
        """When that was heard."""
        self._lost = False
        """Whether a slot was lost since the last news."""
        self._losses = 0
        """How many were lost since one was won, or since it was said that this writer waits."""
        self._has_told = False
        """Whether that was said since a slot was won."""
        self._write_seconds = _WRITE_SECONDS
        self._read_seconds = _READ_SECONDS

    def after_fork(self, writer: bytes) -> None:
        """In a forked child: another writer, who has appended nothing yet."""
        self._writer = writer
        self._own = 0

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
            self._own = 0
        if commit.number != self._number + 1:
            self._landed.clear()
        self._number = commit.number
        self._landed.append((commit.number, commit.writer))
        self._own += commit.writer == self._writer
        if self._guest is not None and self._has_landed(self._guest):
            self._guest = None
            # Meanwhile others may have said that they wait.
            self._asks_again = True
        self._times.append(commit.time)
        self._last.pop(commit.writer, None)
        self._last[commit.writer] = commit.number
        # Who was passed over twice in a round has gone.
        gone = commit.number - min(2 * len(self._last), KNOWN_COMMITS)
        for writer in [writer for writer, number in self._last.items() if number < gone]:
            del self._last[writer]
        self._waited = 0.0
        self._lost = False

    def note_loss(self, seconds: float) -> None:
        """Take note of a slot that another one got, and how long it took to try, and to read what stands there."""
        self._lost = True
        self._losses += 1
        self._learn_write(max(0.0, seconds - self._read_seconds))

    def note_write(self, seconds: float) -> None:
        """Learn how long it took to make a commit."""
        self._losses = 0
        self._has_told = False
        self._learn_write(seconds)

    def _learn_write(self, seconds: float) -> None:
        self._write_seconds += _WEIGHT * (min(seconds, _MEASURED_SECONDS_MAX) - self._write_seconds)

    def note_read(self, seconds: float, *, is_all: bool) -> None:
        """Learn how long it took to look for others' commits, and whether there were no more of them."""
        self._unread = 0 if is_all else self._unread + 1
        self._read_seconds += _WEIGHT * (min(seconds, _MEASURED_SECONDS_MAX) - self._read_seconds)
        self._waited += seconds
        self._courtesy += seconds
        self._looked = self._now() - seconds

    def note_look(self) -> None:
        """Learn that all news were looked for just now."""
        self._looked = self._now()

    @property
    def has_others(self) -> bool:
        """Whether others append as well."""
        return self._guest is not None or len(self._last) > (self._writer in self._last)

    def should_look(self, losses: int) -> bool:
        """Whether there may be news that count before a slot is claimed; who has to wait looks afterwards.

        What was read with a slot that was lost is new enough, unless one lost too many.
        """
        if self._has_told:
            return self.has_others
        return not losses and self.has_others and not (self._is_crowded and self._rank())

    @property
    def ahead(self) -> int:
        """How many new commits are to be expected, so that they are read at once."""
        if not self._is_recent:
            # How fast the log grew before a quiet time says nothing.
            return 1
        expected = round((self._now() - self._looked) / self._interval)
        # Who reads too few again and again falls behind more and more.
        return max(1, min(AHEAD_MAX, max(expected, 2 ** (self._unread - 2))))

    def pause(self, number: int) -> float:
        """Return how long to wait [s] before looking for news, or claiming slot `number` if there are none.

        0 when it is one's turn. Whoever is first may ask who waits: a read.
        """
        is_crowded = self._is_crowded
        rank = self._rank() if is_crowded else 0
        if is_crowded and not rank and self._should_ask(number):
            self._heed(number, read_waiting(self._storage))
        if self._guest is not None:
            if self._courtesy < COURTESY_SECONDS:
                return self._cycle / 2
            self._guest = None
        if not rank:
            return 0.0
        if self._waited >= min(rank * PATIENCE * self._slower_cycle, SILENCE_SECONDS_MAX):
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
        self._courtesy += seconds

    def tell(self, number: int) -> None:
        """Say that this writer waits for slot `number`, if it lost too many; whether that works makes no difference."""
        if self._losses >= LOSSES:
            self._losses = 0
            self._has_told = True
            write_waiting(self._storage, Waiting(self._writer, number, int(self._cycle * 1e9)))

    def _should_ask(self, number: int) -> bool:
        is_due = self._asks_again or (number % ASK_SLOTS == 0 and self._asked != number)
        return is_due and self._guest is None and self._writer in self._last and self._own >= ASK_SLOTS

    def _heed(self, number: int, waiting: Waiting | None) -> None:
        """Let go first who waits, if that is news, and it has made no commit since."""
        self._asked, self._asks_again = number, False
        if waiting is None or waiting == self._heeded or waiting.writer == self._writer:
            return
        self._heeded = waiting
        if waiting.number < self._landed[0][0]:
            # It is long ago, or nobody here knows what came of it; whoever waits still says so again.
            return
        self._pace = min(PACE_SECONDS_MAX, max(self._others_pace, waiting.nanoseconds / 1e9))
        self._pace_heard = self._now()
        if not self._has_landed(waiting):
            self._guest, self._courtesy = waiting, 0.0

    def _has_landed(self, waiting: Waiting) -> bool:
        return any(number >= waiting.number and writer == waiting.writer for number, writer in self._landed)

    def _rank(self) -> int:
        """Return how many go first."""
        if self._writer in self._last:
            return list(self._last).index(self._writer)
        # A claim that is made as soon as another commit is seen comes as early as that of who is next. Who has said
        # that it waits may be waited for.
        return int(self._lost and not self._has_told)

    @property
    def _cycle(self) -> float:
        """How long a commit takes, from one to the next [s]."""
        return self._write_seconds + self._read_seconds

    @property
    def _others_pace(self) -> float:
        return self._pace if self._now() - self._pace_heard < RECENT_SECONDS else 0.0

    @property
    def _slower_cycle(self) -> float:
        """How long a commit takes who is slow, from one to the next [s]."""
        return max(self._cycle, self._others_pace)

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
        return self._is_recent and len(self._times) > 1 and self._interval < CROWDED * self._slower_cycle
