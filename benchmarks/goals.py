"""Goals: what Keepstone sets itself for one machine and for buckets, and whether a run met it.

Each goal is a bound on one figure of one case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.file_tools import DVC
from benchmarks.keepers import BORG, CP, RESTIC
from benchmarks.peers import DISKCACHE, JSONL, SQLITE
from benchmarks.timing import KEEPSTONE, Case

Figure = Literal["value", "times the time", "times as fast"]


@dataclass(frozen=True)
class Goal:
    """One bound."""

    section: str
    """Of docs/performance.md, under which the goal is listed."""
    work: str
    case: str
    figure: Figure
    limit: float
    """An upper bound for a time or size, a lower one where more is better."""
    peer: str = ""
    """What the figure compares with, where it compares."""
    at_least: bool = False

    @property
    def bound(self) -> str:
        """The goal in words, without its unit."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g}× {self.peer}" if self.peer else f"{sign} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """What a run says about a goal."""

    goal: Goal
    value: float | None
    """None where the run did not measure it."""
    unit: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the goal was met; None where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.goal.limit if self.goal.at_least else self.value <= self.goal.limit

    @property
    def word(self) -> str:
        """`met`, `missed` or `not measured`."""
        return {True: "met", False: "missed", None: "not measured"}[self.is_met]


_MANY: Final = "1,000,000"
_EDITED: Final = "save the next version of 1 GiB, with 200 scattered edits"
_SAVE: Final = "one result of 1.5 KB, `process`"
GOALS: Final = (
    Goal("§2", f"{_SAVE}: the put alone", "put.process.1x1", "times the time", 1.0, JSONL),
    Goal("§2", f"{_SAVE}: the put alone", "put.process.1x1", "times as fast", 5.0, DISKCACHE, at_least=True),
    Goal("§2", f"{_SAVE}: the put alone", "put.process.1x1", "times as fast", 2.0, SQLITE, at_least=True),
    Goal("§2", f"{_SAVE}: sustained with sealing", "sustained.process", "times the time", 2.0, JSONL),
    Goal(
        "§2",
        f"{_SAVE}: sustained with sealing",
        "sustained.process",
        "times as fast",
        5.0,
        DISKCACHE,
        at_least=True,
    ),
    Goal(
        "§2",
        f"{_SAVE}: sustained with sealing",
        "sustained.process",
        "times as fast",
        2.0,
        SQLITE,
        at_least=True,
    ),
    Goal(
        "§2",
        "one result of 1.5 KB, `disk`, 8 threads",
        "put.disk.1x8",
        "times as fast",
        1.0,
        SQLITE,
        at_least=True,
    ),
    Goal("§3", f"load one of {_MANY} at random", "load.random.1x1", "times the time", 1.5, DISKCACHE),
    Goal("§3", f"open {_MANY} and know what is missing", "resume.missing", "value", 1.0),
    Goal("§3", "… more for 64 MiB of unsealed journals", "resume.unsealed", "value", 0.15),
    Goal("§3", "… without a catalog", "resume.no_catalog", "value", 1.5),
    Goal("§3", "membership of one key after a cold open", "resume.member", "value", 50.0),
    Goal("§4", "disk space of synthetic results, of raw JSON", "size.synthetic", "value", 0.30),
    Goal("§4", "disk space of GSM8K results, of raw JSON", "size.gsm8k", "value", 0.30),
    Goal("§5", "save 2 GB of random bytes", "large.ingest", "times as fast", 0.8, CP, at_least=True),
    Goal("§5", "… peak memory", "large.memory", "value", 256.0),
    *(
        goal
        for peer in (RESTIC, BORG)
        for goal in (
            Goal("§5", _EDITED, "versions.edits", "times as fast", 8.0, peer, at_least=True),
            Goal("§5", "… added to the disk", "versions.edits.added", "times the time", 0.15, peer),
        )
    ),
    *(
        Goal("§9", work, f"bucket_files.{step}", "times as fast", 10.0, DVC, at_least=True)
        for step, work in (
            ("save", "save 10,000 files of 1 KB"),
            ("push", "push them to a bucket"),
            ("push_again", "push again with nothing new"),
            ("pull", "pull them on another machine"),
        )
    ),
    Goal("§9", "push them to a bucket: requests", "bucket_files.requests.push", "value", 8.0),
    Goal("§9", "push again: requests", "bucket_files.requests.push_again", "value", 2.0),
    Goal("§11", "8 processes save to one bucket", "bucket_writers.delayed", "value", 10.0, at_least=True),
    Goal("§11", "… the longest wait of all", "bucket_writers.delayed.longest", "value", 5.0),
    Goal("§11", "… lost", "bucket_writers.delayed.lost", "value", 0.0),
    *(
        Goal("§12", work, f"bucket_large.{verb}", "times as fast", 0.8, peer, at_least=True)
        for verb, work, peer in (
            ("push", "push 1 GB to a bucket", "s3fs put_file"),
            ("pull", "pull 1 GB into a new local store", "s3fs get_file"),
        )
    ),
    *(
        Goal("§12", f"{work}: peak memory", f"bucket_large.{verb}_memory", "value", 256.0)
        for verb, work in (
            ("push", "push 1 GB"),
            ("pull", "pull 1 GB"),
            ("restore", "restore 1 GB by a lock"),
            ("save", "save 1 GB in a bucket store"),
        )
    ),
    Goal("§6", "`fsck --read-data`, one core", "fsck.read_data", "value", 1.0, at_least=True),
    Goal("§7", "`import keepstone`, over bare Python", "startup.import", "value", 60.0),
    Goal("§7", "`keepstone --help`, over bare Python", "startup.help", "value", 150.0),
    Goal("§7", "fresh process: open and load one, over bare Python", "startup.load", "value", 110.0),
)


def judge(cases: Iterable[Case], goals: Iterable[Goal] = GOALS) -> list[Verdict]:
    """Return a verdict for every goal."""
    known = {case.id: case for case in cases}
    return [_verdict(goal, known.get(goal.case)) for goal in goals]


def _verdict(goal: Goal, case: Case | None) -> Verdict:
    if case is None or KEEPSTONE not in case.samples or (goal.peer and goal.peer not in case.samples):
        return Verdict(goal, None)
    if goal.figure == "value":
        return Verdict(goal, case.median(), case.unit)
    if goal.figure == "times the time":
        return Verdict(goal, case.ratio(goal.peer), "×")
    return Verdict(goal, case.speedup(goal.peer), "×")
