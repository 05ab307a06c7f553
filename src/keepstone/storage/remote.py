"""A store's objects in a bucket: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage; or on the web.

Layer: storage. Keys are names below a prefix. Each call is one request (large objects: one for each part, and two
more), and none is sent again: `retrying.Retrying` does that. Credentials and endpoint are found in the ways of each
cloud, and are nowhere here: not in the location, in errors, or in pickles.
"""

from __future__ import annotations

# What the request loop needs, and cannot be imported any more while the interpreter ends.
import concurrent.futures.thread  # noqa: F401 # pyright: ignore[reportUnusedImport]
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from keepstone.foundation.errors import (
    InvalidInputError,
    KeepstoneError,
    ObjectNotFoundError,
    StorageError,
    StoragePermissionError,
)
from keepstone.storage import platform
from keepstone.storage.base import ObjectInfo, Parts, check_key
from keepstone.storage.bucket import (
    BEYOND_ANY_OBJECT,
    PART_BYTES,
    PARTS_AHEAD_MAX,
    PARTS_AT_ONCE,
    SINGLE_BYTES_MAX,
    Bucket,
    TakesParts,
)
from keepstone.storage.bucket_url import BucketUrl
from keepstone.storage.keys import check_prefix, check_range
from keepstone.storage.listing import Listing
from keepstone.storage.trouble import Kind, Trouble, raised

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from keepstone.storage.event_loop import RequestLoop

READS_AT_ONCE: Final = 16
CALL_SECONDS_MIN: Final = 150
"""How long a call may take before it is given up, and a second more for each 128 KiB."""
_BYTES_PER_SECOND_MIN: Final = 128 << 10
_DROP_SECONDS_MAX: Final = 20
_WHOLE_SECONDS_MAX: Final = 3_600
"""For reading an object of unknown size."""

_T = TypeVar("_T")
_RUNNING: Final[weakref.WeakKeyDictionary[Bucket, set[asyncio.Task[Any]]]] = weakref.WeakKeyDictionary()
"""What is under way on each bucket; used on its loop only."""
_Work = Callable[[Bucket], Coroutine[Any, Any, _T]]


class RemoteStorage:
    """Objects below a prefix of one bucket. Safe for many threads; a forked child gets connections of its own.

    Nothing is asked of the server before the first call. `writable=False` refuses every change.
    """

    def __init__(self, location: str, *, writable: bool | None = None) -> None:
        self._url = BucketUrl.parse(location)
        self._location = self._url.location
        self._writable = writable is not False and not self._url.is_web
        self._prefix = self._url.prefix
        self._lock = threading.Lock()
        self._connected: tuple[RequestLoop, Bucket, weakref.finalize[[RequestLoop, Bucket], Any]] | None = (
            None
        )
        self._requests = 0
        platform.renew_lock_after_fork(self)

    def __repr__(self) -> str:
        return f"RemoteStorage({self._location!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopened, (self._location, self._writable))

    @property
    def location(self) -> str:
        """The URL of bucket and prefix, without credentials and without a slash at its end."""
        return self._location

    @property
    def writable(self) -> bool:
        """Whether writing is allowed here; what the server allows is found out by writing."""
        return self._writable

    @property
    def reads_at_once(self) -> int:
        """16: a read is mostly waiting."""
        return READS_AT_ONCE

    @property
    def requests_made(self) -> int:
        """How many requests were made so far, those that failed among them."""
        return self._requests

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, key: str) -> bytes:
        """Return the whole object."""
        name = self._name(key)
        return self._call(lambda b: b.read(name), "read", key, _WHOLE_SECONDS_MAX)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; shorter where the object ends before `end`."""
        check_range(key, start, end)
        name = self._name(key)
        first = min(start, BEYOND_ANY_OBJECT)
        # No request can ask for nothing: one byte is asked for, to learn whether the object is there.
        last = max(min(end, BEYOND_ANY_OBJECT + 1), first + 1)
        data = self._call(
            lambda b: b.read_range(name, first, last),
            "read",
            key,
            _seconds_for(end - start),
            past_the_end=b"",
        )
        return data[: end - start]

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        name = self._name(key)
        return self._call(lambda b: b.size(name), "ask the size of", key, CALL_SECONDS_MIN)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, sorted by key; a request for each 1,000."""
        check_prefix(prefix)
        last = ""

        def fetch(after: str) -> tuple[list[ObjectInfo], str]:
            nonlocal last
            page = self._call(
                lambda b: b.page(self._prefix + prefix, after), "list", prefix, CALL_SECONDS_MIN
            )
            found = [ObjectInfo(name[len(self._prefix) :], size) for name, size in page.objects]
            found = [info for info in found if _is_key(info.key)]
            for info in found:
                if info.key <= last:
                    raise StorageError(
                        f"{self._location} lists {info.key} after {last}",
                        path=self._location,
                        hint="this kind of bucket does not list in order, and cannot hold a store",
                    )
                last = info.key
            return found, page.next

        return Listing(fetch)

    # ---- writing ---------------------------------------------------------------------------------

    def write_new(self, key: str, data: bytes) -> None:
        """Create an object, whole or not at all, only if the key is free; durable on return.

        Raises:
            ObjectExistsError: the key is taken; nothing was changed.
            StorageBusyError: nobody knows whether it was created: read it back, or use `Retrying`.
            UnsafeStorageError: the installed libraries, or the server, cannot create an object only if it is absent.
        """
        name = self._name_to_change("write", key)
        if len(data) > SINGLE_BYTES_MAX and isinstance(self._bucket()[1], TakesParts):
            self.write_parts(key, len(data), lambda: (part for part in (bytes(data),)))
            return
        self._call(lambda b: b.create(name, bytes(data)), "write", key, _seconds_for(len(data)))

    def write_parts(self, key: str, size: int, parts: Parts) -> None:
        """Create an object from its parts, several of which are on their way at once; as `write_new`."""
        name = self._name_to_change("write", key)
        loop, bucket = self._bucket()
        if size <= SINGLE_BYTES_MAX or not isinstance(bucket, TakesParts):
            self.write_new(key, b"".join(parts()))
            return

        def ask(work: Coroutine[Any, Any, _T], seconds: float = CALL_SECONDS_MIN) -> _T:
            # All of it on one connection's bucket, also where `close` has let go of that meanwhile.
            return self._outcome(self._begun(loop, bucket, work), bucket, "write", key, seconds)

        upload = ask(bucket.begin_parts(name))
        sent: list[str] = []
        under_way: deque[Future[str]] = deque()

        def wait() -> None:
            seconds = _seconds_for(PART_BYTES * PARTS_AT_ONCE)
            sent.append(self._outcome(under_way.popleft(), bucket, "write", key, seconds))

        try:
            with closing(parts()) as chunks:
                for number, part in enumerate(of_size(chunks, PART_BYTES), 1):
                    if len(under_way) >= PARTS_AHEAD_MAX:
                        wait()
                    under_way.append(self._begun(loop, bucket, bucket.send_part(name, upload, number, part)))
            while under_way:
                wait()
            ask(bucket.end_parts(name, upload, sent))
        except BaseException:
            for future in under_way:
                future.cancel()
            try:
                # What is never ended is stored, and paid for, until somebody notices.
                ask(bucket.drop_parts(name, upload), _DROP_SECONDS_MAX)
            except Exception:
                pass
            raise

    def write_hint(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        name = self._name_to_change("replace", key)
        self._call(lambda b: b.replace(name, bytes(data)), "replace", key, _seconds_for(len(data)))

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        name = self._name_to_change("delete", key)
        try:
            self._call(lambda b: b.delete(name), "delete", key, CALL_SECONDS_MIN)
        except ObjectNotFoundError:
            pass

    def settle(self, prefix: str) -> None:
        """Do nothing: what a bucket shows is durable."""
        check_prefix(prefix)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            connected, self._connected = self._connected, None
        if connected is not None:
            connected[2]()

    # ---- within ----------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _name_to_change(self, action: str, key: str) -> str:
        name = self._name(key)
        if not self._writable:
            raise StoragePermissionError(
                f"cannot {action} {self._location}/{key}: the store is open for reading only",
                path=f"{self._location}/{key}",
                hint="stores on the web are read-only: write to the folder or bucket that is published"
                if self._url.is_web
                else "open it without mode='r'",
            )
        return name

    def _call(
        self, work: _Work[_T], action: str, key: str, seconds_max: float, past_the_end: _T | None = None
    ) -> _T:
        loop, bucket = self._bucket()
        future = self._begun(loop, bucket, work(bucket))
        return self._outcome(future, bucket, action, key, seconds_max, past_the_end)

    def _begun(self, loop: RequestLoop, bucket: Bucket, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        from keepstone.storage.event_loop import submit

        with self._lock:
            self._requests += 1
        return submit(loop, _told(work, bucket))

    def _outcome(
        self,
        future: Future[_T],
        bucket: Bucket,
        action: str,
        key: str,
        seconds_max: float,
        past_the_end: _T | None = None,
    ) -> _T:
        from keepstone.storage.event_loop import wait_for

        try:
            return wait_for(future, seconds_max=seconds_max)
        except KeepstoneError:
            raise
        except _TroubleError as error:
            trouble = error.trouble
        except Exception as error:
            trouble = bucket.trouble(error)
        if trouble.kind is Kind.PAST_THE_END and past_the_end is not None:
            return past_the_end
        # Raised outside of the handler: the text of the cause may hold credentials, and tracebacks show it.
        raise self._error(trouble, action, key)

    def _error(self, trouble: Trouble, action: str, key: str) -> KeepstoneError:
        # Of what is written or listed only the bucket itself can be missing.
        if trouble.kind is Kind.ABSENT and action in ("write", "replace", "list"):
            trouble = trouble._replace(kind=Kind.NO_BUCKET)
        return raised(trouble, action, self._location, key)

    def _bucket(self) -> tuple[RequestLoop, Bucket]:
        # asyncio is imported with the first request: a store that is read offline never makes one.
        from keepstone.storage.event_loop import request_loop

        loop = request_loop()
        connected = self._connected
        if connected is not None and connected[0] is loop:
            return loop, connected[1]
        with self._lock:
            connected = self._connected
            if connected is None or connected[0] is not loop:
                # The parent's connections stay as they are: its loop keeps them from being collected here.
                bucket = self._url.connect(loop)
                loop.kept.add(bucket)
                closing = weakref.finalize(self, _let_go, loop, bucket)
                closing.atexit = False
                connected = self._connected = (loop, bucket, closing)
        return loop, connected[1]


class _TroubleError(Exception):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


async def _told(work: Coroutine[Any, Any, _T], bucket: Bucket) -> _T:
    """Say what went wrong where it did: a caller that handles another error would give this one another context."""
    import asyncio

    task = asyncio.current_task()
    kept = cast("RequestLoop", asyncio.get_running_loop()).kept
    running = _RUNNING.setdefault(bucket, set())
    if task is not None:
        running.add(task)
    try:
        return await work
    except KeepstoneError:
        raise
    except Exception as error:
        trouble = bucket.trouble(error)
    finally:
        if task is not None:
            running.discard(task)
        if bucket not in kept and not running:
            # It was let go before this began, which opened connections that nobody else would close.
            await bucket.close()
    raise _TroubleError(trouble)


def _let_go(loop: RequestLoop, bucket: Bucket) -> None:
    import asyncio

    from keepstone.storage.event_loop import start

    async def close() -> None:
        try:
            # A connection that is closed under a request may leave it waiting for ever.
            while running := _RUNNING.get(bucket):
                await asyncio.wait(running)
            await bucket.close()
        finally:
            loop.kept.discard(bucket)

    if loop.is_ours:
        start(loop, close())


def of_size(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in chunks of `size`, the last one shorter."""
    waiting: list[bytes] = []
    have = 0
    for chunk in chunks:
        waiting.append(chunk)
        have += len(chunk)
        if have < size:
            continue
        data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        end = have - have % size
        for first in range(0, end, size):
            yield data[first : first + size]
        waiting, have = [data[end:]], have - end
    if have:
        yield b"".join(waiting)


def _seconds_for(size: int) -> float:
    return min(CALL_SECONDS_MIN + size / _BYTES_PER_SECOND_MIN, _WHOLE_SECONDS_MAX)


def _is_key(text: str) -> bool:
    try:
        check_key(text)
    except InvalidInputError:
        return False
    return True


def _reopened(location: str, writable: bool) -> RemoteStorage:
    return RemoteStorage(location, writable=writable)
