"""Verifying: is everything that a lock names here, and is every byte of it right?

Layer: operations. Reads only. Each version is looked at by itself, so the report names all that are missing or damaged,
not only the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from typing import Literal, NamedTuple

from keepstone.foundation.errors import ArtifactNotFoundError, DigestMismatchError
from keepstone.operations.bundle import Bundle
from keepstone.operations.closure import UNREADABLE, PackBlobs, blobs_of, contents
from keepstone.operations.lock import LockedName, read_lock
from keepstone.repository.repository import Repository

Condition = Literal["right", "missing", "damaged"]


class Verdict(NamedTuple):
    """What was found of one name of a lock."""

    selector: str
    digest: str
    condition: Condition
    problem: str = ""
    """What is the matter; empty where nothing is."""


class VerifyReport(NamedTuple):
    """What was found of all of them."""

    verdicts: tuple[Verdict, ...]
    blobs: int
    bytes_read: int
    """Uncompressed."""
    problem: str = ""
    """Damage of a bundle that touches none of the names."""

    @property
    def ok(self) -> bool:
        """Whether everything is here and right."""
        return not self.missing and not self.damaged and not self.problem

    @property
    def missing(self) -> tuple[Verdict, ...]:
        """What is not here at all."""
        return tuple(verdict for verdict in self.verdicts if verdict.condition == "missing")

    @property
    def damaged(self) -> tuple[Verdict, ...]:
        """What cannot be read whole."""
        return tuple(verdict for verdict in self.verdicts if verdict.condition == "damaged")


def verify(repository: Repository, lock: str | os.PathLike[str]) -> VerifyReport:
    """Read every byte that the lock at a path names, from this store; return what was found."""
    names = read_lock(lock, repository.session.calls).names
    repository.session.refresh()
    return _verify(blobs_of(repository.session), names)


def verify_bundle(path: str | os.PathLike[str]) -> VerifyReport:
    """Read every byte of a bundle; return what was found. No store is needed.

    Raises:
        NotFoundError: there is no such file.
        CorruptionError: its index is damaged, so nothing can be said about the names in it.
        UnsupportedFormatError: a newer release wrote it.
    """
    with Bundle(path) as bundle:
        report = _verify(bundle.blobs, bundle.lock.names)
        try:
            bundle.check()
        except DigestMismatchError as error:
            return report if report.damaged else report._replace(problem=str(error))
        return report


class _Read:
    def __init__(self) -> None:
        self.sound: set[bytes] = set()
        self.bytes = 0


def _verify(blobs: PackBlobs, names: Iterable[LockedName]) -> VerifyReport:
    read = _Read()
    verdicts = tuple(_verdict(blobs, line, read) for line in names)
    return VerifyReport(verdicts, len(read.sound), read.bytes)


def _verdict(blobs: PackBlobs, line: LockedName, read: _Read) -> Verdict:
    try:
        with (
            closing(contents(blobs, line)) as found,
            blobs.reading(content for content in found if content.digest not in read.sound) as rest,
        ):
            for content in rest:
                if content.digest in read.sound:
                    continue
                for stored in blobs.stored(content):
                    read.sound.add(bytes(stored.digest))
                    read.bytes += len(stored.raw)
    except ArtifactNotFoundError:
        return Verdict(line.selector, str(line.digest), "missing", f"is not in {blobs.where}")
    except UNREADABLE as error:
        return Verdict(line.selector, str(line.digest), "damaged", str(error))
    return Verdict(line.selector, str(line.digest), "right")
