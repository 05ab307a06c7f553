"""The files of a kept folder as a mapping: path → bytes, each read when it is asked for.

Layer: objects. Links and empty folders are no files, and not in it; a checkout has them.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import BinaryIO, Final

from keepstone.foundation.errors import InvalidInputError, KeyNotFoundError
from keepstone.foundation.names import plural, shown
from keepstone.objects.manifest import Manifest, Part, PartMode
from keepstone.objects.serializer import ReadParts

_FILES: Final = frozenset({PartMode.FILE, PartMode.EXECUTABLE})


def files_of(manifest: Manifest) -> list[Part]:
    """Return the parts that are files, in the order of their paths."""
    return [part for part in manifest.parts if part.mode in _FILES]


class FolderItems(Mapping[str, bytes]):
    """The files of a folder, sorted by path; a loop over all of them reads ahead where that saves waiting."""

    def __init__(self, manifest: Manifest, read: ReadParts) -> None:
        self._parts = {part.path: part for part in files_of(manifest)}
        self._read = read

    def __repr__(self) -> str:
        return f"<{self._read.title}: a folder of {plural(len(self), 'file')}>"

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, path: object) -> bool:
        return path in self._parts

    def __getitem__(self, path: str) -> bytes:
        return self._read(self._part(path))

    def open(self, path: str) -> BinaryIO:
        """Return a file of it as a readable, seekable file, of which is read what is touched.

        Raises:
            KeyNotFoundError: it has no such file.
        """
        return self._read.open(self._part(path))

    def size(self, path: str) -> int:
        """Return the size of a file of it [bytes]; nothing is read.

        Raises:
            KeyNotFoundError: it has no such file.
        """
        return self._part(path).size

    def values(self) -> ValuesView[bytes]:
        """Return the content of the files."""
        return _Values(self)

    def items(self) -> ItemsView[str, bytes]:
        """Return the paths and the content of the files."""
        return _Items(self)

    def each(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of every file, read ahead."""
        parts = self._parts
        with self._read.ahead(parts.values()):
            for path, part in parts.items():
                yield path, self._read(part)

    def _part(self, path: str) -> Part:
        if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"path {path!r} is of type {type(path).__name__}, not text", hint="give it as in list(items)"
            )
        try:
            return self._parts[path]
        except KeyError:
            raise KeyNotFoundError(
                f"{self._read.title} has no file {shown(path)}",
                collection=self._read.title,
                key=path,
                hint=f"it has {plural(len(self), 'file')}: list(items) names them",
            ) from None


class _Values(ValuesView[bytes]):
    _mapping: FolderItems

    def __iter__(self) -> Iterator[bytes]:
        return (content for _, content in self._mapping.each())


class _Items(ItemsView[str, bytes]):
    _mapping: FolderItems

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping.each()
