"""Recovery: what processes left in their journals is published.

Layer: operations. Nobody needs to call it: dead journals are read in place and sealed by the next writer. It is for
doing so at once, and for telling what was found.
"""

from __future__ import annotations

from typing import NamedTuple

from keepstone.blobs.spool import Stranger
from keepstone.foundation.errors import InvalidInputError
from keepstone.operations.orphans import publish_orphans
from keepstone.operations.other_hosts import OtherHost, other_hosts
from keepstone.repository.repository import Repository
from keepstone.repository.sealing import SealReport, seal_free
from keepstone.repository.session import Session
from keepstone.storage.calls import preparing
from keepstone.storage.locate import is_bucket

_LOCK_WAIT_SECONDS = 30.0


class RecoverReport(NamedTuple):
    """What recovery found."""

    journals: int
    """Journals that were published."""
    entries: int
    skipped: int
    """Items torn by a loss of power before their level was reached."""
    damaged: tuple[str, ...]
    """Journals with damage below what had been synced; kept aside, their sound items are published."""
    strangers: tuple[Stranger, ...]
    """Files among the journals that could not be used, and why."""
    swept: int
    """Unborn journals that a crash left, removed."""
    uploaded: int = 0
    """Entries of a bucket store that had been uploaded, from whatever machine, and were not published yet."""
    elsewhere: tuple[OtherHost, ...] = ()
    """What machines of other names have left, of a bucket store, in folders of the same user: not published yet."""


def recover(repository: Repository, *, host: str | None = None) -> RecoverReport:
    """Publish every journal that nobody holds; with `host` also those of a machine of another name.

    Safe to repeat, and to kill at any point.

    Raises:
        InvalidInputError: nothing of `host` is left here.
    """
    session = repository.session
    session.require_writable()
    session.spool.finish()
    swept = session.spool.sweep()
    # A commit of some of them may stand; the rest is still to be done.
    with preparing():
        report = repository.sealer.seal(_LOCK_WAIT_SECONDS, beside=True)
        if host is not None:
            report = report.plus(_seal_of(session, host))
    session.refresh()
    uploaded = publish_orphans(session) if is_bucket(session.storage.location) else 0
    return RecoverReport(
        report.journals,
        report.entries,
        report.skipped,
        report.damaged,
        session.spool.strangers,
        swept,
        uploaded,
        other_hosts(session),
    )


def _seal_of(session: Session, host: str) -> SealReport:
    found = {other.host: other for other in other_hosts(session)}
    if host not in found:
        known = ", ".join(found) or "there is nothing of other machines"
        raise InvalidInputError(f"no journals of {host!r} are kept here", hint=f"what is kept: {known}")
    return seal_free(session, found[host].folder)
