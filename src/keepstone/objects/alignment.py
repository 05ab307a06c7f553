"""Which stretches of two sequences correspond: exactly where they are short, by what is unique in both where not.

Layer: objects. Aligning exactly takes the square of the length and more. In long sequences, elements that occur once in
each of them are anchors, as in patience diff; only the gaps between anchors are aligned exactly, if they are short.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Final, NamedTuple

EXACT_MAX: Final = 2_000
"""Sequences up to this length, without their equal beginnings and ends, are aligned exactly."""
GAP_MAX: Final = 200
"""In longer ones, gaps up to this length are; there may be many of them."""
_DEPTH_MAX: Final = 20


class Stretch(NamedTuple):
    """`old[a:b]` corresponds to `new[c:d]`; they are equal, or what the one has instead of the other."""

    equal: bool
    a: int
    b: int
    c: int
    d: int


def aligned(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[Stretch]:
    """Return stretches that cover both sequences in order; equal and unequal ones take turns."""
    joined: list[Stretch] = []
    for part in _align(old, new, Stretch(False, 0, len(old), 0, len(new)), _DEPTH_MAX):
        if part.a == part.b and part.c == part.d:
            continue
        if joined and joined[-1].equal == part.equal:
            part = joined.pop()._replace(b=part.b, d=part.d)
        joined.append(part)
    return joined


def _align(old: Sequence[Hashable], new: Sequence[Hashable], whole: Stretch, depth: int) -> Iterator[Stretch]:
    a, b, c, d = whole[1:]
    while a < b and c < d and old[a] == new[c]:
        a, c = a + 1, c + 1
    while a < b and c < d and old[b - 1] == new[d - 1]:
        b, d = b - 1, d - 1
    yield Stretch(True, whole.a, a, whole.c, c)
    if max(b - a, d - c) <= (EXACT_MAX if depth == _DEPTH_MAX else GAP_MAX):
        matcher = difflib.SequenceMatcher(None, old[a:b], new[c:d], autojunk=False)
        for tag, i, j, k, m in matcher.get_opcodes():
            yield Stretch(tag == "equal", a + i, a + j, c + k, c + m)
    else:
        anchors = _anchors(old, new, a, b, c, d) if depth else []
        for i, k in anchors:
            yield from _align(old, new, Stretch(False, a, i, c, k), depth - 1)
            yield Stretch(True, i, i + 1, k, k + 1)
            a, c = i + 1, k + 1
        if anchors:
            yield from _align(old, new, Stretch(False, a, b, c, d), depth - 1)
        else:
            yield Stretch(False, a, b, c, d)
    yield Stretch(True, b, whole.b, d, whole.d)


def _anchors(
    old: Sequence[Hashable], new: Sequence[Hashable], a: int, b: int, c: int, d: int
) -> list[tuple[int, int]]:
    """Return the longest run of places, rising in both, of what occurs once in `old[a:b]` and once in `new[c:d]`."""
    once = Counter(old[a:b])
    counts = Counter(new[c:d])
    places = {new[n]: n for n in range(c, d) if counts[new[n]] == 1}
    pairs = [(n, places[old[n]]) for n in range(a, b) if once[old[n]] == 1 and old[n] in places]
    # The longest rising subsequence: `ends[n]` is the smallest end of a run of n + 1, `before` links the runs.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        last[length : length + 1] = [index]
    run: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        run.append(pairs[index])
        index = before[index]
    return run[::-1]
