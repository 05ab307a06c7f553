"""One way of a sync: what a survey found is written to the target, and one commit makes it count.

Layer: operations. Packs first, then the commit: whoever is killed in between leaves packs that nothing refers to, and
the next sync uses them. The commit is drafted anew for every state of the target, and the survey is made anew where
something it relied on is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from keepstone.foundation.digest import Digest
from keepstone.foundation.format import Origin
from keepstone.history.commit import Commit, Draft, RefChange
from keepstone.history.state import State
from keepstone.operations.progress import ProgressCallback
from keepstone.operations.sync_decision import Decision, decide
from keepstone.operations.sync_outbox import Outbox
from keepstone.operations.sync_selection import Selection
from keepstone.operations.sync_survey import Known, Survey, survey
from keepstone.repository.repository import RESTAGES_MAX, Repository, too_fast
from keepstone.repository.staging import Restage, Staging

Note = Callable[[Survey, Staging, State, Decision], RefChange | None]
"""Returns what the target's own memory of the sync says, to stand in the same commit."""


Message = Callable[[Survey, Decision], str]


class Transferred(NamedTuple):
    """What one way of a sync did."""

    survey: Survey
    decision: Decision
    """That of the commit; that of the survey where there was nothing to commit."""
    commit: Commit | None


def transfer(
    source: Repository,
    target: Repository,
    selection: Callable[[], tuple[Selection, Known]],
    *,
    base: Callable[[Survey], tuple[int, bool]],
    note: Note,
    message: Message,
    progress: ProgressCallback | None = None,
) -> Transferred:
    """Bring to the target what it lacks; nothing is committed where that is nothing.

    `base` returns the log length that new packs of this survey are named by, and whether a sync was cut off that may
    have left some.

    Raises:
        CorruptionError, BlobNotFoundError: something is damaged or lost at the source; the target is as it was.
        KindError, InvalidInputError: as `survey`.
        StorageError: a medium failed; with `landed` the commit stands.
    """
    for _ in range(RESTAGES_MAX):
        try:
            wanted, known = selection()
            found = survey(source.session, target.session, wanted, known)
            if found.is_empty:
                return Transferred(found, found.decision, None)
            begun, resumes = base(found)
            with Outbox(source.session, target.session, begun, resumes=resumes, progress=progress) as outbox:
                return _Commit(target, found, known, note, message).carry_out(outbox, progress)
        except Restage:
            source.session.refresh()
            target.session.refresh()
    raise too_fast()


class _Commit:
    def __init__(self, target: Repository, found: Survey, known: Known, note: Note, message: Message) -> None:
        self._target = target
        self._session = target.session
        self._survey = found
        self._known = known
        self._note = note
        self._message = message
        self._decision = found.decision

    def carry_out(self, outbox: Outbox, progress: ProgressCallback | None) -> Transferred:
        found = self._survey
        if progress is not None:
            progress.set_size(found.bytes)
        for pack in found.packs:
            outbox.add_pack(pack)
        for rows in found.rows:
            outbox.add_rows(rows)
        outbox.add_content(found.content)
        outbox.finish()
        staging = Staging(self._session, Origin.COPY)
        staging.rely_on(found.needs)
        outbox.hand_over(staging)
        commit = self._session.log.append(lambda state: self._draft(staging, state))
        # What was committed is known without asking the medium again, and what is set from now on is stamped above it.
        self._session.catch_up()
        self._target.sealer.merge_if_crowded()
        return Transferred(found, self._decision, commit)

    def _draft(self, staging: Staging, state: State) -> Draft | None:
        decision = decide(self._session, state, self._survey.scope, self._known.agreed)
        if any(Digest.parse(version.digest) not in self._survey.digests for version in decision.versions):
            # A name has changed so much that more versions come than were looked for.
            raise Restage
        self._decision = decision
        note = self._note(self._survey, staging, state, decision)
        staging.settle()
        refs = decision.refs if note is None else (*decision.refs, note)
        return staging.draft(
            state, message=self._message(self._survey, decision), refs=refs, entries=decision.entries
        )
