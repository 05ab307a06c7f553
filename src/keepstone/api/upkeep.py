"""What is done to the whole of a store: pins and what they protect, recovery, checking, counting.

Layer: api. One line each; the work is done in operations, which most programs never import.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from keepstone.repository.repository import Repository

if TYPE_CHECKING:
    from keepstone.operations.fsck import FsckReport
    from keepstone.operations.pins import Pin, Pinned
    from keepstone.operations.progress import Progress
    from keepstone.operations.recover import RecoverReport
    from keepstone.operations.restore import RestoreReport
    from keepstone.operations.stats import StoreStats
    from keepstone.operations.verify import VerifyReport


class Upkeep(ABC):
    """The verbs of a `Store` that are about all of it, or about what it hands on."""

    @property
    @abstractmethod
    def repository(self) -> Repository:
        """What the work is done on."""

    def pin(
        self,
        names: Iterable[str],
        lock: str | os.PathLike[str] = "keepstone.lock",
        *,
        remotes: Iterable[str] | None = None,
    ) -> Pinned:
        """Write the lock file `lock`, which names what `names` mean now by digest, and protect that from collection.

        Pinning again replaces the file, and its protection. `remotes` are URLs of copies of the store; None keeps
        those that the file has, and credentials in them are left out. On a store that can only be read just the
        file is written: `protected` is False then.

        Raises:
            ArtifactNotFoundError: one of the names does not exist; nothing was changed.
            ConflictError: something that is no lock stands there.
            StorageError: the medium failed; the lock file is the old one or the new one, whole.
        """
        from keepstone.operations.pins import pin

        return pin(self.repository, names, lock, remotes)

    def unpin(self, lock: str | os.PathLike[str] = "keepstone.lock") -> Pin:
        """Take the protection of a lock file away, by its path or by the id of a pin; the file stays.

        Raises:
            NotFoundError: it is not pinned in this store.
            ConflictError: several pins could be meant.
        """
        from keepstone.operations.pins import unpin

        return unpin(self.repository, lock)

    def pins(self) -> tuple[Pin, ...]:
        """Return what is protected by pins."""
        from keepstone.operations.pins import pins

        return pins(self.repository)

    def restore(
        self,
        lock: str | os.PathLike[str] = "keepstone.lock",
        *,
        source: str | os.PathLike[str] | Upkeep | None = None,
        progress: Progress = False,
    ) -> RestoreReport:
        """Bring exactly what a lock names into this store, in one commit; safe to repeat after it was cut off.

        `source` is a copy of the store (a path, a URL, a `Store`) or a bundle; None is the store that the lock names.
        `lock` may be a bundle itself. What is here already is not copied; a name gets its next numbers here.
        `progress` is True, or told of bytes, as for `push`.

        Raises:
            ArtifactNotFoundError: the source does not have one of them; nothing was changed.
            BlobNotFoundError, CorruptionError: something is damaged or lost there; the message names the version, and
                nothing was changed.
            KindError: a name is of another kind here.
            StorageError: the medium failed; nothing was changed.
        """
        from keepstone.operations.restore import restore

        place = source.repository if isinstance(source, Upkeep) else source
        return restore(self.repository, lock, place, progress=progress)

    def verify(self, lock: str | os.PathLike[str] = "keepstone.lock") -> VerifyReport:
        """Read every byte of what a lock names and compare it with its digest; changes nothing.

        Raises:
            NotFoundError: there is no such lock file.
        """
        from keepstone.operations.verify import verify

        return verify(self.repository, lock)

    def bundle(
        self, lock: str | os.PathLike[str], path: str | os.PathLike[str], *, replace: bool = False
    ) -> None:
        """Write a lock and all that it names as one file; `restore` reads it.

        Raises:
            ConflictError: something is at `path`, and `replace` is False.
            ArtifactNotFoundError: this store does not have one of them.
            BlobNotFoundError, CorruptionError: something is damaged or lost; the message names the version.
            StorageError: the medium failed; what was at `path` is as it was.
        """
        from keepstone.operations.bundle import bundle

        bundle(self.repository, lock, path, replace=replace)

    # ---- the whole store ---------------------------------------------------------------------------------------------

    def recover(self, *, host: str | None = None) -> RecoverReport:
        """Publish what processes left in their journals, however they died. Safe to repeat; can itself be killed.

        Journals of a store in a bucket stand below the name of their machine. `host` publishes those of another name
        as well, as the report's `elsewhere` says it: of a machine that is gone, or of this one before it was renamed.
        Nothing may be writing there.

        Raises:
            InvalidInputError: nothing of `host` is left here.
        """
        from keepstone.operations.recover import recover

        return recover(self.repository, host=host)

    def fsck(self, *, read_data: bool = False) -> FsckReport:
        """Check the store; changes nothing. `read_data` reads every byte."""
        from keepstone.operations.fsck import fsck

        return fsck(self.repository, read_data=read_data)

    def stats(self) -> StoreStats:
        """Return how much of what is in the store."""
        from keepstone.operations.stats import stats

        return stats(self.repository)
