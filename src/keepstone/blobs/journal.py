"""A journal: the file to which one process appends what it saves, before it is sealed into a pack.

Layer: blobs. Format: docs/format.md §5. Sizes and offsets are bytes.
A saved item is two frames in one write: the blob, then the entry that names it. An entry counts only where it says
itself that it stands (journal and offset), so a journal kept as a value inside another is never taken for entries.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from keepstone.blobs.footer import Entry
from keepstone.blobs.journal_header import JournalHeader
from keepstone.foundation.digest import DIGEST_BYTES, Digest
from keepstone.foundation.errors import DigestMismatchError
from keepstone.foundation.format import FRAME_MAGIC, JOURNAL_VALUE_BYTES_MAX, KEY_BYTES_MAX, Kind
from keepstone.foundation.frame import HEADER_BYTES, encode_header, peek_header
from keepstone.storage.calls import Calls, close_quietly, read_all, translated

_ENTRY: Final = struct.Struct("<8sQQQBBHH")
_REMOVED: Final = 1
"""Entry flag: the key was removed."""
_NO_DIGEST: Final = bytes(DIGEST_BYTES)
_ENTRY_KIND: Final = int(Kind.ENTRY)
_WINDOW_BYTES: Final = 2 * (JOURNAL_VALUE_BYTES_MAX + KEY_BYTES_MAX) + 64 * 1024
"""Read at once; always holds one whole item."""
_VALUES_BYTES: Final = 4 * 1024 * 1024
"""Read at once when all values are read in order."""


class Row(NamedTuple):
    """One entry of a journal and where its value lies."""

    key: str
    stamp: int
    writer: bytes
    digest: Digest | None
    form: int
    journal: JournalContent
    offset: int
    """Of the value's first byte; -1: the value lies in a published pack, or the key was removed."""
    size: int

    @property
    def entry(self) -> Entry:
        """The row without its place."""
        return Entry._make(self[:5])


class Damage(NamedTuple):
    """A stretch of a journal that cannot be read."""

    offset: int
    size: int
    covered: bool
    """Whether it had been synced: then it is corruption; else power was lost before its level was reached."""


def encode_entry(
    tag: bytes,
    offset: int,
    stamp: int,
    synced: int,
    digest: bytes | None,
    form: int,
    collection: bytes,
    key: bytes,
) -> bytes:
    """Return the frame of an entry that will stand at `offset` of the journal that `tag` names."""
    fixed = _ENTRY.pack(
        tag,
        offset,
        stamp,
        synced,
        form,
        _REMOVED if digest is None else 0,
        len(collection),
        len(key),
    )
    payload = fixed + collection + key
    return encode_header(_ENTRY_KIND, payload, _NO_DIGEST if digest is None else digest) + payload


class JournalContent:
    """An open journal to read values from. Closed with the last row that refers to it.

    Knows nothing of rows: a cycle with them would keep the descriptor, and the disk space of a sealed journal, until
    the garbage collector comes by.
    """

    def __init__(self, name: str, descriptor: int, calls: Calls) -> None:
        self._calls = calls
        self.name = name
        self.descriptor = descriptor

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`.

        Raises:
            StorageError: the medium failed.
        """
        try:
            return read_all(self._calls, self.descriptor, offset, size)
        except OSError as error:
            raise translated(error, "read", f"journal {self.name}") from error

    def read_value(self, row: Row) -> bytes:
        """Return the value of a row of this journal, verified.

        Raises:
            DigestMismatchError: the file was damaged since it was indexed.
        """
        raw = self.read(row.offset, row.size)
        actual = Digest.of(raw)
        if actual != row.digest:
            raise DigestMismatchError(
                f"the value of {row.key!r} in journal {self.name} reads as {actual}",
                expected=str(row.digest),
                actual=str(actual),
                hint="run `keepstone fsck`",
            )
        return raw

    def __del__(self) -> None:
        # An interrupt may have come before the descriptor was noted.
        if getattr(self, "descriptor", -1) >= 0:
            close_quietly(self._calls, self.descriptor)


class JournalFile:
    """A journal as anybody on this machine reads it; knows the newest entry of each key up to `end`.

    Not synchronized: its spool holds a lock around `poll`.
    """

    def __init__(
        self,
        name: str,
        descriptor: int,
        header: JournalHeader,
        end: int,
        calls: Calls,
        *,
        keep_history: bool = False,
    ) -> None:
        self.name = name
        self.content = JournalContent(name, descriptor, calls)
        self.header = header
        self.end = end
        """Where the next frame is expected."""
        self.stamp_max = 0
        self.rows: dict[str, dict[str, Row]] = {}
        self.history: list[tuple[str, Row]] = []
        """Every (collection, row) in order, superseded ones too; only where `keep_history` asks for it."""
        self._keep_history = keep_history
        self.final = False
        self.damage: list[Damage] = []
        self._calls = calls
        self._tag = header.journal_id[:8]
        self._names: dict[bytes, str] = {}
        self._lost: tuple[bytes, int, int] | None = None
        """Digest, offset and size of the damaged value that was seen last."""
        self._suspects: list[tuple[str, Row]] = []
        """Rows of damaged values, until it is known whether they had been synced."""
        self._synced = 0

    @property
    def empty(self) -> bool:
        """Whether no entry was found."""
        return not self.rows

    def poll(self) -> None:
        """Index what was appended since; a half-written frame at the end is left for the next time."""
        while not self.final:
            window = self.content.read(self.end, _WINDOW_BYTES)
            more = len(window) == _WINDOW_BYTES
            if not window:
                break
            if not self._index(memoryview(window), self.end, more) and not (more and self._step_over_hole()):
                break
        self._judge_suspects()

    def _judge_suspects(self) -> None:
        """Make known the keys whose value was synced and is damaged now: they read as an error.

        What power loss took before its level was reached was never promised, and stays absent.
        """
        if self._suspects:
            for collection, row in self._suspects:
                if row.offset < self._synced:
                    self._remember(collection, row)
            self._suspects = [(c, row) for c, row in self._suspects if row.offset >= self._synced]

    def poll_to_end(self) -> None:
        """Index the rest of a journal that nobody writes to any more; what is torn at its end counts as damage."""
        self.poll()
        rest = len(self.content.read(self.end, _WINDOW_BYTES))
        if rest:
            self._note_damage(self.end, rest)

    def _step_over_hole(self) -> bool:
        """Go on behind damage that fills more than a window; return whether a sound frame follows."""
        start = self.end
        while True:
            # Windows overlap by half, so the next sound item lies whole in one of them.
            start += _WINDOW_BYTES // 2
            window = self.content.read(start, _WINDOW_BYTES)
            found = self._find_frame(memoryview(window), 0)
            if found >= 0:
                self._note_damage(self.end, start + found - self.end)
                self.end = start + found
                return True
            if len(window) < _WINDOW_BYTES:
                return False

    def _index(self, window: memoryview, start: int, more: bool) -> bool:
        """Index whole frames of `window`; return whether another window should be read."""
        position, size = 0, len(window)
        blob: tuple[bytes, int, int] | None = None
        while position < size:
            header = peek_header(window, position)
            following = position + HEADER_BYTES + header[2] if header else 0
            if header is None or following > size:
                if header and (position > 0 or not more):
                    # Cut off by the window, or by what is written so far: never looked into, for a value may itself
                    # hold frames.
                    break
                # Either damage, and a sound frame follows somewhere; or the end of what is written so far.
                resumed = self._find_frame(window, position + 1)
                if resumed < 0:
                    break
                self._note_damage(start + position, resumed - position)
                position, blob = resumed, None
                continue
            kind, check, stored_size, digest = header
            payload = position + HEADER_BYTES
            if zlib.crc32(window[payload:following]) != check:
                if following == size and not more:
                    # The last one may still be on its way.
                    break
                self._note_damage(start + position, following - position)
                blob = None
                self._lost = (digest, start + payload, stored_size) if kind == Kind.BLOB else None
            elif kind == Kind.BLOB:
                blob = (digest, start + payload, stored_size)
                position = following
                continue
            elif kind == Kind.ENTRY:
                self._take(window[payload:following], start + position, digest, blob)
                blob = self._lost = None
            elif kind == Kind.FINAL and following == size and not more:
                self.final = True
            else:
                # Part of a damaged value that is a journal itself; nothing else stands here.
                self._note_damage(start + position, following - position)
                blob = None
            position = following
            self.end = start + position
        return more and self.end > start

    def _find_frame(self, window: memoryview, position: int) -> int:
        """Return where the next whole and sound frame begins, or -1."""
        data = bytes(window)
        while (position := data.find(FRAME_MAGIC, position)) >= 0:
            header = peek_header(data, position)
            if header:
                payload = window[position + HEADER_BYTES : position + HEADER_BYTES + header[2]]
                if len(payload) == header[2] and zlib.crc32(payload) == header[1]:
                    return position
            position += 1
        return -1

    def _note_damage(self, offset: int, size: int) -> None:
        last = self.damage[-1] if self.damage else None
        if last is not None and last.offset + last.size == offset:
            # An entry whose blob is lost belongs to the same loss.
            self.damage[-1] = last._replace(size=last.size + size)
        else:
            self.damage.append(Damage(offset, size, offset < self._synced))

    def _follows_damage(self, offset: int) -> bool:
        return bool(self.damage) and self.damage[-1].offset + self.damage[-1].size == offset

    def _take(
        self, payload: memoryview, offset: int, digest: bytes, blob: tuple[bytes, int, int] | None
    ) -> None:
        size = len(payload)
        if size < _ENTRY.size:
            return self._note_damage(offset, HEADER_BYTES + size)
        tag, stated, stamp, synced, form, flags, collection_size, key_size = _ENTRY.unpack_from(payload)
        middle = _ENTRY.size + collection_size
        if tag != self._tag or stated != offset or size != middle + key_size:
            return self._note_damage(offset, HEADER_BYTES + size)
        if synced > self._synced:
            self._synced = synced
            self.damage = [d._replace(covered=d.offset < synced) for d in self.damage]
        name = bytes(payload[_ENTRY.size : middle])
        try:
            collection = self._names.get(name) or name.decode()
            key = str(payload[middle:], "utf-8")
        except UnicodeDecodeError:
            return self._note_damage(offset, HEADER_BYTES + size)
        self._names[name] = collection
        writer, content = self.header.writer, self.content
        if flags & _REMOVED:
            self.note(collection, Row(key, stamp, writer, None, form, content, -1, 0))
        elif blob and blob[0] == digest:
            self.note(collection, Row(key, stamp, writer, Digest(digest), form, content, blob[1], blob[2]))
        elif blob or self._follows_damage(offset):
            # Its value was lost. Taken for one that is published elsewhere it could never be sealed.
            self._note_damage(offset, HEADER_BYTES + size)
            if self._lost and self._lost[0] == digest:
                row = Row(key, stamp, writer, Digest(digest), form, content, self._lost[1], self._lost[2])
                self._suspects.append((collection, row))
        else:
            self.note(collection, Row(key, stamp, writer, Digest(digest), form, content, -1, 0))
        return None

    def note(self, collection: str, row: Row) -> None:
        """Remember `row` unless a newer entry of its key is known."""
        if self._keep_history:
            self.history.append((collection, row))
        self._remember(collection, row)

    def _remember(self, collection: str, row: Row) -> None:
        if row.stamp > self.stamp_max:
            self.stamp_max = row.stamp
        rows = self.rows.get(collection)
        if rows is None:
            rows = self.rows[collection] = {}
        known = rows.get(row.key)
        if known is None or known.stamp < row.stamp:
            rows[row.key] = row

    def read_value(self, row: Row) -> bytes:
        """Return the value of a row of this journal, verified."""
        return self.content.read_value(row)

    def values(self) -> Iterator[tuple[str, Row, bytes | None]]:
        """Yield (collection, row, value) of every row of the history, in order.

        The value is None where the key was removed, the value lies elsewhere, or it is damaged.
        """
        start, window = 0, b""
        for collection, row in self.history:
            raw: bytes | None = None
            if row.offset >= 0:
                if not start <= row.offset <= row.offset + row.size <= start + len(window):
                    start, window = row.offset, self.content.read(row.offset, max(row.size, _VALUES_BYTES))
                raw = window[row.offset - start : row.offset - start + row.size]
                if blake3(raw).digest() != row.digest:
                    raw = None
            yield collection, row, raw

    def all_rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (collection, newest entry of each key)."""
        for collection, rows in self.rows.items():
            for row in rows.values():
                yield collection, row
