"""Several stores in S3, opened by one process: what they share, and what they never may."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import fsspec.config
import pytest
from botocore.loaders import JSONFileLoader
from tests.servers.bucket import Bucket
from tests.storage.plain_server import PlainServer, plain_server

from keepstone.storage.remote import RemoteStorage
from keepstone.storage.s3 import ModelFiles

ROOT = Path(__file__).resolve().parents[2]


def signers(server: PlainServer) -> list[str]:
    """Return whose key each request was signed with."""
    found = [
        re.search(r"Credential=([^/]+)/", headers.get("Authorization", "")) for headers in server.headers
    ]
    return [match[1] if match else "" for match in found]


def test_each_signs_with_the_credentials_that_it_found_when_it_connected(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        storages: list[RemoteStorage] = []
        for who in ("first", "second", "third"):
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", who)
            storages.append(RemoteStorage("s3://bucket"))
            storages[-1].write_new(f"log/{who}", b"x")
        for storage in storages:
            storage.read("log/first")

    assert signers(server) == ["first", "second", "third"] * 2


def test_each_finds_the_profile_that_is_configured_for_it(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket, tmp_path: Path
) -> None:
    profiles = "".join(
        f"[{who}]\naws_access_key_id = key-of-{who}\naws_secret_access_key = x\n" for who in ("one", "two")
    )
    (tmp_path / "credentials").write_text(profiles, "utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        for who in ("one", "two", "one"):
            monkeypatch.setitem(fsspec.config.conf, "s3", {"profile": who})
            storage = RemoteStorage("s3://bucket")
            storage.write_hint("log/x", b"x")
            storage.close()

    assert signers(server) == ["key-of-one", "key-of-two", "key-of-one"]


def test_models_are_read_as_botocore_reads_them(tmp_path: Path) -> None:
    theirs = JSONFileLoader()
    ours = ModelFiles(theirs)
    (tmp_path / "plain.json").write_text('{"b": [1, 2.5, null], "a": {"é": true}}', "utf-8")
    with gzip.open(tmp_path / "packed.json.gz", "wb") as file:
        file.write(b'{"one": 1}')
    (tmp_path / "lenient.json").write_text('{"a": NaN}', "utf-8")
    (tmp_path / "broken.json").write_text('{"a": ', "utf-8")

    for name in ("plain", "packed"):
        found = ours.load_file(str(tmp_path / name))
        assert found == theirs.load_file(str(tmp_path / name))
        assert ours.exists(str(tmp_path / name))
    assert list(ours.load_file(str(tmp_path / "plain"))) == ["b", "a"]
    assert str(ours.load_file(str(tmp_path / "lenient"))["a"]) == "nan"
    assert (ours.load_file(str(tmp_path / "none")), ours.exists(str(tmp_path / "none"))) == (None, False)
    with pytest.raises(json.JSONDecodeError):
        ours.load_file(str(tmp_path / "broken"))


def test_what_botocore_ships_is_read_once_and_not_for_each(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    code = """
        import sys
        from keepstone.storage.remote import RemoteStorage

        read = []
        sys.addaudithook(lambda event, about: read.append(str(about[0])) if event == "open" else None)
        for number in range(3):
            RemoteStorage("s3://bucket").write_hint("log/x", b"x")
            print(number, sum("botocore" in path and ".json" in path for path in read) > 0)
            read.clear()
    """
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        done = subprocess.run(
            [sys.executable, "-c", dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
        )

    assert done.stdout.splitlines() == ["0 True", "1 False", "2 False"]
