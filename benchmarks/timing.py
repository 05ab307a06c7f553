"""Statistics and alternation: what a figure of this benchmark is.

Contenders take turns in small blocks (A B C, B C A, …), so that noise of the machine hits all of them. A figure is the
median over blocks; a ratio is the median of the ratios within each turn, which noise that lasts longer leaves alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

KEEPSTONE = "Keepstone"


@dataclass(frozen=True)
class Case:
    """One thing that was measured, for every contender."""

    id: str
    """`subject.what`, by which goals name it."""
    title: str
    unit: str
    samples: dict[str, list[float]]
    """For each contender one value a block, in `unit`; the same position is the same turn."""
    less_is_better: bool = True
    notes: tuple[str, ...] = field(default=())

    def median(self, contender: str = KEEPSTONE) -> float:
        """Return the median of a contender's blocks."""
        return statistics.median(self.samples[contender])

    def spread(self, contender: str = KEEPSTONE) -> tuple[float, float]:
        """Return the first and third quartile of a contender's blocks."""
        return quartiles(self.samples[contender])

    def ratio(self, peer: str, contender: str = KEEPSTONE) -> float:
        """Return how many times the peer's value the contender's is; below 1 is less."""
        return paired_ratio(self.samples[contender], self.samples[peer])

    def speedup(self, peer: str, contender: str = KEEPSTONE) -> float:
        """Return how many times better the contender is than the peer; above 1 is better."""
        ratio = self.ratio(peer, contender)
        return 1 / ratio if self.less_is_better else ratio

    def encoded(self) -> dict[str, Any]:
        """Return what `decoded` reads, with medians beside the samples for whoever reads the file."""
        return asdict(self) | {"medians": {name: self.median(name) for name in self.samples}}

    @classmethod
    def decoded(cls, data: Mapping[str, Any]) -> Case:
        """Return the case that `encoded` wrote."""
        return cls(
            data["id"],
            data["title"],
            data["unit"],
            {name: list(values) for name, values in data["samples"].items()},
            data["less_is_better"],
            tuple(data["notes"]),
        )


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the first and third quartile; of a single sample, itself twice."""
    if len(samples) < 2:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of ours / theirs turn by turn; of the medians where the number of turns differs."""
    if len(ours) != len(theirs):
        return statistics.median(ours) / statistics.median(theirs)
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def alternate(
    contenders: Mapping[str, Callable[[int], float]], turns: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Call every contender once a turn, each turn beginning with the next; return what they gave.

    They get the number of the turn. The first `warm_up` turns are not counted.
    """
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + turns):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            value = contenders[name](turn)
            if turn >= warm_up:
                samples[name].append(value)
    return samples
