from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.storage.plain_server import PlainServer, plain_server

from keepstone.foundation.errors import (
    InvalidInputError,
    ObjectNotFoundError,
    StorageBusyError,
    StorageError,
    StoragePermissionError,
)
from keepstone.storage.base import Storage
from keepstone.storage.locate import locate
from keepstone.storage.remote import RemoteStorage


@pytest.fixture
def server() -> Iterator[PlainServer]:
    with plain_server() as server:
        server.objects["/my%20stores/a/log/1"] = b"0123456789"
        server.objects["/my%20stores/a/log/empty"] = b""
        yield server


@pytest.fixture
def storage(server: PlainServer) -> Iterator[Storage]:
    storage = RemoteStorage(f"{server.url}/my%20stores/a/")
    yield storage
    storage.close()


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_published_store_is_read(server: PlainServer, storage: Storage, knows_ranges: bool) -> None:
    server.knows_ranges = knows_ranges

    assert storage.read("log/1") == b"0123456789"
    assert storage.read("log/empty") == b""
    assert storage.size("log/1") == 10
    for start, end in [
        (0, 10),
        (2, 5),
        (9, 10),
        (4, 4),
        (8, 99),
        (10, 12),
        (50, 60),
        (3, 2**62),
        (2**70, 2**71),
    ]:
        assert storage.read_range("log/1", start, end) == b"0123456789"[start:end]
        assert storage.read_range("log/empty", start, end) == b""
    with pytest.raises(ObjectNotFoundError):
        storage.read_range("log/2", 0, 0)


def test_each_call_is_one_request_without_compression(server: PlainServer, storage: Storage) -> None:
    storage.read("log/1")
    storage.size("log/1")
    storage.read_range("log/1", 0, 3)
    for verb in (storage.read, storage.size):
        with pytest.raises(ObjectNotFoundError):
            verb("log/2")

    assert [method for method, _ in server.requests] == ["GET", "HEAD", "GET", "GET", "HEAD"]
    assert {headers["Accept-Encoding"] for headers in server.headers} == {"identity"}
    assert server.connections == 1


def test_nothing_can_be_written_or_listed(server: PlainServer, storage: Storage) -> None:
    assert not storage.writable
    for change in (
        lambda: storage.write_new("log/2", b""),
        lambda: storage.write_hint("log/2", b""),
        lambda: storage.delete("log/1"),
    ):
        with pytest.raises(StoragePermissionError, match="reading only") as caught:
            change()
        assert "published" in caught.value.hint
    with pytest.raises(StorageError, match="on the web they can only be read"):
        list(storage.list("log/"))
    with pytest.raises(InvalidInputError):
        storage.list("log")
    assert not server.requests


def test_a_server_that_denies_what_is_absent_is_told_apart(server: PlainServer, storage: Storage) -> None:
    server.says_absent = 403

    with pytest.raises(StoragePermissionError, match="403") as caught:
        storage.read("log/2")
    assert "404" in caught.value.hint


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_busy(server: PlainServer, storage: Storage, status: int) -> None:
    server.says_absent = status

    with pytest.raises(StorageBusyError, match=str(status)):
        storage.read("log/2")


def test_locate_reads_the_web(server: PlainServer) -> None:
    storage = locate(f"{server.url}/my%20stores/a")

    assert storage.location == f"{server.url}/my%20stores/a"
    assert storage.read("log/1") == b"0123456789"
