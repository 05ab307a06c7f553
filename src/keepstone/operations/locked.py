"""Reading by a lock: exactly the versions that it names, whatever the store's names mean by now.

Layer: operations. Everything is found by its digest, so what is read is what was pinned, or an error.
"""

from __future__ import annotations

import os
from typing import Any

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ArtifactNotFoundError, BlobNotFoundError, StorageError
from keepstone.foundation.format import MANIFEST_BYTES_MAX
from keepstone.foundation.names import shown
from keepstone.operations.closure import manifest_of, naming
from keepstone.operations.lock import Lock, LockedName, read_lock
from keepstone.operations.restore import named_store
from keepstone.repository.collection import Collection
from keepstone.repository.frozen import FrozenCollection, SnapshotItems, snapshot_items
from keepstone.repository.opening import close_repository, open_repository
from keepstone.repository.refs import VERSIONS, read_name_ref, version_key
from keepstone.repository.repository import Repository
from keepstone.repository.tracking import note_read
from keepstone.repository.version import Version
from keepstone.storage.files import path_text
from keepstone.storage.locate import locate


class _LockedItems(SnapshotItems):
    """A snapshot that is known by its digest: its number is that of another store, and no name here may mean it."""

    def reduced(self) -> tuple[Any, ...]:
        version = self._version
        return (_reopen_items, version.name, version.number, version.digest_bytes)


class Locked:
    """The versions that a lock names, to be read. Use `keepstone.locked`.

    Pickles as the paths of lock and store.
    """

    def __init__(self, path: str | os.PathLike[str], store: str | os.PathLike[str] | None = None) -> None:
        self.path = os.path.abspath(path_text(path))
        self.lock: Lock = read_lock(self.path)
        place = named_store(self.lock, self.path) if store is None else path_text(store)
        self._opened: Repository | None = open_repository(
            locate(place, writable=False), create=False, writable=False
        )
        self._store = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Locked, (self.path, self._store))

    def __repr__(self) -> str:
        return f"<Locked {self.path}: {len(self.lock.names)} versions in {self._store}>"

    def __enter__(self) -> Locked:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store; closing twice is allowed."""
        opened, self._opened = self._opened, None
        if opened is not None:
            close_repository(opened)

    @property
    def _repository(self) -> Repository:
        if self._opened is None:
            raise StorageError(f"the lock {self.path} was closed", path=self.path, hint="open it again")
        return self._opened

    def names(self) -> list[str]:
        """Return the names in the lock, sorted, each once."""
        return sorted({line.name for line in self.lock.names})

    def selectors(self) -> list[str]:
        """Return the versions in the lock, as `name@v3` of the store where they were pinned."""
        return [line.selector for line in self.lock.names]

    def resolve(self, selector: str) -> Version:
        """Return the version that the lock names: by name, or by number or digest where it names several.

        Raises:
            ArtifactNotFoundError: the lock does not name it, or its bytes are not in this store.
            CorruptionError: they are damaged; the message names it.
        """
        line = self.lock.find(selector)
        session = self._repository.session
        with naming(line.selector):
            try:
                manifest = manifest_of(line, session.read_blob(line.digest, bytes_max=MANIFEST_BYTES_MAX))
            except BlobNotFoundError as error:
                raise ArtifactNotFoundError(
                    f"{line.selector} ({str(line.digest)[:15]}…) is not in the store at {session.storage.location}",
                    selector=line.selector,
                    hint=f"bring it here with `keepstone restore {shown(self.path)} --from COPY_OR_BUNDLE`",
                ) from error
        return Version(self._repository, line.name, line.number, line.digest, self._created(line), manifest)

    def load(self, selector: str, *, type: Any = None, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value that the lock names, a fresh copy; see `Store.load`.

        Raises:
            ArtifactNotFoundError: the lock does not name it, or its bytes are not in this store.
            CorruptionError, BlobNotFoundError: they are damaged or gone in part; the message names it.
        """
        version = self.resolve(selector)
        with naming(version.selector):
            return version.load(type, allow_pickle=allow_pickle)

    def collection(self, selector: str, *, type: Any = None) -> Collection[Any]:  # noqa: A002
        """Return a collection as it was when it was pinned, to be read only; see `Store.collection`.

        Raises:
            KindError: the lock names an artifact.
            ArtifactNotFoundError, CorruptionError: as `resolve`.
        """
        version = self.resolve(selector)
        snapshot_items(self._repository, version)
        note_read(version)
        return FrozenCollection(
            self._repository, version.name, type, _LockedItems(self._repository.session, version)
        )

    def _created(self, line: LockedName) -> int:
        """Return the stamp of a version of that name with these bytes; 0 where the store has only the bytes."""
        session = self._repository.session
        last = 0
        value = session.log.state.refs.get(line.name)
        if value is not None:
            last = read_name_ref(value, line.name).given
        for number in (line.number, *range(last, 0, -1)):
            row = session.peek(VERSIONS, version_key(line.name, number))
            if row is not None and row.digest == line.digest:
                return row.stamp
        return 0

    def digest(self, selector: str) -> Digest:
        """Return the digest that the lock gives."""
        return self.lock.find(selector).digest


def _reopen_items(
    repository: Repository, kind: Any, name: str, number: int, digest: Digest
) -> FrozenCollection[Any]:
    manifest = repository.session.read_manifest(digest)
    version = Version(repository, name, number, digest, 0, manifest)
    return FrozenCollection(repository, name, kind, _LockedItems(repository.session, version))
