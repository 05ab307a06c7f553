"""Input files: one JSON object a line, checked whole before anything is asked.

Layer: workflows. Keeps 16 bytes of memory for each line (place and key hash), so a million lines take 16 MB;
the lines themselves are read again when their turn comes.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterator
from typing import IO, Any, Final, cast

import msgspec

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError
from keepstone.workflows.ledger import key_hash
from keepstone.workflows.task import Task
from keepstone.workflows.values import canonical, canonical_digest, key_text

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
_PARTS_MAX: Final = 16
_PART_LINES: Final = 65_536


class InputFile:
    """The lines of a JSONL file; blank lines are skipped, equal lines count once.

    Raises (from the constructor):
        InvalidInputError: no such file, a line that is no JSON object, a line without its key, or two
        different
            lines with one key; the message has the line number.
    """

    def __init__(self, path: str, *, key: str | None = None, expected: str | None = None) -> None:
        self.path = path
        self.key = key
        """Field that holds the key; None: the digest of the line's canonical form."""
        self.expected = expected
        """Field that holds the expected value."""
        self.duplicates = 0
        self._offsets: array[int] = array("Q")
        self._hashes: array[int] = array("Q")
        self._lock = threading.Lock()
        if path == "-":
            raise InvalidInputError(
                "--input - cannot be resumed", hint="write the lines to a file, and name that"
            )
        try:
            self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise InvalidInputError(
                f"input file {path!r} cannot be read: {(error.strerror or str(error)).lower()}",
                hint="check its path",
            ) from error
        # Lines that are appended while this runs belong to the next run.
        self._end = os.fstat(self._file.fileno()).st_size
        try:
            self._scan()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._offsets)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> InputFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keys(self) -> Iterator[str]:
        """Yield the key of each item, in the order of the file; not while other threads read tasks."""
        place = -1
        for offset in self._offsets:
            if offset != place:
                self._file.seek(offset)
            line = self._file.readline(LINE_BYTES_MAX + 2)
            place = offset + len(line)
            yield self._key_of(self._parse(_stripped(line), self.path), self.path)

    def hash_of(self, index: int) -> int:
        """Return the hash of the key of item `index`."""
        return self._hashes[index]

    def task(self, index: int, *, is_stale: bool = False, failed_before: bool = False) -> Task:
        """Return item `index`, read from the file."""
        with self._lock:
            self._file.seek(self._offsets[index])
            line = self._file.readline(LINE_BYTES_MAX + 2)
        where = f"{self.path}, item {index + 1}"
        asked = self._parse(_stripped(line), where)
        key = self._key_of(asked, where)
        if key_hash(key) != self._hashes[index]:
            raise InvalidInputError(f"{self.path} was changed while it was read", hint="start the run again")
        return Task(
            key=key,
            input=asked,
            expected=asked.get(self.expected) if self.expected else None,
            line=_stripped(line),
            is_stale=is_stale,
            failed_before=failed_before,
        )

    def _scan(self) -> None:
        for number, offset, line in self._lines():
            where = f"{self.path}, line {number}"
            asked = self._parse(line, where)
            if self.expected is not None and self.expected not in asked:
                raise InvalidInputError(
                    f"{where} has no field {self.expected!r}", hint="--expected names a field of every line"
                )
            self._offsets.append(offset)
            self._hashes.append(key_hash(self._key_of(asked, where)))
        repeated = _repeated(self._hashes)
        if repeated:
            self._drop_repeated(repeated)

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield number, offset and content of each line that is not blank."""
        self._file.seek(0)
        if self._file.read(3) != b"\xef\xbb\xbf":
            self._file.seek(0)
        number, offset = 0, self._file.tell()
        while offset < self._end:
            line = self._file.readline(LINE_BYTES_MAX + 2)
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise InvalidInputError(
                    f"{self.path}, line {number} is longer than {LINE_BYTES_MAX:,} bytes", hint="split it"
                )
            content = _stripped(line)
            if content:
                yield number, offset, content
            offset += len(line)

    def _parse(self, line: bytes, where: str) -> dict[str, Any]:
        try:
            value: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                f"{where} is not JSON: {error}", hint="write one JSON object a line"
            ) from error
        if not isinstance(value, dict):
            raise InvalidInputError(
                f"{where} is not a JSON object", hint='write {"question": …} on each line'
            )
        return cast("dict[str, Any]", value)

    def _key_of(self, asked: dict[str, Any], where: str) -> str:
        if self.key is None:
            return canonical_digest(asked)
        if self.key not in asked:
            names = ", ".join(sorted(asked)[:8])
            raise InvalidInputError(f"{where} has no field {self.key!r}", hint=f"its fields are: {names}")
        return key_text(asked[self.key], where)

    def _drop_repeated(self, repeated: set[int]) -> None:
        """Keep the first of lines that are equal as JSON; refuse others with one key."""
        seen: dict[int, tuple[int, bytes]] = {}
        offsets: array[int] = array("Q")
        hashes: array[int] = array("Q")
        for index, (number, offset, line) in enumerate(self._lines()):
            hashed = self._hashes[index]
            if hashed in repeated:
                content = bytes(Digest.of(canonical(msgspec.json.decode(line))))
                first = seen.setdefault(hashed, (number, content))
                if first[1] != content:
                    key = self._key_of(self._parse(line, self.path), self.path)
                    raise InvalidInputError(
                        f"{self.path}, lines {first[0]} and {number} are different and have the same key {key[:80]!r}",
                        hint="name a field that is different for each line with --key, or leave --key out",
                    )
                if first[0] != number:
                    self.duplicates += 1
                    continue
            offsets.append(offset)
            hashes.append(hashed)
        self._offsets, self._hashes = offsets, hashes


def _repeated(hashes: array[int]) -> set[int]:
    """Return the values that occur more than once, holding a sixteenth of them in memory at a time."""
    repeated: set[int] = set()
    parts = min(_PARTS_MAX, len(hashes) // _PART_LINES + 1)
    for part in range(parts):
        seen: set[int] = set()
        for value in hashes:
            if value % parts == part:
                if value in seen:
                    repeated.add(value)
                else:
                    seen.add(value)
    return repeated


def _stripped(line: bytes) -> bytes:
    return line.strip(b" \t\r\n\xef\xbb\xbf") if line[:1] == b"\xef" else line.strip(b" \t\r\n")
