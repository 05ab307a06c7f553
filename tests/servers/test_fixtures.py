"""The environment that the fixtures set, and servers that are run by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.servers.bucket import Bucket, new_bucket, remove
from tests.servers.fixtures import on_servers
from tests.servers.program import Access
from tests.servers.proxy import Proxy

REPOSITORY: Final = Path(__file__).resolve().parents[2]


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer may have set for their own work."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")


@on_servers("moto", "rgw")
def test_a_child_process_finds_the_bucket_through_the_proxy(
    profile: None, bucket: Bucket, proxy: Proxy
) -> None:
    code = "import fsspec, sys; fsspec.filesystem('s3').pipe_file(sys.argv[1], b'data', mode='create')"
    subprocess.run([sys.executable, "-c", code, f"{bucket.url}/key"], check=True)

    assert bucket.read("key") == b"data"
    assert proxy.counts() == {"put": 1}


def test_a_server_that_is_run_by_hand_says_what_to_export_and_ends_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.servers.moto", "--folder", str(tmp_path / "moto")]
    told: dict[str, str] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=os.environ
    ) as process:
        assert process.stdout is not None
        try:
            while (line := process.stdout.readline()).startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                told[name] = value
            assert line.startswith(f"# moto runs as process {process.pid}")
            access = Access(
                told["AWS_ENDPOINT_URL"], told["AWS_ACCESS_KEY_ID"], told["AWS_SECRET_ACCESS_KEY"]
            )
            remove(new_bucket("moto", access))
        finally:
            process.send_signal(signal.SIGTERM)

    assert process.returncode == 0
    assert told == access.environment()
