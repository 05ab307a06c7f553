"""Model of commit times: what `name@date` shows when clocks are late, or a century ahead.

Each commit is made at a true time by a clock that is right, late, or far ahead. A date is looked up by halving,
run of times by run, and must give the newest commit with a time at or before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.model.search import LeftOut

DAY = 3
CLOCKS = {"right": 0, "late": -2, "far": 50}


class Rules(NamedTuple):
    never_falls: bool = True
    """A commit's time is at least its parent's."""
    day: bool = True
    """A parent that is more than a day ahead of the clock is not followed."""
    runs: bool = True
    """Where times fall nevertheless, each run of times is searched by itself."""


class Made(NamedTuple):
    true: int
    clock: str
    time: int


class World(NamedTuple):
    commits_max: int = 3
    now: int = 1
    log: tuple[Made, ...] = ()
    answers: tuple[tuple[int, int], ...] = ()
    """What each date gives: (date, how many commits)."""


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    if len(world.log) == world.commits_max:
        return
    for passed in (0, 1, 3):
        now = world.now + passed
        for clock, off in CLOCKS.items():
            log = (*world.log, Made(now, clock, _time(now + off, world.log, rules)))
            answers = tuple((date, _number_at(log, date, rules)) for date in range(1, now + 2))
            made = world._replace(now=now, log=log, answers=answers)
            yield f"a {clock} clock commits at {now}, dated {log[-1].time}", made


def _time(clock: int, log: tuple[Made, ...], rules: Rules) -> int:
    parent = log[-1].time if log else 0
    if not rules.never_falls or (rules.day and parent > clock + DAY):
        return clock
    return max(clock, parent)


def _number_at(log: tuple[Made, ...], date: int, rules: Rules) -> int:
    falls = [n + 1 for n, (before, after) in enumerate(pairwise(log)) if after.time < before.time]
    starts = [0, *falls] if rules.runs else [0]
    end = len(log)
    for start in reversed(starts):
        if log[start].time <= date:
            low, high = start, end - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if log[middle].time <= date else (low, middle - 1)
            return low + 1
        end = start
    return 0


def loss(world: World) -> str:
    for date, answer in world.answers:
        if answer != max((n + 1 for n, made in enumerate(world.log) if made.time <= date), default=0):
            return "a date is looked up wrong"
        shown = world.log[:answer]
        if all(made.clock != "far" for made in shown) and any(
            made.clock == "right" and made.true > date for made in shown
        ):
            return "a date shows what a right clock dates later"
    last = world.log[-1] if world.log else None
    if last and last.clock == "right" and last.time > last.true + DAY:
        return "one wrong clock dates all that follows"
    return ""


ACTORS = {"three clocks": World()}
ACTORS_LONG = {"five commits": World(commits_max=5)}

LEFT_OUT = (
    LeftOut("11a", ("never_falls",), "three clocks", "a date shows what a right clock dates later"),
    LeftOut("11b", ("day",), "three clocks", "one wrong clock dates all that follows"),
    LeftOut("11c", ("runs",), "three clocks", "a date is looked up wrong"),
)
