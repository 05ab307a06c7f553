"""A bucket, this machine beside it, what anybody else finds there; and the time that nobody really waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.failing_calls import View, moves, view
from tests.servers.bucket import KEYS_A_REQUEST, Bucket
from tests.servers.faults import Fault, Rule
from tests.servers.proxy import Proxy

import keepstone
from keepstone.api import Store
from keepstone.storage.memory import SCHEME, MemoryStorage

PREFIX: Final = "team/"
HERE: Final = "here"
"""The folder of this machine: what it keeps of buckets, and its own stores."""
HANG_COUNTED_SECONDS: Final = 60.0
"""So long a client really waits for a server that says nothing."""
HANGS: Final = (Fault.HANG, Fault.HANG_AFTER)
_SETTLED_SECONDS_MAX: Final = 20.0


class Waits:
    """The time that users would have waited: sleeps are counted for each thread, and not slept."""

    def __init__(self) -> None:
        self.begin(Rule(Fault.HANG))

    def begin(self, silence: Rule) -> None:
        """Count from zero; each request that `silence` befalls, if it lets servers hang, counts as a minute."""
        self._slept: dict[int, float] = {}
        self._silence = silence

    def sleep(self, seconds: float) -> None:
        """Count a sleep."""
        thread = threading.get_ident()
        self._slept[thread] = self._slept.get(thread, 0.0) + seconds

    def now(self) -> float:
        """Return how long this thread has waited, in seconds."""
        hung = self._silence.struck if self._silence.fault in HANGS else 0
        return self._slept.get(threading.get_ident(), 0.0) + hung * HANG_COUNTED_SECONDS

    def longest(self) -> float:
        """Return how long this thread has slept, and the one that slept longest beside it."""
        own = self._slept.get(threading.get_ident(), 0.0)
        return own + max((s for t, s in self._slept.items() if t != threading.get_ident()), default=0.0)


class Place:
    """A bucket, what it holds when a run begins, and this machine's folders beside it."""

    def __init__(self, bucket: Bucket, proxy: Proxy, scratch: Path) -> None:
        self.bucket = bucket
        self.proxy = proxy
        self.url = f"{bucket.url}/{PREFIX[:-1]}"
        self.scratch = scratch
        self._known: dict[tuple[str, str], bytes] = {}

    def objects(self) -> dict[str, bytes]:
        """Return what the bucket holds, read past the proxy."""
        client = self.bucket.client()
        found: dict[str, bytes] = {}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.name)
        for item in (item for page in pages for item in page.get("Contents", ())):
            mark = item["Key"], item["ETag"]
            if mark not in self._known:
                self._known[mark] = self.bucket.read(item["Key"])
            found[item["Key"].removeprefix(PREFIX)] = self._known[mark]
        return found

    def put_back(self, wanted: dict[str, bytes]) -> None:
        """Let the bucket hold this and nothing else."""
        client, name = self.bucket.client(), self.bucket.name
        now = self.objects()
        gone = [{"Key": PREFIX + key} for key in now if key not in wanted]
        for start in range(0, len(gone), KEYS_A_REQUEST):
            client.delete_objects(Bucket=name, Delete={"Objects": gone[start : start + KEYS_A_REQUEST]})
        for key, data in wanted.items():
            if now.get(key) != data:
                client.put_object(Bucket=name, Key=PREFIX + key, Body=data)
        for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", ()):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])

    def wait_until_settled(self) -> None:
        """Return when what comes late has come."""
        self.proxy.release()
        end = time.monotonic() + _SETTLED_SECONDS_MAX
        while any(seen.fault == Fault.LATE and not seen.served for seen in list(self.proxy.seen)):
            if time.monotonic() > end:
                raise AssertionError("a request that is late never arrives")
            time.sleep(0.01)

    def begin_on(self, folder: Path) -> None:
        """Go on as the machine whose folders these are."""
        os.environ["KEEPSTONE_SPOOL"] = str(folder / "state")
        os.environ["KEEPSTONE_CACHE"] = str(folder / "cache")


class Found(NamedTuple):
    """What anybody finds in a bucket."""

    view: View
    moves: int


@contextmanager
def elsewhere(objects: dict[str, bytes]) -> Iterator[Store]:
    """Open a store of these objects as somebody would who has nothing of it."""
    shelf = MemoryStorage(SCHEME + "elsewhere")._shelf  # pyright: ignore[reportPrivateUsage]
    shelf.objects.clear()
    shelf.objects.update(objects)
    with keepstone.open(SCHEME + "elsewhere", mode="r") as store:
        yield store


def found_by_others(objects: dict[str, bytes], *, checks: bool = False) -> Found:
    """Look at a bucket's objects, with every byte if `checks`."""
    if "store.json" not in objects:
        assert not any(key.startswith("log/") for key in objects), "a log without a store"
        return Found({}, 0)
    with elsewhere(objects) as store:
        if checks:
            report = store.fsck(read_data=True)
            assert report.ok, report.findings
        return Found(view(store), moves(store))
