"""A blob as a file: seekable, read-only, buffered; what is read of it is what is touched.

Layer: blobs. What takes a binary file takes it: zipfile, pyarrow, pandas, tarfile. Threads share one no more than any
other file: it is safe, but there is one position.
"""

from __future__ import annotations

import io
import os
from typing import Any, Final, SupportsIndex

from keepstone.blobs.ranges import RangeReader
from keepstone.foundation.errors import KeepstoneError

BUFFER_BYTES: Final = 64 * 1024
"""Smaller reads ask for as much."""


class BlobFile(io.BufferedReader):
    """A blob opened for reading.

    Every read may raise `CorruptionError`, `NotFoundError` or `StorageError`, about what it touches and nothing else;
    after one, `seek` before reading on.
    """

    def __init__(self, reader: RangeReader, name: str) -> None:
        super().__init__(_RawBlob(reader, name), BUFFER_BYTES)
        self._size = reader.size

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Refuse: a version can be pickled, and opened again elsewhere."""
        raise TypeError(f"cannot pickle the open file {self.name!r}: pickle its version, and open that again")


class _RawBlob(io.RawIOBase):
    mode = "rb"

    def __init__(self, reader: RangeReader, name: str) -> None:
        super().__init__()
        self.name = name
        self._reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.size}.get(whence)
        if base is None:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        start, filled = self._position, 0
        end = start + len(view)
        # What is in memory is given at once, even if it is less: nothing is read that may not be needed.
        here = self._reader.at_hand(start, end)
        try:
            for chunk in [here] if here else self._reader.chunks(start, end):
                view[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
        except KeepstoneError:
            # The buffer asks for more than its user did. Who goes on to what could not be read meets the same error.
            if not filled:
                raise
        self._position += filled
        return filled

    def readall(self) -> bytes:
        self._check_open()
        content = self._reader.read(self._position, self._reader.size)
        self._position += len(content)
        return content

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
