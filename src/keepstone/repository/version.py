"""A version of an artifact, and what one can do with it.

Layer: repository. A version never changes: its digest stands for its content, its metadata and its parents.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from keepstone.blobs.blob_file import BlobFile
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import ArtifactNotFoundError, InvalidInputError
from keepstone.foundation.format import SNAPSHOT_SERIALIZER
from keepstone.foundation.names import plural, shown
from keepstone.objects.manifest import Manifest, Part
from keepstone.objects.trees import links_last, part_name, write_tree
from keepstone.repository.arguments import check_kind_of
from keepstone.repository.opened import PartReader, map_part, open_items
from keepstone.repository.tracking import note_read, note_saved

if TYPE_CHECKING:
    from keepstone.repository.collection import Collection
    from keepstone.repository.repository import Repository
    from keepstone.repository.staging import Staging


class Version:
    """One immutable version; equal where name, number and digest are.

    One that a transaction saved has no number before the transaction has ended; its value can be read.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        number: int | None,
        digest: Digest,
        created_ns: int,
        manifest: Manifest,
        *,
        created_new: bool = False,
        staging: Staging | None = None,
    ) -> None:
        self._repository = repository
        self._manifest = manifest
        self._created_ns = created_ns
        self.name = name
        self._number = number
        self._digest = digest
        self._created_new = created_new
        self._staging = staging
        """Where its bytes are as long as it is not committed."""

    def settle(self, number: int, created_ns: int, created_new: bool) -> None:
        """Take the number that the commit gave."""
        self._number, self._created_ns, self._created_new = number, created_ns, created_new
        self._staging = None
        note_saved(self)

    def discard(self) -> None:
        """Let go of what was staged: there was no commit."""
        self._staging = None

    @property
    def number(self) -> int:
        """Counts up for each name, and is never given again.

        Raises:
            InvalidInputError: it was saved in a transaction that has not ended, or ended without a commit.
        """
        return self._require_commit()

    def _require_commit(self) -> int:
        if self._number is None:
            when = "has not ended yet" if self._staging else "ended without a commit"
            raise InvalidInputError(
                f"this version of {self.name!r} has no number: its transaction {when}",
                hint="ask for it after the `with` block" if self._staging else "save it again",
            )
        return self._number

    @property
    def created_new(self) -> bool:
        """Whether the save that returned this made it; False where it equals the newest version."""
        self._require_commit()
        return self._created_new

    @property
    def digest(self) -> str:
        """`b3:` and 64 hex digits, of content, metadata and parents."""
        return str(self._digest)

    @property
    def digest_bytes(self) -> Digest:
        """The digest as 32 bytes."""
        return self._digest

    @property
    def selector(self) -> str:
        """`name@v3`, which means this version for ever in this store."""
        return f"{self.name}@v{self.number}"

    @property
    def created(self) -> datetime.datetime:
        """When it was saved, in UTC; by the clock of who saved it."""
        self._require_commit()
        return datetime.datetime.fromtimestamp(self._created_ns / 1e9, datetime.UTC)

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts, uncompressed."""
        return sum(part.size for part in self._manifest.parts)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What was given at save; read-only."""
        return MappingProxyType(self._manifest.metadata)

    @property
    def parents(self) -> tuple[str, ...]:
        """Digests of the versions that this one was made from."""
        return self._manifest.parents

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, sorted by path."""
        return self._manifest.parts

    @property
    def type_name(self) -> str:
        """What kind of value it holds, for people."""
        return self._manifest.type_name

    @property
    def manifest(self) -> Manifest:
        """The frozen description of it all."""
        return self._manifest

    @property
    def is_snapshot(self) -> bool:
        """Whether it is a snapshot of a collection: it has items, and no files."""
        return self._manifest.serializer == SNAPSHOT_SERIALIZER

    @property
    def serializer(self) -> str:
        """Id of the serializer that wrote it."""
        return self._manifest.serializer

    def __repr__(self) -> str:
        number = "?" if self._number is None else self._number
        return f"<Version {self.name}@v{number} {self.digest[:11]}… {plural(self.size_bytes, 'byte')}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.name, self._number, self._digest) == (other.name, other._number, other._digest)

    def __hash__(self) -> int:
        # Without the number, which one that a transaction saved gets later.
        return hash((self.name, self._digest))

    def __getstate__(self) -> dict[str, Any]:
        self._require_commit()
        return self.__dict__

    def load(self, type: Any = None, *, allow_pickle: bool = False) -> Any:  # noqa: A002
        """Return the value, a fresh copy; `type` builds a dataclass, Struct, pydantic or attrs instance of it.

        Of a snapshot of a collection it is a dict of all items, and `type` that of each; `items` reads
        them one by one.
        """
        note_read(self)
        if self.is_snapshot:
            return dict(self._snapshot(type).items())
        return self._repository.load_manifest(
            self._manifest, type, allow_pickle=allow_pickle, stream=self._stream
        )

    @property
    def title(self) -> str:
        """The selector, for messages; the name alone as long as it has no number."""
        return self.name if self._number is None else self.selector

    def _stream(self, digest: Digest) -> Iterator[bytes]:
        if self._staging is not None:
            return self._staging.stream_blob(digest)
        self._require_commit()
        return self._repository.session.stream_blob(digest)

    def stream(self, part: Part) -> Iterator[bytes]:
        """Yield the bytes of one of its parts, piece by piece."""
        return self._stream(Digest(part.digest))

    def chunks(self, path: str = "") -> Iterator[bytes]:
        """Yield the bytes of one part, piece by piece; of the only one where `path` is empty.

        Raises:
            ArtifactNotFoundError: there is no such part.
        """
        part = self._part(path)
        note_read(self)
        return self.stream(part)

    def open(self, path: str = "") -> BlobFile:
        """Return one part as a readable, seekable file; the only one where `path` is empty.

        What is read of it is what is touched: of a large part only the pieces around it. Threads open it each for
        themselves. Read from beginning to end it is verified as a whole, of a part each piece is. Close it, or use it
        in a `with` block, when much of a store in a bucket was read in order: what comes next is on its way then.

        Raises:
            ArtifactNotFoundError: there is no such part.
        """
        return self.open_part(self._part(path))

    def open_part(self, part: Part) -> BlobFile:
        """Return one of its parts as a file."""
        if self._staging is None:
            self._require_commit()
        note_read(self)
        reads = self._staging or self._repository.session
        return BlobFile(reads.open_blob(Digest(part.digest), part.size), f"{self.title}:{part.path}")

    def mmap(self, path: str = "") -> memoryview:
        """Return one part as read-only memory that is the store's own file, verified once, now: nothing is copied.

        That takes a store in a folder, and a part that lies there whole and as it is: one of at most 1 MiB that does
        not compress. Of anything else `open` reads parts.

        Raises:
            InvalidInputError: it is stored in another way.
            ArtifactNotFoundError: there is no such part.
        """
        part = self._part(path)
        self._require_commit()
        note_read(self)
        return map_part(self._repository.session, part, f"{self.selector}:{part.path}".rstrip(":"))

    def items(self, type: Any = None) -> Mapping[str, Any]:  # noqa: A002
        """Return what it holds as a mapping that is read item by item, and never changes.

        The items of a snapshot of a collection, `type` being that of each; the files of a folder, path → bytes;
        the arrays or tensors of a dict, dicts inside being such mappings again.

        Raises:
            KindError: it is one value, that has no items.
        """
        if self.is_snapshot:
            return self._snapshot(type)
        found = open_items(self._repository, self, type)
        note_read(self)
        return found

    def _snapshot(self, type: Any) -> Collection[Any]:  # noqa: A002
        from keepstone.repository.frozen import open_snapshot

        return open_snapshot(self._repository, self, type)

    def _require_parts(self) -> None:
        if self.is_snapshot:
            raise InvalidInputError(
                f"{self.selector} is a snapshot of a collection: it has items, and no files",
                hint=f"read them with store.collection({self.selector!r})",
            )

    def _part(self, path: str) -> Part:
        check_kind_of(path, str, "path", "the path of a part, as text")
        self._require_parts()
        parts = self._manifest.parts
        if not path and len(parts) == 1:
            return parts[0]
        for part in parts:
            if part.path == path or part_name(self._manifest, part) == path:
                return part
        known = tuple(part.path for part in parts[:8])
        raise ArtifactNotFoundError(
            f"{self.selector} has no part {shown(path)}"
            if path
            else f"{self.selector} has {len(parts)} parts",
            selector=self.selector,
            near=known,
            hint=f"name one of its {len(parts)} parts, such as {', '.join(known)}",
        )

    def checkout(
        self,
        target: str | os.PathLike[str],
        *,
        update: bool = False,
        overwrite: bool = False,
        outside_links: bool = False,
    ) -> str:
        """Write the parts as files to the folder `target`; return its path.

        The folder must not exist yet, or be empty. With `update` it may hold anything, such as another version: files
        that are equal stay untouched, others are replaced one by one once all of them are here, and what this version
        does not have is removed. Nothing is lost by that: a file whose content this store does not hold is refused,
        unless `overwrite` is given, too. Files are copies: to change one changes nothing in the store. Stores in the
        folder stay as they are. A link that leads out of `target` is refused, unless `outside_links` is given.

        Raises:
            ConflictError: something is there; or with `update`, something that would be lost.
            InvalidInputError: it is a snapshot of a collection; or `overwrite` is given without `update`.
            SerializerError: a link leads out of `target`.
            CorruptionError: a part is damaged; nothing is left at `target`, nothing in it has changed.
        """
        self._require_parts()
        check_kind_of(target, (str, os.PathLike), "target", "the path of a folder")
        if overwrite and not update:
            raise InvalidInputError(
                "overwrite=True says what an update may do, and update is not given",
                hint="add update=True, or leave it out",
            )
        note_read(self)
        reader = PartReader(self._repository, self)
        if update:
            from keepstone.objects.tree_updates import update_tree

            entries = self._repository.session.entries
            update_tree(
                self._manifest,
                self.stream,
                target,
                is_kept=lambda digest: entries.find_blob(digest) is not None,
                ahead=reader.ahead,
                overwrite=overwrite,
                outside_links=outside_links,
            )
        else:
            with reader.ahead(links_last(self._manifest.parts)):
                write_tree(self._manifest, self.stream, target, outside_links=outside_links)
        return os.fspath(target)
