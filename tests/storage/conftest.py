"""A storage in a bucket. Also lets the tests of every layer, and other projects, import `tests.storage.contract`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.bucket import Bucket
from tests.servers.proxy import Proxy

from keepstone.storage.remote import RemoteStorage

_REPOSITORY = str(Path(__file__).resolve().parents[2])
if _REPOSITORY not in sys.path:
    sys.path.insert(0, _REPOSITORY)

pytest.register_assert_rewrite("tests.storage.contract")


@pytest.fixture
def storage(proxy: Proxy, bucket: Bucket) -> Iterator[RemoteStorage]:
    """A storage whose requests the proxy sees."""
    storage = RemoteStorage(f"{bucket.url}/team")
    yield storage
    storage.close()
