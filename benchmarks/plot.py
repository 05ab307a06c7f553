"""The plot: how many times faster or smaller than each peer, as horizontal bars on a logarithmic scale, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from benchmarks.peers import DISKCACHE, JSON_FILES, JSONL, SQLITE
from benchmarks.report import shown
from benchmarks.timing import KEEPSTONE, Case

_CHOSEN: Final = (
    ("put.process.1x1", "save one result (survives kill -9)", (JSONL, SQLITE, DISKCACHE)),
    ("sustained.process", "save a million, sealed", (JSONL, SQLITE, DISKCACHE)),
    ("put.disk.1x8", "save, synced, 8 threads", (JSONL, SQLITE)),
    ("load.random.1x1", "load one of a million, verified", (SQLITE, DISKCACHE, JSON_FILES)),
    ("resume.missing", "open a million, know what is missing", (JSONL, SQLITE, DISKCACHE)),
    ("size.gsm8k", "disk space, GSM8K results", (JSONL, SQLITE, DISKCACHE)),
    ("size.synthetic", "disk space, synthetic results", (JSONL, SQLITE, DISKCACHE)),
    ("commits.8x1", "commits of 8 processes", (SQLITE, JSON_FILES)),
    ("large.ingest", "save 2 GB of random bytes", ("cp + fsync",)),
)
_WIDTH, _LABELS, _PLOT, _BAR, _GAP, _TOP = 860, 400, 360, 16, 14, 56
_GOOD, _BAD, _TEXT, _LINE = "#2f7d6b", "#b5543c", "#333333", "#999999"


@dataclass(frozen=True)
class Bar:
    """One bar: how many times better Keepstone is than a peer at something."""

    group: str
    peer: str
    times: float


def bars(cases: Sequence[Case]) -> list[Bar]:
    """Return the bars that a run has figures for."""
    known = {case.id: case for case in cases}
    return [
        Bar(title, peer, known[name].speedup(peer))
        for name, title, peers in _CHOSEN
        if name in known and KEEPSTONE in known[name].samples
        for peer in peers
        if peer in known[name].samples
    ]


def svg(cases: Sequence[Case], caption: str) -> str:
    """Return the plot; bars to the right of the line at 1× are better than the peer."""
    drawn = bars(cases)
    low, high = _range([bar.times for bar in drawn])
    groups = list(dict.fromkeys(bar.group for bar in drawn))
    height = _TOP + len(drawn) * (_BAR + 4) + len(groups) * _GAP + 64

    def x(times: float) -> float:
        clipped = min(max(times, low), high)
        return _LABELS + _PLOT * (math.log10(clipped) - math.log10(low)) / (
            math.log10(high) - math.log10(low)
        )

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape('Keepstone compared with its peers')}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600" fill="{_TEXT}">'
        "Keepstone, times as fast (as small) as the peer</text>",
    ]
    bottom = height - 48
    for tick in _ticks(low, high):
        strong = tick == 1
        lines.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP - 8}" y2="{bottom}" '
            f'stroke="{_TEXT if strong else _LINE}" stroke-width="{1.4 if strong else 0.4}"/>'
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle" fill="{_TEXT}">{tick:g}×</text>'
        )
    y = float(_TOP)
    for group in groups:
        for i, bar in enumerate(bar for bar in drawn if bar.group == group):
            lines.append(_bar(bar, y, x(1), x(bar.times), is_first=i == 0))
            y += _BAR + 4
        y += _GAP
    lines.append(f'<text x="16" y="{height - 10}" font-size="11" fill="{_LINE}">{escape(caption)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _bar(bar: Bar, y: float, one: float, end: float, *, is_first: bool) -> str:
    left, width = min(one, end), max(1.0, abs(end - one))
    middle = y + _BAR - 4
    label_at, anchor = (end + 5, "start") if bar.times >= 1 else (end - 5, "end")
    group = f'<text x="16" y="{middle}" fill="{_TEXT}">{escape(bar.group)}</text>' if is_first else ""
    return (
        f"{group}"
        f'<text x="{_LABELS - 44}" y="{middle}" text-anchor="end" fill="{_LINE}">{escape(bar.peer)}</text>'
        f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" '
        f'fill="{_GOOD if bar.times >= 1 else _BAD}"/>'
        f'<text x="{label_at:.1f}" y="{middle}" text-anchor="{anchor}" fill="{_TEXT}">{shown(bar.times, "×")}</text>'
    )


def _range(times: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the scale: round numbers around all values, at least from 0.5 to 10."""
    ends = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001), (10, 20, 50, 100, 200, 500, 1000, 10_000)
    low = next((end for end in ends[0] if end <= min(times, default=1)), ends[0][-1])
    high = next((end for end in ends[1] if end >= max(times, default=1)), ends[1][-1])
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    steps = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
    inside = [step for step in steps if low <= step <= high]
    # More than eight labels would touch each other.
    return inside if len(inside) <= 9 else [tick for tick in inside if math.log10(tick).is_integer()]
