"""What is wrong with a URL, an endpoint, a network or credentials; and that no secret is ever shown."""

from __future__ import annotations

import logging
import pickle
import socket
import traceback
from collections.abc import Iterator

import pytest
from tests.servers.bucket import Bucket
from tests.storage.plain_server import plain_server

from keepstone.foundation.errors import (
    InvalidInputError,
    KeepstoneError,
    StorageBusyError,
    StorageError,
    StoragePermissionError,
)
from keepstone.storage.bucket_url import PREFIX_BYTES_MAX
from keepstone.storage.locate import locate
from keepstone.storage.remote import RemoteStorage
from keepstone.storage.trouble import Kind, of_answer, raised

# ---- URLs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/team/", "s3://bucket/team"),
        ("S3://bucket/Team", "s3://bucket/Team"),
        ("s3a://bucket/team", "s3://bucket/team"),
        ("s3://my.bucket-1/a b/größe", "s3://my.bucket-1/a b/größe"),
        ("s3://bucket/100%25", "s3://bucket/100%25"),
        ("https://host:8443/store/", "https://host:8443/store"),
        ("http://[::1]:80/a/b", "http://[::1]:80/a/b"),
        ("https://host", "https://host"),
    ],
)
def test_urls_are_kept_in_one_form(url: str, location: str) -> None:
    storage = RemoteStorage(url)

    assert storage.location == location
    assert RemoteStorage(storage.location).location == location
    assert repr(storage) == f"RemoteStorage({location!r})"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:SECRET@bucket/x", "s3://bucket/x was written with a user or a password"),
        ("s3://key:SEC/RET@bucket/x", "s3://bucket/x was written with a user or a password"),
        ("https://user:SECRET@host/x", "https://host/x was written with a user or a password"),
        ("https://SECRET@host/x", "https://host/x was written with a user or a password"),
        ("s3://bucket/x?token=SECRET", "s3://bucket/x was written with a query or a fragment"),
        ("s3://bucket?SECRET", "s3://bucket was written with a query or a fragment"),
        ("s3://bucket/x#SECRET", "s3://bucket/x was written with a query or a fragment"),
        ("https://host/x?X-Amz-Signature=SECRET", "https://host/x was written with a query or a fragment"),
        ("s3://bucket/a/../b", "s3://bucket/a/../b has an empty, '.' or '..' segment"),
        ("s3://bucket/..", "s3://bucket/.. has an empty, '.' or '..' segment"),
        ("s3://bucket//a", "s3://bucket//a has an empty, '.' or '..' segment"),
        ("s3://bucket/a//", "s3://bucket/a// has an empty, '.' or '..' segment"),
        ("s3://bucket//", "s3://bucket// has an empty, '.' or '..' segment"),
        ("s3://bucket/a\nb", "'s3://bucket/a\\nb' has a control character"),
        ("s3://bucket/\ud800", "'s3://bucket/\\ud800' has a lone surrogate"),
        ("s3:///x", "s3:///x: '' is no name of a bucket"),
        ("s3://b/x", "s3://b/x: 'b' is no name of a bucket"),
        ("s3://_bucket/x", "s3://_bucket/x: '_bucket' is no name of a bucket"),
        ("s3://buc ket/x", "s3://buc ket/x: 'buc ket' is no name of a bucket"),
        ("https:///x", "https:///x names no server"),
        ("s3://bucket/" + "x" * (PREFIX_BYTES_MAX + 1), "the prefix in s3://bucket/xxx"),
    ],
)
def test_urls_that_are_none_are_refused_without_a_secret(url: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        locate(url)

    assert str(caught.value).startswith(message)
    assert caught.value.hint
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_prefix_may_be_anything_else(bucket: Bucket) -> None:
    for prefix in ("größe/a b/100%25+&=", "x" * PREFIX_BYTES_MAX, "日本語", "~user", "*[a]"):
        storage = RemoteStorage(f"{bucket.url}/{prefix}")
        storage.write_new("log/1", prefix.encode())
        assert storage.read("log/1") == prefix.encode()
        assert [info.key for info in storage.list("")] == ["log/1"]
        assert storage.size("log/1") == len(prefix.encode())
        storage.close()
    assert f"{'x' * PREFIX_BYTES_MAX}/log/1" in bucket.sizes()


def test_a_prefix_that_is_an_object_is_a_folder_as_well(bucket: Bucket) -> None:
    bucket.put("team", b"an object")
    storage = RemoteStorage(f"{bucket.url}/team")

    storage.write_new("log/1", b"x")

    assert [info.key for info in storage.list("")] == ["log/1"]
    assert bucket.read("team") == b"an object"


# ---- endpoints and the network -------------------------------------------------------------------------


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        # Bound, but nobody listens.
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_server_that_is_not_there_is_named(
    bucket: Bucket, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    storage = RemoteStorage(bucket.url)

    for verb in (
        lambda: storage.read("a"),
        lambda: storage.write_new("a", b""),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(StorageBusyError) as caught:
            verb()
        assert f"no answer from http://127.0.0.1:{closed_port}: Connection refused" in str(caught.value)
        assert "network" in caught.value.hint


def test_it_is_named_as_well_to_who_handles_another_error(
    bucket: Bucket, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    storage = RemoteStorage(bucket.url)
    try:
        raise KeyError("a")
    except KeyError:
        with pytest.raises(StorageBusyError, match="Connection refused"):
            storage.read("a")


def test_a_name_that_cannot_be_looked_up_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nobody.invalid:9")

    with pytest.raises(StorageBusyError, match=r"no answer from http://nobody\.invalid:9"):
        RemoteStorage(bucket.url).read("a")


def test_a_server_that_speaks_no_tls_is_named_at_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url.replace("http:", "https:"))
        with pytest.raises(StorageError, match="TLS failed") as caught:
            RemoteStorage(bucket.url).read("a")

    assert not isinstance(caught.value, StorageBusyError), "asking again does not help"
    assert "https:// or http://" in caught.value.hint


def test_a_server_that_is_no_s3_is_an_error_and_nothing_is_kept_there(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain_server() as server:
        server.says_absent = 400
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)

        with pytest.raises(StorageError, match="answers 400"):
            RemoteStorage(bucket.url).read("a")


# ---- credentials ---------------------------------------------------------------------------------------


def test_no_credentials_at_all_is_said_so(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(StoragePermissionError, match="no credentials were found") as caught:
        RemoteStorage(bucket.url).read("a")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "SECRETKEY\nX"),
        ("AWS_ACCESS_KEY_ID", "SECRETKEY größe"),
        ("AWS_ACCESS_KEY_ID", "SECRETKEY, Signature=0"),
        ("AWS_ACCESS_KEY_ID", "SECRETKEY/" * 400),
        ("AWS_SECRET_ACCESS_KEY", "SECRETKEY\n"),
        ("AWS_SECRET_ACCESS_KEY", "SECRETKEY größe /+@?"),
        ("AWS_SESSION_TOKEN", "SECRETKEY\r\nX-Header: 1"),
        ("AWS_SESSION_TOKEN", "SECRETKEY größe"),
        ("AWS_SESSION_TOKEN", "SECRETKEY" * 900),
        ("AWS_PROFILE", "SECRETKEY"),
        ("AWS_ENDPOINT_URL", "SECRETKEY"),
        ("AWS_ENDPOINT_URL", "http://SECRETKEY:SECRETKEY@[::1/"),
        ("AWS_ENDPOINT_URL", "http://SECRETKEY:SECRETKEY@127.0.0.1:1"),
        ("AWS_DEFAULT_REGION", "SECRETKEY größe"),
    ],
)
def test_odd_credentials_never_show(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    storage = RemoteStorage(bucket.url)
    shown: list[str] = [repr(storage), storage.location]
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setenv(name, value)
        for verb in (
            lambda: storage.read("a"),
            lambda: storage.write_new("a", b""),
            lambda: storage.size("a"),
            lambda: list(storage.list("")),
        ):
            try:
                verb()
            except KeepstoneError as error:
                shown += traceback.format_exception(error)
                shown.append(repr(pickle.dumps(error)))
                shown.append(error.hint)

    shown.append(repr(pickle.dumps(storage)))
    assert "SECRETKEY" not in "".join(shown) + caplog.text


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", Kind.ABSENT),
        (404, "", Kind.ABSENT),
        (404, "NoSuchBucket", Kind.NO_BUCKET),
        (404, "NoSuchUpload", Kind.BUSY),
        (412, "PreconditionFailed", Kind.EXISTS),
        (412, "", Kind.EXISTS),
        (409, "ConditionalRequestConflict", Kind.BUSY),
        (409, "BlobAlreadyExists", Kind.EXISTS),
        (416, "InvalidRange", Kind.PAST_THE_END),
        (403, "AccessDenied", Kind.DENIED),
        (403, "", Kind.DENIED),
        (401, "", Kind.DENIED),
        (400, "ExpiredToken", Kind.DENIED),
        (400, "RequestTimeout", Kind.BUSY),
        (400, "InvalidBucketName", Kind.OTHER),
        (429, "", Kind.BUSY),
        (500, "InternalError", Kind.BUSY),
        (200, "InternalError", Kind.BUSY),
        (503, "SlowDown", Kind.BUSY),
        (501, "NotImplemented", Kind.UNKNOWN_THERE),
        (501, "", Kind.UNKNOWN_THERE),
        (400, "NotImplemented", Kind.UNKNOWN_THERE),
        (301, "PermanentRedirect", Kind.OTHER),
    ],
)
def test_the_status_decides(status: int, code: str, kind: Kind) -> None:
    assert of_answer(status, code).kind is kind


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("RequestTimeTooSkewed", "clock"),
        ("SignatureDoesNotMatch", "secret key"),
        ("InvalidAccessKeyId", "endpoint"),
        ("InvalidToken", "AWS_SESSION_TOKEN"),
        ("ExpiredToken", "new credentials"),
        ("AccessDenied", "s3:ListBucket"),
    ],
)
def test_who_is_refused_learns_what_to_look_at(code: str, part: str) -> None:
    assert part in raised(of_answer(403, code), "read", "s3://bucket/team", "log/1").hint


def test_a_code_that_could_be_anything_is_not_shown() -> None:
    assert of_answer(400, "AKIA SECRET").detail == "the server answers 400"
    assert "expired" in of_answer(400, "ExpiredToken").detail
