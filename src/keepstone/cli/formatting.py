"""Numbers and times as people read them.

Layer: cli. Sizes in powers of 1024, times in UTC as RFC 3339.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from keepstone.foundation.names import format_time

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """Return a number of bytes with three digits and a unit: 340 B, 1.21 KiB, 4.0 GiB."""
    if count < 1024:
        return f"{count} B"
    value, power = count / 1024, 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {_UNITS[power]}"


def moment(when: int | datetime.datetime) -> str:
    """Return nanoseconds since 1970, or a datetime, as RFC 3339 in UTC, to the second."""
    if isinstance(when, int):
        return format_time(when)
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def some(items: Sequence[str], shown_max: int = 5) -> str:
    """Return `items` in one line, of many the first: a v1; b v1; and 4,998 more."""
    hidden = len(items) - shown_max
    return "; ".join([*items[:shown_max], *([f"and {hidden:,} more"] if hidden > 0 else [])])
