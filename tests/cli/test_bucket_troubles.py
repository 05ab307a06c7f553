"""What a user of a bucket sees who may not do what he wants to: a real server checks keys, rights and clocks."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest
from tests.servers import rgw
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault
from tests.servers.fixtures import on_servers
from tests.servers.proxy import Proxy

import keepstone
from keepstone.cli.main import main

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def url(bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store in a bucket, made by who may do all; this machine has seen nothing of it."""
    monkeypatch.setenv("KEEPSTONE_SPOOL", str(folder / "state"))
    monkeypatch.setenv("KEEPSTONE_CACHE", str(folder / "cache of the owner"))
    url = f"{bucket.url}/team"
    with keepstone.open(url, create=True) as store:
        store.save("note", "text")
    monkeypatch.setenv("KEEPSTONE_CACHE", str(folder / "cache"))
    return url


def come_as_guest(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, *actions: str) -> None:
    """Go on as a user who may do these actions only."""
    guest = {"Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam:::user/{rgw.GUEST}"]}}
    place = f"arn:aws:s3:::{bucket.name}"
    statements = [
        {**guest, "Action": [action], "Resource": [place if action == "s3:ListBucket" else f"{place}/*"]}
        for action in actions
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    bucket.client().put_bucket_policy(Bucket=bucket.name, Policy=policy)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rgw.GUEST)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rgw.GUEST)


def refused(capsys: Shown, *words: str) -> str:
    """Return what a command says that ends with exit code 6: the storage refuses."""
    capsys.readouterr()
    assert main(list(words)) == 6
    return capsys.readouterr().err


@on_servers("rgw")
def test_who_may_read_and_list_reads_everything_and_writes_nothing(
    url: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    come_as_guest(bucket, monkeypatch, "s3:GetObject", "s3:ListBucket")
    before = bucket.sizes()

    assert main(["--store", url, "list"]) == 0
    assert main(["--store", url, "fsck", "--read-data"]) == 0
    assert main(["clone", url, "copy"]) == 0
    with keepstone.open("copy") as copy:
        assert copy.load("note") == "text"
    Path("given").write_text("more")
    for words in (["save", "note", "given"], ["remove", "note@v1"], ["alias", "note@v1", "best"]):
        said = refused(capsys, "--store", url, *words)
        assert "403 AccessDenied" in said
        assert "whose credentials" in said
    assert main(["doctor", url]) == 6
    said = capsys.readouterr().out
    assert "whether several may write there could not be tried: these credentials may read" in said
    assert "403 AccessDenied" in said
    assert "several may not" not in said
    assert bucket.sizes() == before


def test_doctor_says_of_who_may_only_read_that_nothing_was_tried(
    bucket: Bucket, proxy: Proxy, capsys: Shown
) -> None:
    proxy.fail(Fault.FORBIDDEN, kind="put", times=None)

    assert main(["doctor", f"{bucket.url}/team"]) == 6
    said = capsys.readouterr().out
    assert f"could not be tried: these credentials may read at {bucket.url}/team, and not write there" in said
    assert "several may not write there" not in said
    assert main(["doctor", f"{bucket.url}/team", "--json"]) == 6
    facts = json.loads(capsys.readouterr().out)
    assert (facts["is_untried"], facts["ok"], facts["probed"]) == (True, False, None)


@on_servers("rgw")
def test_who_may_not_list_is_told_so_by_every_command(
    url: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    come_as_guest(bucket, monkeypatch, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    before = bucket.sizes()
    Path("given").write_text("more")

    for words in (
        ["--store", url, "list"],
        ["--store", url, "save", "note", "given"],
        ["doctor", url],
        ["init", f"{bucket.url}/other"],
        ["clone", url, "copy"],
    ):
        assert "s3:ListBucket" in refused(capsys, *words)
    assert bucket.sizes() == before


@on_servers("rgw")
def test_who_may_not_delete_can_work_all_the_same(
    url: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_as_guest(bucket, monkeypatch, "s3:GetObject", "s3:PutObject", "s3:ListBucket")
    Path("given").write_text("more")

    assert main(["--store", url, "save", "note", "given"]) == 0
    assert main(["init", f"{bucket.url}/other"]) == 0


@on_servers("rgw")
@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("AWS_SECRET_ACCESS_KEY", "another", ("403 SignatureDoesNotMatch", "secret key")),
        ("AWS_ACCESS_KEY_ID", "another", ("403 InvalidAccessKeyId", "whose credentials")),
        ("AWS_ACCESS_KEY_ID", "", ("no credentials were found", "aws configure")),
    ],
)
def test_wrong_keys_are_named_by_what_is_wrong(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: Shown, name: str, value: str, parts: tuple[str, str]
) -> None:
    monkeypatch.setenv(name, value)
    said = refused(capsys, "--store", url, "list")
    assert all(part in said for part in parts), said


@on_servers("rgw")
def test_a_clock_that_is_wrong_is_named(url: str, monkeypatch: pytest.MonkeyPatch, capsys: Shown) -> None:
    an_hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    with monkeypatch.context() as wrong:
        wrong.setattr("botocore.auth.get_current_datetime", lambda: an_hour_ago)
        said = refused(capsys, "--store", url, "list")

    assert "403 RequestTimeTooSkewed" in said
    assert "the clock of this machine is wrong" in said


@on_servers("moto", "ministack", "rgw")
def test_a_bucket_that_does_not_exist_is_named(url: str, capsys: Shown) -> None:
    nowhere = "s3://no-bucket-has-this-name/team"
    for words in (["--store", nowhere, "list"], ["init", nowhere], ["doctor", nowhere]):
        said = refused(capsys, *words)
        assert "the bucket does not exist" in said
        assert "create it" in said


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("AWS_PROFILE", "nobody", "there is no such profile in ~/.aws: check AWS_PROFILE"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:9", "begins with http:// or https://"),
        ("AWS_DEFAULT_REGION", "no region", "that is no name of a region"),
    ],
)
def test_a_setting_that_is_no_good_is_named(
    variable: str, value: str, advice: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv(variable, value)

    said = refused(capsys, "--store", "s3://some-bucket/team", "list")
    assert "the request could not be made" in said
    assert advice in said
