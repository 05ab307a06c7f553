"""The journal of this process: appended to by its threads, synced once for all that wait.

Layer: blobs. Format: docs/format.md §5. A journal is born locked and complete: until its header is synced and its name
linked nothing in it is acknowledged, so nobody can adopt it half born.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Final

from keepstone.blobs.held import HeldLock, open_locked
from keepstone.blobs.journal import JournalFile, Row, encode_entry
from keepstone.blobs.journal_header import JournalHeader, encode_journal_header
from keepstone.foundation.clock import Clock
from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import StorageBusyError, StorageError
from keepstone.foundation.format import Kind
from keepstone.foundation.frame import HEADER_BYTES, encode_frame, encode_header
from keepstone.storage import platform
from keepstone.storage.calls import Calls, close_quietly, translated, write_all

_BLOB_KIND: Final = int(Kind.BLOB)


class Journal(JournalFile):
    """A journal that this process owns; safe to use from many threads."""

    def __init__(
        self, path: Path, lock: HeldLock, reader: int, header: JournalHeader, end: int, calls: Calls
    ) -> None:
        super().__init__(path.name, reader, header, end, calls, keep_history=True)
        self.path = path
        self._held = lock
        self.lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._failure: OSError | None = None
        self._unsure = False
        """An append was begun and not ended: where the file ends has to be asked."""
        self.encoded_names: dict[str, bytes] = {}
        """Why the last sync failed: the kernel reports it once, so a second sync would wrongly succeed."""
        self.synced = end
        """Every byte before it has been synced."""

    @classmethod
    def create(cls, folder: Path, header: JournalHeader, calls: Calls) -> Journal:
        """Return a new journal in `folder`: locked, synced and then named."""
        name = f"{header.host}-{header.journal_id.hex()}"
        path, born = folder / name, f".tmp-{name}"
        data = encode_journal_header(header)
        opened: list[int] = []
        lock: HeldLock | None = None
        try:
            folder_descriptor = _open_folder(folder, calls, opened)
            # A named temporary file, and not an unnamed one: it works everywhere, and the lock is taken before
            # the real name exists, which is all that matters.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            lock = open_locked(calls, born, flags, dir_fd=folder_descriptor)
            if lock is None:
                raise StorageBusyError(
                    f"cannot lock the new journal {folder / born}",
                    path=str(path),
                    hint="another process clears away what a crash left; run the same again",
                )
            write_all(calls, lock.descriptor, data)
            calls.fsync(lock.descriptor)
            opened.append(reader := calls.open(born, platform.OPEN_READ, dir_fd=folder_descriptor))
            calls.rename(born, name, folder=folder_descriptor)
            calls.fsync(folder_descriptor)
        except BaseException as error:
            # Nothing was acknowledged, so whatever stands there may go.
            for litter in (folder / born, path):
                with contextlib.suppress(OSError):
                    calls.unlink(str(litter))
            for descriptor in opened:
                close_quietly(calls, descriptor)
            if lock is not None:
                lock.close()
            if isinstance(error, OSError) and not isinstance(error, StorageError | FileNotFoundError):
                raise translated(
                    error, "begin the journal", str(path), needed=len(data), advice=calls.advice
                ) from error
            raise
        close_quietly(calls, folder_descriptor)
        return cls(path, lock, reader, header, len(data), calls)

    def append(
        self, clock: Clock, collection: str, items: list[tuple[str, int, bytes | None, Digest | None]]
    ) -> int:
        """Append (key, form, value, digest) items in one go; return the offset behind the last.

        A value of None with a digest names content that is published already; with None for both the key is removed.

        Raises:
            StorageError: nothing of this call is acknowledged; of many items the first ones may be there.
        """
        name = collection.encode()
        tag, writer = self._tag, self.header.writer
        stamp_now = clock.stamp
        with self.lock:
            if self._writer < 0:
                raise JournalFinished
            position = self._locate_end()
            synced = self.synced
            frames: list[bytes] = []
            rows: list[Row] = []
            for key, form, value, digest in items:
                offset, size = -1, 0
                if value is not None and digest is not None:
                    frames.append(encode_header(_BLOB_KIND, value, digest))
                    frames.append(value)
                    offset, size = position + HEADER_BYTES, len(value)
                    position = offset + size
                stamp = stamp_now()
                frame = encode_entry(tag, position, stamp, synced, digest, form, name, key.encode())
                frames.append(frame)
                position += len(frame)
                rows.append(Row(key, stamp, writer, digest, form, self.content, offset, size))
            self._write(b"".join(frames))
            for row in rows:
                self.note(collection, row)
            self.end = position
            self._unsure = False
        return position

    def append_value(
        self, clock: Clock, collection: str, key: str, form: int, value: bytes, digest: Digest
    ) -> int:
        """Append one value, as nearly every call has it: what `append` does, in the fewest steps.

        Raises:
            StorageError: it is not acknowledged.
        """
        name = self.encoded_names.get(collection)
        if name is None:
            name = self.encoded_names[collection] = collection.encode()
        head = encode_header(_BLOB_KIND, value, digest)
        key_bytes = key.encode()
        size = len(value)
        with self.lock:
            if self._writer < 0:
                raise JournalFinished
            offset = self._locate_end() + HEADER_BYTES
            position = offset + size
            stamp = clock.stamp()
            entry = encode_entry(self._tag, position, stamp, self.synced, digest, form, name, key_bytes)
            self._write(b"".join((head, value, entry)))
            self.note(
                collection, Row(key, stamp, self.header.writer, digest, form, self.content, offset, size)
            )
            position += len(entry)
            self.end = position
            self._unsure = False
        return position

    def _locate_end(self) -> int:
        """Return where the next frame belongs.

        After an append that did not end as it should, the file itself is asked: an interrupt between writing and
        counting must not make the next append overwrite or cut off what is acknowledged.
        """
        if not self._unsure:
            self._unsure = True
            return self.end
        try:
            end = self._calls.lseek(self._writer, 0, os.SEEK_END)
            if end != self.end:
                # An earlier write was interrupted or failed. What is whole counts, since neighbours may have read it
                # and go on behind it; the rest is cut off.
                self.poll()
                if end != self.end:
                    self._calls.ftruncate(self._writer, self.end)
        except OSError as error:
            raise (
                error
                if isinstance(error, StorageError)
                else translated(error, "append to", str(self.path), advice=self._calls.advice)
            ) from error
        return self.end

    def _write(self, data: bytes) -> None:
        try:
            written = self._calls.write(self._writer, data)
            if written != len(data):
                write_all(self._calls, self._writer, memoryview(data)[written:])
        except OSError as error:
            # What was written of it, the next append finds and cuts off.
            raise translated(
                error, "append to", str(self.path), needed=len(data), advice=self._calls.advice
            ) from error

    def sync(self, offset: int) -> None:
        """Return when every byte before `offset` is synced; the first that waits syncs for all.

        Raises:
            OSError: the sync failed; the caller rewrites this journal elsewhere and never syncs it again.
        """
        if self.synced >= offset:
            return
        with self._sync_lock:
            if self.synced >= offset:
                return
            if self._failure is not None:
                raise self._failure
            if self._writer < 0:
                raise OSError(errno.EBADF, "the journal was given up before it was synced")
            target = self.end
            self._sync_file()
            self.synced = target

    def _sync_file(self) -> None:
        try:
            self._calls.fdatasync(self._writer)
        except OSError as error:
            self._failure = error
            raise

    def finish(self) -> None:
        """Mark that nothing follows, sync, and let go of the lock; reading goes on.

        Raises:
            OSError: the medium failed; the lock is let go all the same, and an adopter takes what is whole.
        """
        with self.lock, self._sync_lock:
            if self._writer < 0:
                return
            try:
                self._locate_end()
                if not self.final:
                    self._write(encode_frame(Kind.FINAL, b""))
                self._sync_file()
                self.end = self.synced = self._calls.lseek(self._writer, 0, os.SEEK_END)
                self.final = True
            finally:
                self._close_writer()

    @property
    def _writer(self) -> int:
        """Descriptor for appending; its lock is held for as long as it is open. -1 when finished, and after a fork."""
        return self._held.descriptor

    @property
    def is_open(self) -> bool:
        """Whether it can still be appended to, and its lock is held."""
        return self._writer >= 0

    def abandon(self) -> None:
        """Close the appending descriptor, and with it the lock, without marking the end."""
        # Under both locks: a thread that is about to append must not meet another file under the same number.
        with self.lock, self._sync_lock:
            self._close_writer()

    def _close_writer(self) -> None:
        self._held.close()


class JournalFinished(Exception):
    """The journal was finished by another thread; append to its successor."""


def _open_folder(folder: Path, calls: Calls, opened: list[int]) -> int:
    _make_folder(folder, calls, opened)
    opened.append(descriptor := calls.open(str(folder), platform.OPEN_FOLDER))
    return descriptor


def _make_folder(folder: Path, calls: Calls, opened: list[int]) -> None:
    try:
        calls.mkdir(str(folder))
    except FileExistsError:
        pass
    except FileNotFoundError:
        if folder == folder.parent:
            raise
        # A bucket store's journals lie deep in the user's own folders, which may be new as well.
        _make_folder(folder.parent, calls, opened)
        with contextlib.suppress(FileExistsError):
            calls.mkdir(str(folder))
    # Also where another process made it: that one may have died before it was durable, and with the folder goes
    # everything in it.
    opened.append(parent := calls.open(str(folder.parent), platform.OPEN_FOLDER))
    calls.fsync(parent)
    close_quietly(calls, opened.pop())
