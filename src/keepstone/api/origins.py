"""Where versions come from: tracking what a block of code reads and saves, and following it.

Layer: api. One line each; the work is done in operations, which most programs never import.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from keepstone.repository.repository import Repository
from keepstone.repository.version import Version

if TYPE_CHECKING:
    from keepstone.operations.job import Job
    from keepstone.operations.lineage import Lineage


class Origins(ABC):
    """The verbs of a `Store` that are about what was made from what."""

    @property
    @abstractmethod
    def repository(self) -> Repository:
        """What the work is done on."""

    def track(self, name: str, *, config: object = None, message: str = "") -> Job:
        """Return a job: `with store.track("train", config=config) as job:`.

        Every version that is read inside, of this store or another, becomes a parent of everything saved inside after
        it. At the end, also with an exception, one artifact `name` is saved: `config` and the command line without
        credentials, the git commit, branch and diff, Python, platform, imported packages, inputs and outputs. Doing the
        same again makes no new version of it. Tasks of asyncio belong to the block, threads only with
        `contextvars.copy_context().run`. Items of collections have no version: read a snapshot.

        Raises:
            InvalidInputError: the name or the config cannot be accepted.
            KindError: the name is a collection's.
        """
        from keepstone.operations.job import Job

        return Job(lambda: self.repository, name, config, message)

    def lineage(
        self, of: str | Version, *, direction: Literal["up", "down"] = "up", depth: int | None = None
    ) -> Lineage:
        """Return what a version was made from ("up"), or what was made from it ("down"), `depth` steps far.

        `of` is a selector, a version, or a digest, also of a version that is not here. Parents that are not in this
        store are shown by their digests. "down" reads the manifests of all versions.

        Raises:
            ArtifactNotFoundError: the selector means nothing.
        """
        from keepstone.operations.lineage import lineage

        return lineage(self.repository, of, direction, depth)
