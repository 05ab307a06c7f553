"""What a sync did, or would do, one way: counts, names, new numbers, conflicts; printed, it is short.

Layer: operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from keepstone.foundation.names import plural
from keepstone.history.commit import Commit
from keepstone.operations.sync_decision import Decision
from keepstone.operations.sync_names import AliasConflict, MovedAlias, SyncedVersion
from keepstone.operations.sync_survey import Survey
from keepstone.repository.repository import Repository

_SHOWN_MAX: Final = 20

T = TypeVar("T")


class SyncChanges(NamedTuple):
    """One way of a sync; of a plan, what would be so if nothing changes until then."""

    way: Literal["push", "pull"]
    source: str
    """Where it comes from."""
    target: str
    """Where it goes to."""
    objects: int = 0
    """Objects that are written, the commit among them; of a plan, about."""
    bytes: int = 0
    """Stored bytes that go over."""
    requests: int = 0
    """Requests to those of the two stores that are elsewhere; of a plan, about: what looking took, and what follows."""
    items: int = 0
    """Entries of collections that go over, removals among them."""
    names: tuple[str, ...] = ()
    """Names that the target did not have."""
    versions: tuple[SyncedVersion, ...] = ()
    """Versions that came, with their numbers in both stores."""
    withheld: tuple[str, ...] = ()
    """Versions, as at the source, that stay away since they were removed at the target; and names that were removed
    there, and were of the other kind."""
    aliases: tuple[MovedAlias, ...] = ()
    """Aliases of the target that follow the source."""
    conflicts: tuple[AliasConflict, ...] = ()
    """Aliases that were moved in both stores, and stay as they are."""
    waiting: int = 0
    """Journals at the source that hold items which are not published yet, and so did not come; not of plans."""
    commit: int | None = None
    """Number of the target's commit; None where there was nothing to do, and in plans."""

    @property
    def is_nothing(self) -> bool:
        """Whether the target has all that is published at the source."""
        return not (self.objects or self.conflicts)

    def __str__(self) -> str:
        arrow = f"{self.way} {self.source} → {self.target}"
        lines: list[str] = []
        about = "" if self.commit is not None or not self.objects else "about "
        requests = f"{about}{plural(self.requests, 'request')}" if self.requests else ""
        if self.objects:
            counts = ", ".join(
                (
                    plural(len(self.versions), "version"),
                    plural(self.items, "item"),
                    plural(len(self.names), "new name"),
                )
            )
            sent = f"{plural(self.bytes, 'byte')} in {plural(self.objects, 'object')}"
            lines.append(f"{arrow}: {counts} ({', '.join(filter(None, [sent, requests]))})")
        else:
            lines.append(f"{arrow}: nothing new{f' ({requests})' if requests else ''}")
        renumbered = [v for v in self.versions if v.source != v.target]
        place = "there" if self.way == "push" else "here"
        lines += _some(renumbered, lambda v: f"  {v.source} is {v.target} {place}")
        lines += _some(self.aliases, _moved)
        lines += _some(self.withheld, lambda selector: _withheld(selector, place))
        lines += _some(self.conflicts, lambda conflict: _conflict(conflict, self.way))
        if self.waiting:
            lines.append(
                f"  left out: what {plural(self.waiting, 'journal')} at {self.source} held back; it is published by "
                "the program that writes it, or by `keepstone recover` there"
            )
        return "\n".join(lines)


def _withheld(selector: str, place: str) -> str:
    if "@" in selector:
        return f"  {selector} was removed {place}, and stays away"
    return f"  {selector} stays away: {place} it was of another kind, which a removed name keeps"


def _moved(alias: MovedAlias) -> str:
    return f"  {alias.alias} → v{alias.number}" if alias.number else f"  {alias.alias} is removed"


def _conflict(conflict: AliasConflict, way: Literal["push", "pull"]) -> str:
    ends = (conflict.source, conflict.target) if way == "push" else (conflict.target, conflict.source)
    here, there = (text[:15] if text else "absent" for text in ends)
    return f"  conflict: {conflict.alias} is {here} here and {there} there; both stay"


def _some(found: Sequence[T], line: Callable[[T], str]) -> list[str]:
    lines = [line(one) for one in found[:_SHOWN_MAX]]
    if len(found) > _SHOWN_MAX:
        lines.append(f"  … and {len(found) - _SHOWN_MAX:,} more")
    return lines


def changes_of(
    way: Literal["push", "pull"],
    here: Repository,
    other: str,
    found: Survey,
    decision: Decision,
    commit: Commit | None,
    requests: int,
) -> SyncChanges:
    """Return what a survey and its commit come to."""
    own = here.session.storage.location
    source, target = (own, other) if way == "push" else (other, own)
    objects = 0 if found.is_empty else found.objects + 1
    if commit is not None:
        objects = len(commit.add) + 1
    return SyncChanges(
        way,
        source,
        target,
        objects=objects,
        bytes=found.bytes,
        requests=requests,
        items=found.items,
        names=decision.names,
        versions=decision.versions,
        withheld=decision.withheld,
        aliases=decision.aliases,
        conflicts=decision.conflicts,
        commit=None if commit is None else commit.number,
    )
