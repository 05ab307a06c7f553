"""Plans of syncs: what a sync would do, and doing it.

Layer: operations. A plan is looked up when it is asked, and again when it is applied: what came in between counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from keepstone.foundation.errors import InvalidInputError, StoreNotFoundError
from keepstone.operations.progress import Progress, progress_of
from keepstone.operations.sync import SyncOptions, Way, plan, sync
from keepstone.operations.sync_memory import stays_at_home
from keepstone.operations.sync_names import AliasConflict
from keepstone.operations.sync_place import Place, how_to_name
from keepstone.operations.sync_report import SyncChanges
from keepstone.operations.sync_selection import check_select
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.repository import Repository
from keepstone.storage.locate import locate


class SyncReport(NamedTuple):
    """What a sync did, or would do."""

    changes: tuple[SyncChanges, ...]
    """Of each way, in order."""

    @property
    def conflicts(self) -> tuple[AliasConflict, ...]:
        """Aliases that were moved in both stores, each once."""
        return tuple({found.alias: found for way in self.changes for found in way.conflicts}.values())

    @property
    def is_nothing(self) -> bool:
        """Whether both stores are as they were, and agree."""
        return all(way.is_nothing for way in self.changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


class SyncPlan:
    """What a sync will do. `print` it; `apply` does it."""

    def __init__(
        self,
        here: Repository,
        place: Place,
        ways: tuple[Way, ...],
        select: Iterable[str] | None,
        lineage: bool,
        create: bool,
        afresh: bool,
    ) -> None:
        self._here = here
        self._place = place
        self._ways = ways
        self._options = SyncOptions(check_select(select), lineage, create, afresh)

    @cached_property
    def report(self) -> SyncReport:
        """What would be done now, as far as can be said without doing it."""
        return SyncReport(plan(self._here, self._place, self._ways, self._options))

    @property
    def conflicts(self) -> tuple[AliasConflict, ...]:
        """Aliases that would be in conflict."""
        return self.report.conflicts

    def __str__(self) -> str:
        return str(self.report)

    def apply(self, *, progress: Progress = False) -> SyncReport:
        """Do it, and return what was done; `progress` counts bytes."""
        options = self._options._replace(progress=progress_of(progress, "bytes"))
        return SyncReport(sync(self._here, self._place, self._ways, options))


def clone(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], *, progress: Progress = False
) -> SyncReport:
    """Make a new store in a folder that holds all that the one at `source` holds. See `keepstone.clone`."""
    place = os.fspath(folder)
    # The source is looked for first: a name mistyped must not leave an empty store behind.
    try:
        close_repository(open_repository(locate(source, writable=False), create=False, writable=False))
    except StoreNotFoundError as error:
        error.hint = how_to_name(error.location, creates=False)
        raise
    made = open_repository(locate(place), create=True, writable=True)
    try:
        # What was cut off before its end holds no name yet: the same call goes on with it.
        if not all(map(stays_at_home, made.session.log.state.refs)):
            raise InvalidInputError(
                f"there is a store at {place} already", hint="pull into it, or clone into a new folder"
            )
        return SyncPlan(made, source, ("pull",), None, False, False, False).apply(progress=progress)
    finally:
        close_repository(made)
