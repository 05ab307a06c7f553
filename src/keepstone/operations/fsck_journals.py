"""Checking journals: what lies in the files of this machine's processes, read without taking any lock.

Layer: operations. Format: docs/format.md §5. A journal whose owner is at work may end in half a frame: no damage.
"""

from __future__ import annotations

from typing import NamedTuple

from keepstone.blobs.journal import JournalFile, Row
from keepstone.blobs.journal_header import JournalHeader as Header
from keepstone.blobs.journal_header import read_journal_header
from keepstone.foundation.clock import FOLLOW_AHEAD_NS_MAX
from keepstone.foundation.errors import CorruptionError
from keepstone.history.slots import Slots
from keepstone.history.state import State
from keepstone.operations.findings import UNREADABLE, Findings, invariant_of, told
from keepstone.operations.fsck_log import LogCheck
from keepstone.repository.sealing import DAMAGED_SUFFIX, SEALER_FILE
from keepstone.storage import platform
from keepstone.storage.base import Storage
from keepstone.storage.calls import Calls, close_quietly
from keepstone.storage.draft import TEMPORARY_PREFIX
from keepstone.storage.local import LocalStorage
from keepstone.storage.locate import is_bucket
from keepstone.storage.places import spool_folder

FOLDER = "journals"


class JournalsCheck(NamedTuple):
    """The journals that can be read, open until this is let go of."""

    journals: tuple[JournalFile, ...]
    where: str = FOLDER
    """The folder, as findings name it."""

    def rows(self) -> list[tuple[str, Row]]:
        """Return (collection, newest row of each key) of all of them."""
        return [row for journal in self.journals for row in journal.all_rows()]


def open_journals(storage: Storage, store_id: bytes | None, findings: Findings) -> JournalsCheck:
    """Index every journal and note what cannot be; to be called before the log is read.

    What leaves a journal is in the log before: read in this order nothing can be missed in between.
    """
    if isinstance(storage, LocalStorage):
        place = _Place(f"{storage.location}/{FOLDER}", FOLDER, storage.calls)
    elif store_id is not None and is_bucket(storage.location):
        # Only those of this machine can be seen from here.
        folder = str(spool_folder(store_id.hex(), storage.location))
        place = _Place(folder, folder, Calls())
    else:
        return JournalsCheck(())
    try:
        names = sorted(entry.name for entry in place.calls.scandir(place.folder))
    except FileNotFoundError:
        return JournalsCheck(())
    except OSError as error:
        findings.warn("I1", place.where, f"cannot be listed: {told(error)}")
        return JournalsCheck(())
    unborn = [name for name in names if name.startswith(TEMPORARY_PREFIX)]
    if unborn:
        findings.litter(
            place.where,
            f"{len(unborn):,} unborn journals, which a crash left; `keepstone recover` removes them",
        )
    for name in names:
        if name.endswith(DAMAGED_SUFFIX):
            findings.warn(
                "I1", f"{place.where}/{name}", "was damaged and set aside; its sound items were published"
            )
    opened = (
        _open(place, name, findings) for name in names if not name.startswith(".") and name != SEALER_FILE
    )
    return JournalsCheck(tuple(journal for journal in opened if journal is not None), place.where)


class _Place(NamedTuple):
    folder: str
    where: str
    calls: Calls


def _open(place: _Place, name: str, findings: Findings) -> JournalFile | None:
    where, calls = f"{place.where}/{name}", place.calls
    try:
        descriptor = calls.open(f"{place.folder}/{name}", platform.OPEN_READ)
    except FileNotFoundError:
        # Sealed since it was listed.
        return None
    except OSError as error:
        findings.warn("I1", where, f"cannot be opened: {told(error)}")
        return None
    try:
        header, end = read_journal_header(name, descriptor, calls)
    except UNREADABLE as error:
        close_quietly(calls, descriptor)
        findings.damage(invariant_of(error, "I1"), where, f"{told(error)}; nobody reads or adopts it")
        return None
    journal = JournalFile(name, descriptor, header, end, calls)
    findings.journals += 1
    try:
        journal.poll()
        findings.bytes_read += journal.end
    except UNREADABLE as error:
        findings.damage(
            invariant_of(error, "I1"), where, f"cannot be read behind byte {journal.end:,}: {told(error)}"
        )
    return journal


def check_journals(
    storage: Storage,
    journals: JournalsCheck,
    log: LogCheck,
    store_id: bytes | None,
    findings: Findings,
    *,
    read_data: bool,
    now_ns: int,
) -> None:
    """Judge the journals by the state that they belong to."""
    for journal in journals.journals:
        where = f"{journals.where}/{journal.name}"
        header = journal.header
        if store_id is not None and header.store_id != store_id:
            findings.warn("I1", where, "belongs to another store; it is left alone")
            continue
        if header.journal_id in log.state.sealed:
            findings.litter(where, "was published; its file is removed by the next one that seals")
        elif log.whole and not _continues(storage, header, log.state):
            findings.warn(
                "I4",
                where,
                f"was begun after commit {header.tip}, which this log does not have; it is not adopted",
            )
        _report_damage(journal, where, findings)
        ahead = [row.stamp for _, row in journal.all_rows() if row.stamp > now_ns + FOLLOW_AHEAD_NS_MAX]
        if ahead:
            hours = (max(ahead) - now_ns) / 3.6e12
            findings.warn(
                "I6", where, f"has stamps {hours:,.1f} h ahead of this clock: its items are dated wrong"
            )
        if read_data:
            _read_values(journal, where, findings)


def _continues(storage: Storage, header: Header, state: State) -> bool:
    if header.tip < 0 or header.tip == state.number:
        return header.tip < 0 or header.tip_hash == state.hash
    if header.tip > state.number:
        return False
    try:
        slots = Slots(storage, header.store_id, sleep=lambda seconds: None, random=lambda: 0.0)
        commit = slots.find(header.tip)
    except UNREADABLE:
        # That slot is a finding already.
        return True
    return commit is None or commit.hash == header.tip_hash


def _report_damage(journal: JournalFile, where: str, findings: Findings) -> None:
    covered = {damage for damage in journal.damage if damage.covered}
    torn = set(journal.damage) - covered
    if covered:
        at = ", ".join(f"{damage.offset:,}" for damage in sorted(covered)[:8])
        findings.damage(
            "I1", where, f"is damaged at byte {at}, below what had been synced; some of its items are lost"
        )
    if torn:
        size = sum(damage.size for damage in torn)
        findings.warn(
            "I1", where, f"has {size:,} torn bytes in {len(torn):,} places, above what had been synced"
        )


def _read_values(journal: JournalFile, where: str, findings: Findings) -> None:
    for collection, row in journal.all_rows():
        if row.offset < 0:
            continue
        findings.bytes_read += row.size
        try:
            journal.read_value(row)
        except CorruptionError as error:
            findings.damage("I2", where, told(error), [f"{collection}[{row.key}]"])
        except OSError as error:
            findings.damage("I1", where, told(error), [f"{collection}[{row.key}]"])
