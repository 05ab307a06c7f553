"""Stores in buckets that lose commits, overwrite or know no conditions: refused, or used by one writer."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault
from tests.servers.fixtures import Machine, everywhere, on_servers
from tests.servers.proxy import Proxy

import keepstone


def kinds(proxy: Proxy) -> Counter[str]:
    """Return the requests since the last look, by kind."""
    found = Counter(request.kind for request in proxy.seen)
    proxy.seen.clear()
    return found


def copy_within(bucket: Bucket) -> None:
    """Copy the store `team` to `copy`, as any tool may."""
    for key in bucket.sizes("team/"):
        source = {"Bucket": bucket.name, "Key": key}
        bucket.client().copy_object(Bucket=bucket.name, Key=key.replace("team/", "copy/"), CopySource=source)


@everywhere
def test_a_medium_that_overwrites_gets_no_store(bucket: Bucket, proxy: Proxy, machine: Machine) -> None:
    proxy.drops_condition = True
    with pytest.raises(keepstone.UnsafeStorageError, match="overwrites"):
        keepstone.open(f"{bucket.url}/team", create=True)
    assert bucket.sizes() == {}


def test_a_probe_that_was_cut_off_does_not_stand_in_the_way(
    bucket: Bucket, proxy: Proxy, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.storage.retrying.TRIES_MAX", 1)
    proxy.fail(Fault.CUT, nth=7, times=None)
    with pytest.raises(keepstone.StorageError):
        keepstone.open(f"{bucket.url}/team", create=True)
    assert [key.split("/")[1] for key in bucket.sizes()] == ["probe"]
    proxy.rules.clear()
    with keepstone.open(f"{bucket.url}/team", create=True) as store:
        store.save("a", 1)
        assert store.fsck().ok


@on_servers("rgw")
def test_who_changes_signed_requests_on_their_way_is_refused_by_the_server(
    url: str, proxy: Proxy, machine: Machine
) -> None:
    proxy.drops_condition, proxy.signs_again = True, False
    with keepstone.open(url) as store:
        with pytest.raises(keepstone.StoragePermissionError, match="403 SignatureDoesNotMatch") as caught:
            store.save("a", 1)
        assert "headers" in caught.value.hint
        assert not store.exists("a")


@everywhere
def test_a_medium_that_overwrites_can_be_used_by_one_writer(
    bucket: Bucket, proxy: Proxy, machine: Machine
) -> None:
    proxy.drops_condition = True
    url = f"{bucket.url}/team"
    with keepstone.open(url, create=True, single_writer=True) as store:
        store.save("a", 1)
    with keepstone.open(url) as store:
        store.save("a", 2)
        store.collection("items")["b"] = 3
    with keepstone.open(url, mode="r") as store:
        assert (store.load("a@v1"), store.load("a"), dict(store.collection("items"))) == (1, 2, {"b": 3})
        assert store.fsck().ok


def test_a_medium_that_knows_no_condition_can_be_used_by_one_writer(
    bucket: Bucket, proxy: Proxy, machine: Machine
) -> None:
    url = f"{bucket.url}/team"
    proxy.fail(Fault.NOT_IMPLEMENTED, kind="put")
    with keepstone.open(url, create=True, single_writer=True) as store:
        store.save("a", 1)
    with keepstone.open(url, mode="r") as store:
        assert store.load("a") == 1
    assert [request.status for request in proxy.seen if request.is_conditional] == [501]


@everywhere
def test_a_way_that_drops_the_condition_later_is_noticed_by_the_first_commit(url: str, proxy: Proxy) -> None:
    proxy.drops_condition = True
    with keepstone.open(url) as store:
        with pytest.raises(keepstone.UnsafeStorageError, match="overwrites") as caught:
            store.save("a", 1)
        assert caught.value.landed
        with pytest.raises(keepstone.UnsafeStorageError):
            store.save("b", 1)
    proxy.drops_condition = False
    with keepstone.open(url) as store:
        assert store.names() == ["a"]
        assert store.fsck().ok


@everywhere
def test_a_copy_in_another_bucket_is_probed_before_it_is_written_and_not_when_it_is_read(
    bucket: Bucket, url: str, proxy: Proxy
) -> None:
    copy_within(bucket)
    with keepstone.open(f"{bucket.url}/copy") as store:
        assert store.names() == []
        assert kinds(proxy)["put"] == 0
        store.save("a", 1)
        assert kinds(proxy)["put"] > 2
        store.save("a", 2)
        assert kinds(proxy)["put"] == 1
    with keepstone.open(f"{bucket.url}/copy") as store:
        store.save("a", 3)
        assert kinds(proxy)["put"] == 2, "the commit, and the same offered once more"


@on_servers("s3rver")
def test_a_server_that_knows_no_conditions_gets_no_store(bucket: Bucket, machine: Machine) -> None:
    with pytest.raises(keepstone.UnsafeStorageError, match="overwrites"):
        keepstone.open(f"{bucket.url}/team", create=True)
    assert not [
        key for key in bucket.sizes() if key.startswith("team/") and not key.startswith("team/probe/")
    ]


@on_servers("s3rver")
def test_a_store_that_was_copied_to_such_a_server_can_be_read_and_not_written(
    bucket: Bucket, machine: Machine, tmp_path: Path
) -> None:
    with keepstone.open(tmp_path / "store") as store:
        store.save("a", "one", aliases=["prod"])
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            bucket.put(f"team/{path.relative_to(tmp_path / 'store')}", path.read_bytes())

    with keepstone.open(f"{bucket.url}/team", mode="r") as store:
        assert store.load("a@prod") == "one"
        assert store.fsck(read_data=True).ok
    with keepstone.open(f"{bucket.url}/team") as store:
        with pytest.raises(keepstone.UnsafeStorageError, match="overwrites") as caught:
            store.save("a", "two")
        assert not caught.value.landed
        assert len(store.versions("a")) == 1
    with keepstone.open(f"{bucket.url}/team", mode="r") as store:
        assert [version.load() for version in store.versions("a")] == ["one"]


@everywhere
def test_a_copy_behind_a_way_that_drops_the_condition_is_not_written(
    bucket: Bucket, url: str, proxy: Proxy
) -> None:
    copy_within(bucket)
    proxy.drops_condition = True
    with keepstone.open(f"{bucket.url}/copy") as store:
        with pytest.raises(keepstone.UnsafeStorageError, match="overwrites") as caught:
            store.save("a", 1)
        assert not caught.value.landed
        assert store.names() == []


@on_servers("s3rver")
def test_on_such_a_server_one_writer_can_work(bucket: Bucket, machine: Machine) -> None:
    url = f"{bucket.url}/team"
    with keepstone.open(url, create=True, single_writer=True) as store:
        store.save("a", 1)
        store.save("large", os.urandom(3_000_000))
    with keepstone.open(url) as store:
        store.save("a", 2)
        store.collection("items").update({f"q{number}": number for number in range(100)})
    machine("there")
    with keepstone.open(url, mode="r") as store:
        assert (store.load("a@v1"), store.load("a"), len(store.collection("items"))) == (1, 2, 100)
        assert store.fsck(read_data=True).ok
