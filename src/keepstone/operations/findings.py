"""Findings: what a check of a store has to say, and how bad each of it is.

Layer: operations. A finding names the invariant of docs/invariants.md that does not hold, the object where it was seen,
and what can no longer be read because of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from keepstone.foundation.errors import KeepstoneError, UnsupportedFormatError
from keepstone.history.commit import PackRecord

UNREADABLE: Final = (KeepstoneError, OSError, ValueError, LookupError, OverflowError)
"""What reading damaged bytes may raise; the last three where a check sum holds and the content makes no sense."""


class Severity(StrEnum):
    """What a finding means for what was kept."""

    DAMAGE = "damage"
    """Something that counts cannot be read, or a rule that protects it is broken."""
    WARNING = "warning"
    """Nothing that counts is lost: a throwaway object is wrong, a clock was, or a file is a stranger."""
    LITTER = "litter"
    """Takes space, and nothing else."""


class Finding(NamedTuple):
    """One thing that is not as it must be."""

    invariant: str
    """Its number in docs/invariants.md."""
    where: str
    problem: str
    touches: tuple[str, ...] = ()
    """What cannot be read because of it: `name@v3` of artifacts, `collection[key]` of items; `collection[*]` where
    the keys themselves are lost."""
    severity: Severity = Severity.DAMAGE


class FsckReport(NamedTuple):
    """What a check found."""

    commits: int
    packs: int
    blobs: int
    entries: int
    journals: int
    bytes_read: int
    findings: tuple[Finding, ...]
    orphans: int = 0
    """Packs that no commit names: uploads under way, or left by a crash."""
    tip: int = -1
    """Number of the newest commit that could be checked."""

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged; warnings and litter may have been found all the same."""
        return not self.damage

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that are damage."""
        return tuple(finding for finding in self.findings if finding.severity == Severity.DAMAGE)


class Trouble:
    """A finding under way: which blobs it costs is known before what those blobs mean."""

    def __init__(
        self,
        invariant: str,
        where: str,
        problem: str,
        lost: Iterable[bytes] = (),
        *,
        pack: PackRecord | None = None,
    ) -> None:
        self.invariant = invariant
        self.where = where
        self.problem = problem
        self.lost = set(lost)
        """Digests that cannot be read there."""
        self.pack = pack
        """The pack that has no index any more, so that more may be lost than `lost` says; None where all is known."""
        self.touches: set[str] = set()

    def finding(self) -> Finding:
        """Return what it comes to."""
        return Finding(self.invariant, self.where, self.problem, tuple(sorted(self.touches)))


class Findings:
    """What was found so far, and how much was looked at."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.troubles: list[Trouble] = []
        self.commits = self.packs = self.blobs = self.entries = self.journals = 0
        self.bytes_read = self.orphans = 0
        self.tip = -1

    def damage(self, invariant: str, where: str, problem: str, touches: Iterable[str] = ()) -> None:
        """Note damage whose extent is known."""
        self.found.append(Finding(invariant, where, problem, tuple(sorted(set(touches)))))

    def warn(self, invariant: str, where: str, problem: str) -> None:
        """Note what should be looked at."""
        self.found.append(Finding(invariant, where, problem, severity=Severity.WARNING))

    def litter(self, where: str, problem: str) -> None:
        """Note what only takes space."""
        self.found.append(Finding("I14", where, problem, severity=Severity.LITTER))

    def trouble(
        self,
        invariant: str,
        where: str,
        problem: str,
        lost: Iterable[bytes] = (),
        *,
        pack: PackRecord | None = None,
    ) -> Trouble:
        """Note damage whose meaning is found out later."""
        trouble = Trouble(invariant, where, problem, lost, pack=pack)
        self.troubles.append(trouble)
        return trouble

    def report(self) -> FsckReport:
        """Return all of it, damage first."""
        order = list(Severity)
        findings = [trouble.finding() for trouble in self.troubles] + self.found
        return FsckReport(
            commits=self.commits,
            packs=self.packs,
            blobs=self.blobs,
            entries=self.entries,
            journals=self.journals,
            bytes_read=self.bytes_read,
            findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
            orphans=self.orphans,
            tip=self.tip,
        )


def told(error: BaseException) -> str:
    """Return what an error says."""
    return str(error) or type(error).__name__


def invariant_of(error: BaseException, otherwise: str) -> str:
    """Return the invariant that an error of reading is about."""
    return "I15" if isinstance(error, UnsupportedFormatError) else otherwise
