"""What a server does to a store in a bucket. Rows that need one share moto, which is started by the first."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from unittest import mock

from tests.errors.store_to_harm import Place
from tests.servers import moto
from tests.servers.bucket import Bucket, new_bucket
from tests.servers.faults import Fault
from tests.servers.program import Access
from tests.servers.proxy import Proxy
from tests.storage.plain_server import plain_server

import keepstone
from keepstone.storage.places import cache_bytes_max
from keepstone.storage.probe import probe
from keepstone.storage.remote import RemoteStorage

NOBODY: Final = "http://127.0.0.1:9"


@functools.cache
def a_bucket() -> Bucket:
    """One for all rows; it ends with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    access = stack.enter_context(moto.in_process())
    bucket = new_bucket("moto", access)
    bucket.put("team/taken", b"taken" * 1000)
    return bucket


@contextmanager
def environment(access: Access, **others: str) -> Iterator[None]:
    with mock.patch.dict(os.environ, access.environment() | others):
        for name in Access.unwanted():
            os.environ.pop(name, None)
        yield


def asked(
    ask: Callable[[RemoteStorage], object], *, prefix: str = "/team", **others: str
) -> Callable[[Place], object]:
    """Ask a storage in the bucket, in an environment that says how to reach it."""

    def provoke(place: Place) -> object:
        bucket = a_bucket()
        with environment(bucket.access, **others):
            return ask(RemoteStorage(bucket.url + prefix))

    return provoke


def through(fault: Fault, key: str = "a") -> Callable[[Place], object]:
    """Read through a proxy that lets it go wrong."""

    def provoke(place: Place) -> object:
        bucket = a_bucket()
        with Proxy(bucket.access) as proxy, environment(proxy.access):
            proxy.fail(fault, times=None)
            return RemoteStorage(f"{bucket.url}/team").read(key)

    return provoke


def refused(fault: Fault) -> Callable[[Place], object]:
    """Write through a proxy that lets it go wrong."""

    def provoke(place: Place) -> object:
        bucket = a_bucket()
        with Proxy(bucket.access) as proxy, environment(proxy.access):
            proxy.fail(fault, times=None)
            return RemoteStorage(f"{bucket.url}/team").write_new("a", b"x")

    return provoke


def silent(place: Place) -> object:
    with mock.patch("keepstone.storage.s3.READ_SECONDS_MAX", 0.1):
        return through(Fault.HANG)(place)


def flushed_to_nobody(place: Place) -> object:
    """Set an item in a store whose server goes away before it is published."""
    bucket = a_bucket()
    folders = {f"KEEPSTONE_{name}": str(place.folder / name.lower()) for name in ("SPOOL", "CACHE")}
    quick = mock.patch("keepstone.storage.probe.probe", functools.partial(probe, threads=2, rounds=1))
    with Proxy(bucket.access) as proxy, environment(proxy.access, **folders), quick:
        store = keepstone.open(f"{bucket.url}/{place.folder.name}", create=True)
        try:
            items = store.collection("c", durability="process")
            items["k"] = "kept here"
            with mock.patch("keepstone.storage.retrying.TRIES_MAX", 1):
                proxy.fail(Fault.CUT, times=None)
                store.flush()
        finally:
            proxy.clear()
            store.close()


def without_condition(place: Place) -> object:
    bucket = a_bucket()
    with Proxy(bucket.access) as proxy, environment(proxy.access):
        proxy.drops_condition = True
        return probe(RemoteStorage(f"{bucket.url}/overwritten"))


def without_credentials(place: Place) -> object:
    bucket = a_bucket()
    with environment(bucket.access):
        del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        return RemoteStorage(f"{bucket.url}/team").read("a")


def expired(place: Place) -> object:
    with plain_server() as server, environment(Access(server.url, "key", "secret")):
        server.says_absent, server.says_code = 400, "ExpiredToken"
        return RemoteStorage("s3://bucket/team").read("a")


def without_measure(place: Place) -> object:
    with mock.patch.dict(os.environ, {"KEEPSTONE_CACHE_BYTES": "plenty"}):
        return cache_bytes_max()


def round_trip(storage: RemoteStorage) -> None:
    storage.write_hint("log/1", b"x")
    assert storage.read("log/1") == b"x"
    assert "log/1" in [info.key for info in storage.list("log/")]


BUCKETS: Final[dict[str, Callable[[Place], object]]] = {
    "a bucket that does not exist": asked(lambda _: RemoteStorage("s3://keepstone-no-such-bucket").read("a")),
    "an object that exists is created": asked(lambda s: s.write_new("taken", b"x")),
    "a bucket that may not be read": through(Fault.FORBIDDEN),
    "a server that is not there": asked(lambda s: s.read("a"), AWS_ENDPOINT_URL=NOBODY),
    "a server that asks for patience": through(Fault.SLOW_DOWN),
    "an answer that is cut short": through(Fault.HALF_ANSWERED, "taken"),
    "a server that never answers": silent,
    "a connection that is cut": through(Fault.CUT),
    "an upload that is cut": refused(Fault.HALF_SENT),
    "a server that fails": through(Fault.SERVER_ERROR),
    "too many requests": through(Fault.TOO_MANY),
    "a conflict of two writers that does not end": refused(Fault.CONFLICT),
    "a bucket that may not be written": refused(Fault.FORBIDDEN),
    "flushing to a server that went away": flushed_to_nobody,
    "no credentials": without_credentials,
    "credentials that have expired": expired,
    "a cache that is to be as large as `plenty`": without_measure,
    "a key with a line end": asked(lambda s: s.read("a"), AWS_ACCESS_KEY_ID="key\n"),
    "a prefix of any letters": asked(round_trip, prefix="/größe/日本 語/100%"),
    "a prefix that is an object as well": asked(round_trip, prefix="/team/taken"),
    "an empty prefix": asked(round_trip, prefix=""),
    "a server that overwrites": without_condition,
    "a server that knows no condition": refused(Fault.NOT_IMPLEMENTED),
    "writing to a store on the web": lambda p: RemoteStorage(f"{NOBODY}/store").write_new("a", b"x"),
    "listing a store on the web": lambda p: list(RemoteStorage(f"{NOBODY}/store").list("")),
}
