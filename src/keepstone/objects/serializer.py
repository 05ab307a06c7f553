"""What a serializer is, and where the bytes of parts come from.

Layer: objects. A serializer has a stable id and version, both kept in the manifest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, runtime_checkable

from keepstone.foundation.errors import (
    InvalidInputError,
    SerializerError,
    StorageError,
    StoragePermissionError,
)
from keepstone.objects.manifest import Manifest, Part, PartMode

PICKLE_ID: Final = "pickle"
READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""For a user's file: neither a link nor a pipe that took its place may be opened and waited for."""

Make = Callable[[], Iterable["bytes | memoryview"]]
"""Gives bytes in pieces of any size, whenever it is called."""


class _Seen(NamedTuple):
    """What tells whether a file is as it was: a folder of a million files keeps no more of each than this."""

    size: int
    time: int
    """Of the last change of its content [ns]."""
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> _Seen:
        return cls(facts.st_size, facts.st_mtime_ns, facts.st_ino)


class Source:
    """Where a part's bytes come from: memory, a regular file as it was when this object was made, or a maker."""

    __slots__ = ("_content", "_make", "_path", "_seen", "size")

    def __init__(
        self,
        content: bytes | None,
        path: str,
        seen: _Seen | None,
        make: Make | None = None,
        size: int = 0,
    ) -> None:
        self._content = content
        self._path = path
        self._seen = seen
        self._make = make
        self.size = len(content) if content is not None else seen.size if seen else size
        """Bytes; about so many where they are made piece by piece."""

    @classmethod
    def of_bytes(cls, content: bytes) -> Source:
        """Return the source of `content`."""
        return cls(content, "", None)

    @classmethod
    def of_maker(cls, make: Make, size: int) -> Source:
        """Return the source of what `make` yields: the same pieces, of any size, whenever it is called.

        `size` is about how many bytes that are.

        A large value need not be in memory a second time, as bytes.
        """
        return cls(None, "", None, make, size)

    @classmethod
    def of_file(cls, path: str | os.PathLike[str], facts: os.stat_result | None = None) -> Source:
        """Return the source of the file at `path`; `facts` is its `lstat`, where the caller has it."""
        try:
            real = os.fspath(path) if facts else os.path.realpath(path)
            return cls(None, real, _Seen.of(facts or os.lstat(real)))
        except OSError as error:
            raise file_error(error, os.fspath(path)) from error

    @property
    def path(self) -> Path | None:
        """The file; None for bytes in memory and for those that are made."""
        return Path(self._path) if self._seen else None

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the content in pieces of at most `size` bytes; may be called again.

        Raises:
            SerializerError: the file is not what it was when this source was made; keep nothing of it.
            StorageError: it cannot be read.
        """
        if self._content is not None:
            for start in range(0, len(self._content), size):
                yield self._content[start : start + size]
            return
        if self._make is not None:
            for piece in self._make():
                for start in range(0, len(piece), size):
                    yield bytes(piece[start : start + size])
            return
        try:
            handle = os.open(self._path, READ_FLAGS)
        except OSError as error:
            raise file_error(error, self._path) from error
        # No file object: to make one takes longer than to read a small file.
        try:
            self._check(handle)
            left = self.size
            while left:
                try:
                    piece = os.read(handle, min(size, left))
                except OSError as error:
                    raise file_error(error, self._path) from error
                left -= len(piece)
                # Checked before the last piece is handed out: nobody ends up with a whole, wrong file.
                if not left or not piece:
                    self._check(handle, short=left > 0)
                yield piece
        finally:
            os.close(handle)

    def _check(self, handle: int, short: bool = False) -> None:
        now = os.fstat(handle)
        if short or _Seen.of(now) != self._seen or not stat.S_ISREG(now.st_mode):
            raise SerializerError(
                f"file {self._path!a} changed while it was being saved",
                hint="save it again when nothing writes to it any more",
            )


def file_error(error: OSError, path: str) -> StorageError | InvalidInputError:
    """Return the error to raise for a failing call on a user's file."""
    message = f"{path!a}: {error.strerror or error}"
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return InvalidInputError(
            f"no file or folder at {path!a}", hint="check the path; relative ones start here"
        )
    if isinstance(error, PermissionError):
        return StoragePermissionError(message, path=path, hint="allow this user to use it")
    return StorageError(message, path=path)


class PartSource(NamedTuple):
    """A part that is still to be stored."""

    path: str
    source: Source
    mode: int = PartMode.FILE


class Dumped(NamedTuple):
    """A value as a serializer took it apart; `repository` stores the parts and makes the manifest."""

    parts: tuple[PartSource, ...]
    type_name: str
    packages: dict[str, str]
    detail: dict[str, Any]


class Reader:
    """Gives the verified bytes of parts: called with a part, all of them; or piece by piece."""

    def __init__(self, stream: Callable[[Part], Iterable[bytes]]) -> None:
        self._stream = stream

    def __call__(self, part: Part) -> bytes:
        """Return the content of `part`."""
        return b"".join(self._stream(part))

    def chunks(self, part: Part) -> Iterator[bytes]:
        """Yield the content of `part`; only its end says that all of it is right."""
        return iter(self._stream(part))


class Declined(SerializerError):
    """A value looked like a serializer's own and is another's: the next one that matches is asked to dump it."""


class Serializer(Protocol):
    """Values of one family ↔ parts."""

    @property
    def id(self) -> str:
        """Stable, `[a-z][a-z0-9._-]*`; stands in every manifest."""
        ...

    @property
    def version(self) -> int:
        """From 1; counts up when the parts' layout changes. Older versions stay readable."""
        ...

    def matches(self, value: object) -> bool:
        """Whether this is the serializer for `value`; cheap, imports nothing."""
        ...

    def dump(self, value: object) -> Dumped:
        """Take `value` apart.

        Raises:
            SerializerError: it would not load as it is.
            Declined: another serializer that matches shall try.
        """
        ...

    def load(self, manifest: Manifest, read: Reader, type: Any = None) -> Any:  # noqa: A002
        """Build the value again; `type` is what the caller wants it to be.

        Raises:
            SerializerError: that is not possible.
        """
        ...


class ReadParts(Protocol):
    """What reads the parts of one version; every read is verified."""

    @property
    def title(self) -> str:
        """The version, for messages: `models/email@v3`."""
        ...

    def __call__(self, part: Part) -> bytes:
        """Return the part's bytes."""
        ...

    def open(self, part: Part) -> BinaryIO:
        """Return the part as a file that reads what is touched."""
        ...

    def ahead(self, parts: Iterable[Part]) -> AbstractContextManager[None]:
        """While this lasts, parts that will be read in this order are read ahead, where that saves waiting."""
        ...


@runtime_checkable
class OpensItems(Protocol):
    """What a serializer has besides, where its values have items that can be read one by one."""

    def open(self, manifest: Manifest, read: ReadParts) -> Mapping[str, Any]:
        """Return the value as a mapping that reads what is asked of it, and nothing before.

        Raises:
            SerializerError: that is not possible.
        """
        ...
