"""Comparing two versions: what differs in their values, files, metadata and parents.

Layer: repository. Equal digests are equal content, so what has one is never loaded; nor is what is too large to show.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import MalformedError
from keepstone.foundation.format import SNAPSHOT_SERIALIZER, Form
from keepstone.foundation.names import plural
from keepstone.objects.differences import ValueChange, Verb, text_lines, value_changes
from keepstone.objects.manifest import Part, PartMode
from keepstone.objects.plain import decode_value
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.repository.repository import Repository

TEXT_BYTES_MAX: Final = 1024 * 1024
"""A larger text is compared by its digest only."""
JSON_BYTES_MAX: Final = 16 * 1024 * 1024
"""A larger JSON value is compared by its digest only."""
CHANGES_MAX: Final = 10_000
"""More changes are not listed."""
_SHOWN_MAX: Final = 200

Kind = Literal["equal", "text", "json", "files", "bytes", "items", "kinds"]


class PartChange(NamedTuple):
    """One file of a folder that differs, or an item of a snapshot."""

    path: str
    """Of an item, its key."""
    verb: Verb
    old_digest: str
    """Empty where it was added."""
    new_digest: str
    """Empty where it was removed."""
    old_size: int = 0
    """Bytes; 0 for items."""
    new_size: int = 0
    old_mode: str = ""
    """`file`, `executable`, `symlink` or `folder`; empty for items."""
    new_mode: str = ""
    lines: tuple[str, ...] = ()
    """A unified diff, where it was asked for and both are short texts."""

    def __str__(self) -> str:
        sign = {"added": "+", "removed": "-", "changed": "~"}[self.verb]
        mode = (
            f", {self.old_mode} → {self.new_mode}"
            if self.verb == "changed" and self.old_mode != self.new_mode
            else ""
        )
        if not (self.old_mode or self.new_mode):
            return f"{sign} {self.path}"
        sizes = {
            "added": plural(self.new_size, "byte"),
            "removed": plural(self.old_size, "byte"),
            "changed": f"{self.old_size:,} → {plural(self.new_size, 'byte')}",
        }
        return f"{sign} {self.path} ({sizes[self.verb]}{mode})"


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions; `print` it, or look at its parts."""

    a: str
    """Selector of the one."""
    b: str
    """Selector of the other."""
    a_digest: str
    b_digest: str
    kind: Kind
    """What their contents are, and so which of the fields below says how they differ; `equal`: they do not."""
    a_size: int
    """Bytes."""
    b_size: int
    lines: tuple[str, ...] = ()
    """Of texts: a unified diff."""
    changes: tuple[ValueChange, ...] = ()
    """Of JSON-like values: the places that differ, at most 10,000."""
    parts: tuple[PartChange, ...] = ()
    """Of folders: the files that differ; of tensors: theirs; of snapshots of collections: the items. At most 10,000."""
    more: bool = False
    """Whether more changes were found than are listed."""
    metadata: tuple[ValueChange, ...] = ()
    parents_added: tuple[str, ...] = ()
    parents_removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What else there is to say, in words."""

    @property
    def equal(self) -> bool:
        """Whether the two are the same artifact: content, metadata and parents."""
        return self.a_digest == self.b_digest

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return not self.equal

    def __str__(self) -> str:
        if self.equal:
            return f"{self.a} and {self.b} are equal: {self.a_digest}"
        lines = list(self.lines) or [f"--- {self.a}", f"+++ {self.b}"]
        lines += self.notes
        lines += [str(change).replace("$", "metadata", 1) for change in self.metadata]
        lines += [f"+ parent {parent}" for parent in self.parents_added]
        lines += [f"- parent {parent}" for parent in self.parents_removed]
        lines += map(str, self.changes)
        for part in self.parts:
            lines += [str(part), *part.lines]
        hidden = len(lines) - _SHOWN_MAX
        shown = lines[:_SHOWN_MAX]
        if hidden > 0 or self.more:
            shown.append(f"… and {plural(hidden, 'more line') if hidden > 0 else 'more'}")
        return "\n".join(shown)


def diff(repository: Repository, a: str | Version, b: str | Version, *, texts: bool = False) -> Diff:
    """Return what differs. See `Store.diff`."""
    old = a if isinstance(a, Version) else repository.resolve(a)
    new = b if isinstance(b, Version) else repository.resolve(b)
    facts: dict[str, Any] = {
        "a": old.selector,
        "b": new.selector,
        "a_digest": old.digest,
        "b_digest": new.digest,
        "a_size": old.size_bytes,
        "b_size": new.size_bytes,
    }
    if old.digest == new.digest:
        return Diff(**facts, kind="equal")
    facts["metadata"] = tuple(value_changes(old.manifest.metadata, new.manifest.metadata))
    olds, news = set(old.parents), set(new.parents)
    facts["parents_added"] = tuple(parent for parent in new.parents if parent not in olds)
    facts["parents_removed"] = tuple(parent for parent in old.parents if parent not in news)
    return Diff(**facts, **_contents(repository, old, new, texts))


def _contents(repository: Repository, old: Version, new: Version, texts: bool) -> dict[str, Any]:
    """Return the fields of a `Diff` that speak of content."""
    if _facts(old.parts) == _facts(new.parts) and old.serializer == new.serializer:
        return {"kind": "equal", "notes": ("the content is equal",)}
    if old.serializer != new.serializer:
        note = f"{old.selector} is of kind {old.serializer}, {new.selector} of kind {new.serializer}"
        return {"kind": "kinds", "notes": (note, _sizes(old, new))}
    if old.serializer == SNAPSHOT_SERIALIZER:
        found = list(islice(_item_changes(repository, old, new), CHANGES_MAX + 1))
        return {"kind": "items", "parts": tuple(found[:CHANGES_MAX]), "more": len(found) > CHANGES_MAX}
    if old.serializer in ("folder", "tensors"):
        found = list(islice(_part_changes(old, new, texts), CHANGES_MAX + 1))
        return {"kind": "files", "parts": tuple(found[:CHANGES_MAX]), "more": len(found) > CHANGES_MAX}
    if old.serializer == "json" and max(old.size_bytes, new.size_bytes) <= JSON_BYTES_MAX:
        return _json_contents(old, new)
    if old.serializer in ("text", "file"):
        lines = _text_diff(old, new, *old.parts, *new.parts)
        renamed = [(p.path, PartMode(p.mode).name.lower()) for p in (*old.parts, *new.parts)]
        notes = () if renamed[0] == renamed[1] else (f"{' '.join(renamed[0])} → {' '.join(renamed[1])}",)
        if lines is not None:
            return {"kind": "text", "lines": tuple(lines), "notes": notes}
        return {"kind": "bytes", "notes": (*notes, _sizes(old, new))}
    return {"kind": "bytes", "notes": (_sizes(old, new),)}


def _facts(parts: tuple[Part, ...]) -> list[tuple[str, bytes, int]]:
    return [(part.path, part.digest, part.mode) for part in parts]


def _sizes(old: Version, new: Version) -> str:
    digests = [Digest(version.parts[0].digest) if len(version.parts) == 1 else "" for version in (old, new)]
    sides = [f"{plural(v.size_bytes, 'byte')} {d}".rstrip() for v, d in zip((old, new), digests, strict=True)]
    return " → ".join(sides)


def _json_contents(old: Version, new: Version) -> dict[str, Any]:
    values = [decode_value(Form.JSON, b"".join(version.chunks())) for version in (old, new)]
    found = list(islice(value_changes(*values), CHANGES_MAX + 1))
    notes = () if found else ("the values are equal; the order of keys, or how they are written, differs",)
    return {
        "kind": "json",
        "changes": tuple(found[:CHANGES_MAX]),
        "more": len(found) > CHANGES_MAX,
        "notes": notes,
    }


def _text_diff(old: Version, new: Version, before: Part, after: Part) -> list[str] | None:
    """Return a unified diff of two parts; None where one is long, or no text."""
    if max(before.size, after.size) > TEXT_BYTES_MAX:
        return None
    if before.digest == after.digest:
        return []
    try:
        one, other = (
            decode_value(Form.TEXT, b"".join(version.chunks(part.path)))
            for version, part in ((old, before), (new, after))
        )
    except MalformedError:
        return None
    if "\0" in one or "\0" in other:
        return None
    names = [v.selector + (f":{p.path}" if p.path else "") for v, p in ((old, before), (new, after))]
    return text_lines(one, other, *names)


def _part_changes(old: Version, new: Version, texts: bool) -> Iterator[PartChange]:
    olds, news = ({part.path: part for part in version.parts} for version in (old, new))
    for path in sorted(olds.keys() | news.keys()):
        before, after = olds.get(path), news.get(path)
        if before is not None and after is not None:
            if (before.digest, before.mode) == (after.digest, after.mode):
                continue
            plain = {before.mode, after.mode} <= {PartMode.FILE, PartMode.EXECUTABLE}
            lines = _text_diff(old, new, before, after) if texts and plain else None
            yield _part_change(path, "changed", before, after, tuple(lines or ()))
        else:
            yield _part_change(path, "added" if before is None else "removed", before, after)


def _part_change(
    path: str, verb: Verb, old: Part | None, new: Part | None, lines: tuple[str, ...] = ()
) -> PartChange:
    return PartChange(
        path,
        verb,
        str(Digest(old.digest)) if old else "",
        str(Digest(new.digest)) if new else "",
        old.size if old else 0,
        new.size if new else 0,
        PartMode(old.mode).name.lower() if old else "",
        PartMode(new.mode).name.lower() if new else "",
        lines,
    )


def _item_changes(repository: Repository, old: Version, new: Version) -> Iterator[PartChange]:
    """Yield the items that differ, sorted by key; neither snapshot is ever whole in memory, and no value is read."""
    from keepstone.repository.frozen import snapshot_items

    rows = [snapshot_items(repository, version).rows() for version in (old, new)]
    before, after = (next(side, None) for side in rows)
    while before is not None or after is not None:
        if after is None or (before is not None and before.key < after.key):
            assert before is not None
            yield PartChange(before.key, "removed", str(before.digest), "")
            before = next(rows[0], None)
        elif before is None or after.key < before.key:
            yield PartChange(after.key, "added", "", str(after.digest))
            after = next(rows[1], None)
        else:
            if (before.digest, before.form) != (after.digest, after.form):
                yield PartChange(before.key, "changed", str(before.digest), str(after.digest))
            before, after = next(rows[0], None), next(rows[1], None)
