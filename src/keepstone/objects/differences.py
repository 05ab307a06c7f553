"""What differs between two JSON-like values or two texts, place by place.

Layer: objects. Taking what was removed and changed from the one value and adding what was added gives the other.
Numbers are compared as numbers: 1 and 1.0 differ, since they load as different values; 0.1 and 1e-1 do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from keepstone.objects.alignment import Stretch, aligned

_SHOWN_MAX: Final = 100
_CONTEXT: Final = 3
"""Equal lines that are shown around what differs."""

Verb = Literal["added", "removed", "changed"]
Path = tuple[str | int, ...]


class ValueChange(NamedTuple):
    """One place in a value that differs."""

    path: Path
    """Keys and indices. Indices are those of the old value; only the last one of what was added is of the new."""
    verb: Verb
    old: Any
    """None where it was added."""
    new: Any
    """None where it was removed."""

    @property
    def place(self) -> str:
        """The path as text: `$.scores[1]`."""
        return "$" + "".join(_step(step) for step in self.path)

    def __str__(self) -> str:
        if self.verb == "changed":
            return f"~ {self.place}: {_shown(self.old)} → {_shown(self.new)}"
        sign, value = ("+", self.new) if self.verb == "added" else ("-", self.old)
        return f"{sign} {self.place}: {_shown(value)}"


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{_shown(step)}]"


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def value_changes(old: Any, new: Any, path: Path = ()) -> Iterator[ValueChange]:
    """Yield what differs between two JSON-like values; of lists, what was inserted and deleted."""
    if type(old) is not type(new):
        yield ValueChange(path, "changed", old, new)
    elif isinstance(old, dict):
        yield from _dict_changes(cast("dict[str, Any]", old), cast("dict[str, Any]", new), path)
    elif isinstance(old, list):
        yield from _list_changes(cast("list[Any]", old), cast("list[Any]", new), path)
    elif old != new:
        yield ValueChange(path, "changed", old, new)


def _dict_changes(old: dict[str, Any], new: dict[str, Any], path: Path) -> Iterator[ValueChange]:
    for key, value in old.items():
        if key in new:
            yield from value_changes(value, new[key], (*path, key))
        else:
            yield ValueChange((*path, key), "removed", value, None)
    for key, value in new.items():
        if key not in old:
            yield ValueChange((*path, key), "added", None, value)


def _list_changes(old: list[Any], new: list[Any], path: Path) -> Iterator[ValueChange]:
    before, after = [_identity(value) for value in old], [_identity(value) for value in new]
    for equal, a, b, c, d in aligned(before, after):
        if equal:
            continue
        pairs = min(b - a, d - c)
        for n in range(pairs):
            yield from value_changes(old[a + n], new[c + n], (*path, a + n))
        for n in range(a + pairs, b):
            yield ValueChange((*path, n), "removed", old[n], None)
        for n in range(c + pairs, d):
            yield ValueChange((*path, n), "added", None, new[n])


def _identity(value: Any) -> bytes:
    # 1 and 1.0 are different texts, and so are True and 1.
    return msgspec.json.encode(value, order="sorted")


def text_lines(old: str, new: str, old_name: str, new_name: str) -> list[str]:
    """Return a unified diff of two texts, without line ends; a missing one at the end of a text is said."""
    before, after = _marked(old), _marked(new)
    lines: list[str] = []
    for hunk in _hunks(aligned(before, after)):
        first, last = hunk[0], hunk[-1]
        lines.append(f"@@ -{_range(first.a, last.b)} +{_range(first.c, last.d)} @@")
        for equal, a, b, c, d in hunk:
            if equal:
                lines += [" " + line for line in before[a:b]]
            else:
                lines += ["-" + line for line in before[a:b]]
                lines += ["+" + line for line in after[c:d]]
    if lines:
        lines[:0] = [f"--- {old_name}", f"+++ {new_name}"]
    return [line for raw in lines for line in raw.split("\n")]


def _hunks(stretches: list[Stretch]) -> Iterator[list[Stretch]]:
    """Yield what differs with a few equal lines around it; what lies close together is one hunk."""
    hunk: list[Stretch] = []
    for n, part in enumerate(stretches):
        if not part.equal:
            hunk.append(part)
            continue
        long, is_last = part.b - part.a > 2 * _CONTEXT, n == len(stretches) - 1
        if hunk:
            kept = _CONTEXT if long or is_last else part.b - part.a
            hunk.append(part._replace(b=min(part.b, part.a + kept), d=min(part.d, part.c + kept)))
        if hunk and (long or is_last):
            yield hunk
            hunk = []
        if not hunk and not is_last:
            hunk = [part._replace(a=max(part.a, part.b - _CONTEXT), c=max(part.c, part.d - _CONTEXT))]
    if hunk:
        yield hunk


def _range(start: int, end: int) -> str:
    """Return lines [start, end), counted from 0, as the head of a hunk names them."""
    count = end - start
    if count == 1:
        return str(start + 1)
    # An empty range is named by the line before it.
    return f"{start + 1 if count else start},{count}"


def _marked(text: str) -> list[str]:
    lines = text.split("\n")
    last = lines.pop()
    return [*lines, f"{last}\n\\ No newline at end of file"] if last else lines
