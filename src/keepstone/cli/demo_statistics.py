"""The difference of two accuracies on the same questions, with its interval.

Layer: cli. Method: Agresti and Min (2005), the Wald interval for matched proportions with half an observation
added to each of the four cells; it keeps its level where the plain Wald interval does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

Z_95: Final = 1.959963984540054
"""97.5 % point of the normal distribution."""


class Difference(NamedTuple):
    """second - first, as fractions; [low, high] is the 95 % interval."""

    value: float
    low: float
    high: float


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Return by how much the share of True is higher in `second`; the two are paired item by item.

    Only the items on which the two disagree carry information about the difference.
    """
    gained = sum(not a and b for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    count = len(first)
    if not count:
        return Difference(math.nan, math.nan, math.nan)
    total = count + 2
    middle = (gained - lost) / total
    error = math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / total) / total
    low, high = middle - Z_95 * error, middle + Z_95 * error
    return Difference((gained - lost) / count, max(low, -1.0), min(high, 1.0))
