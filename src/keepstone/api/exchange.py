"""What a store does together with another one: push, pull, sync, and their plans; and making a clone.

Layer: api. One line each; the work is done in operations, which most programs never import.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from keepstone.repository.arguments import check_kind_of
from keepstone.repository.repository import Repository

if TYPE_CHECKING:
    from keepstone.operations.progress import Progress
    from keepstone.operations.sync_plan import SyncPlan, SyncReport


class Exchange(ABC):
    """The verbs of a `Store` that are about another one as well."""

    @property
    @abstractmethod
    def repository(self) -> Repository:
        """What the work is done on."""

    def push(
        self,
        other: str | os.PathLike[str] | Exchange,
        *,
        select: Iterable[str] | None = None,
        lineage: bool = False,
        create: bool = False,
        afresh: bool = False,
        progress: Progress = False,
    ) -> SyncReport:
        """Bring to the store at `other` what this one has and it lacks, in one commit; safe to repeat when cut off.

        `select` takes names, prefixes that end in `/`, and selectors; None is everything. `lineage` adds the versions
        that `parents` name. `create` makes the store if there is none. Items are merged key by key, the newest counts,
        and removed items are removed there, too. Versions are added, under their numbers where the name is new and
        under the next ones else; one that was removed on either side stays away, or stays, there. An alias follows
        unless it was moved there as well: that is a conflict, it stays, and the report says so. `afresh` forgets what
        was synced before. What other programs have not published yet stays behind: the report counts their journals.

        Raises:
            StoreNotFoundError: there is no store, and `create` is False.
            ArtifactNotFoundError: something that is selected does not exist; nothing was changed.
            KindError: a name is an artifact here and a collection there; nothing was changed.
            DivergedError: an older copy or another store took the place of the one that was synced with before.
            BlobNotFoundError, CorruptionError: something is damaged or lost, and named; nothing was changed.
            StorageError: a medium failed; with `landed` the change has happened.
        """
        return self.plan_push(other, select=select, lineage=lineage, create=create, afresh=afresh).apply(
            progress=progress
        )

    def pull(
        self,
        other: str | os.PathLike[str] | Exchange,
        *,
        select: Iterable[str] | None = None,
        lineage: bool = False,
        afresh: bool = False,
        progress: Progress = False,
    ) -> SyncReport:
        """Bring to this store what the one at `other` has and this one lacks; as `push`, the other way round."""
        return self.plan_pull(other, select=select, lineage=lineage, afresh=afresh).apply(progress=progress)

    def sync(
        self,
        other: str | os.PathLike[str] | Exchange,
        *,
        select: Iterable[str] | None = None,
        lineage: bool = False,
        create: bool = False,
        afresh: bool = False,
        progress: Progress = False,
    ) -> SyncReport:
        """Pull from the store at `other`, then push to it: both have the same items, versions and aliases then.

        Numbers of versions are each store's own, and so is which one is the newest; conflicts stay on both sides.
        """
        return self.plan_sync(other, select=select, lineage=lineage, create=create, afresh=afresh).apply(
            progress=progress
        )

    def plan_push(
        self,
        other: str | os.PathLike[str] | Exchange,
        *,
        select: Iterable[str] | None = None,
        lineage: bool = False,
        create: bool = False,
        afresh: bool = False,
    ) -> SyncPlan:
        """Return what `push` would do; nothing is changed, or looked at, before it is printed, asked or applied.

        `push` publishes first what lies in journals here; a plan does not count that.
        """
        from keepstone.operations.sync_plan import SyncPlan

        return SyncPlan(self.repository, _place(other), ("push",), select, lineage, create, afresh)

    def plan_pull(
        self,
        other: str | os.PathLike[str] | Exchange,
        *,
        select: Iterable[str] | None = None,
        lineage: bool = False,
        afresh: bool = False,
    ) -> SyncPlan:
        """Return what `pull` would do; as `plan_push`."""
        from keepstone.operations.sync_plan import SyncPlan

        return SyncPlan(self.repository, _place(other), ("pull",), select, lineage, False, afresh)

    def plan_sync(
        self,
        other: str | os.PathLike[str] | Exchange,
        *,
        select: Iterable[str] | None = None,
        lineage: bool = False,
        create: bool = False,
        afresh: bool = False,
    ) -> SyncPlan:
        """Return what `sync` would do; as `plan_push`. What is pushed is said as if nothing had been pulled before."""
        from keepstone.operations.sync_plan import SyncPlan

        return SyncPlan(self.repository, _place(other), ("pull", "push"), select, lineage, create, afresh)


def clone(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], *, progress: Progress = False
) -> SyncReport:
    """Make a new store in `folder`, with an id of its own, that holds all that the store at `source` holds.

    What was cut off goes on when it is called again. `Store.sync` keeps the two together from then on.

    Raises:
        StoreNotFoundError: there is no store at `source`; nothing was made.
        InvalidInputError: `folder` holds something already, which a store without names does not.
    """
    from keepstone.operations.sync_plan import clone

    check_kind_of(source, str | os.PathLike, "source", "a path or a URL")
    check_kind_of(folder, str | os.PathLike, "folder", "a path")
    return clone(source, folder, progress=progress)


def _place(other: str | os.PathLike[str] | Exchange) -> str | os.PathLike[str] | Repository:
    check_kind_of(other, str | os.PathLike | Exchange, "other", "a path, a URL or a store")
    return other.repository if isinstance(other, Exchange) else other
