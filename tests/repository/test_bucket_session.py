"""Stores in buckets: what one machine keeps until it is published, and what others see when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault, Rule
from tests.servers.fixtures import Machine, on_servers
from tests.servers.proxy import Proxy

import keepstone
from keepstone.foundation.format import Origin
from keepstone.operations.doctor import examine_place
from keepstone.operations.orphans import orphans
from keepstone.storage.places import host_id

everywhere = on_servers("moto", "ministack", "rgw")


@pytest.fixture
def url(bucket: Bucket, machine: Machine) -> str:
    """A store in a bucket."""
    keepstone.open(f"{bucket.url}/team", create=True).close()
    return f"{bucket.url}/team"


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


KILLED = """\
import os, signal, sys, keepstone
from unittest import mock
with mock.patch("keepstone.storage.places.is_lasting", lambda folder: True):
    store = keepstone.open(sys.argv[1])
answers = store.collection("answers", durability="disk")
for key in sys.argv[2:]:
    answers[key] = key.upper()
os.kill(os.getpid(), signal.SIGKILL)
"""

UPLOADS = """\
import os, signal, sys, keepstone
store = keepstone.open(sys.argv[1])
answers = store.collection("answers", durability="process")
for number in range(300):
    answers[f"q{number}"] = os.urandom(1_500).hex()
store.flush()
"""


def run_python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a program of this machine."""
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True)


def put_and_die(url: str, *keys: str) -> None:
    """Let a process of this machine set items, and be killed before it could publish them."""
    process = run_python(KILLED, url, *keys)
    _, told = process.communicate()
    assert process.returncode == -signal.SIGKILL, told


def wait_until_published(url: str, key: str) -> None:
    """Return once this machine sees an item that another one set."""
    end = time.monotonic() + 60
    with keepstone.open(url, mode="r") as reader:
        while key not in reader.collection("answers"):
            assert time.monotonic() < end, "not published"
            time.sleep(0.05)


@everywhere
def test_what_one_machine_saves_another_loads(url: str, machine: Machine) -> None:
    with keepstone.open(url) as store:
        store.save("models/email", {"weights": [1, 2]}, aliases=["prod"])
        store.save("large", os.urandom(3_000_000))
        store.collection("answers")["q1"] = "yes"
    machine("there")
    with keepstone.open(url, mode="r") as store:
        assert store.load("models/email@prod") == {"weights": [1, 2]}
        assert len(store.load("large")) == 3_000_000
        assert dict(store.collection("answers")) == {"q1": "yes"}
        assert store.fsck(read_data=True).ok


@everywhere
def test_a_bucket_becomes_a_store_only_when_that_is_asked_for(bucket: Bucket, machine: Machine) -> None:
    with pytest.raises(keepstone.StoreNotFoundError, match="no store at s3://"):
        keepstone.open(bucket.url)
    assert bucket.sizes() == {}


@everywhere
def test_what_waits_here_is_seen_here_at_once_and_there_when_it_is_published(
    url: str, machine: Machine
) -> None:
    put_and_die(url, "a", "b")
    with keepstone.open(url, mode="r") as store:
        assert dict(store.collection("answers")) == {"a": "A", "b": "B"}
    machine("there")
    with keepstone.open(url, mode="r") as store:
        assert dict(store.collection("answers")) == {}
    machine("here")
    keepstone.open(url).close()
    machine("there")
    with keepstone.open(url, mode="r") as store:
        assert dict(store.collection("answers")) == {"a": "A", "b": "B"}


@everywhere
def test_items_are_published_after_a_while_without_being_asked(
    url: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.repository.local_side.PUBLISH_SECONDS", 0.05)
    with keepstone.open(url) as store:
        store.collection("answers")["a"] = 1
        machine("there")
        wait_until_published(url, "a")


@everywhere
def test_a_full_journal_is_published_at_once(
    url: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.repository.local_side.PUBLISH_BYTES", 100_000)
    with keepstone.open(url) as store:
        answers = store.collection("answers", durability="process")
        for number in range(300):
            answers[f"q{number}"] = os.urandom(600).hex()
        machine("there")
        wait_until_published(url, "q0")


@everywhere
def test_without_a_disk_that_lasts_an_item_waits_until_it_is_published(
    url: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.storage.places.is_lasting", lambda folder: False)
    with keepstone.open(url) as store:
        store.collection("answers", durability="disk")["a"] = 1
        store.collection("answers", durability="process")["b"] = 2
        machine("there")
        with keepstone.open(url, mode="r") as reader:
            assert reader.collection("answers")["a"] == 1


@everywhere
def test_what_could_not_be_published_is_still_here(
    bucket: Bucket, proxy: Proxy, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.storage.retrying.TRIES_MAX", 1)
    monkeypatch.setattr("keepstone.history.slots.WAIT_SECONDS_MAX", 0.0)
    url = f"{bucket.url}/team"
    store = keepstone.open(url, create=True)
    store.collection("answers")["a"] = 1
    proxy.rules.append(Rule(Fault.CUT, times=None))
    with pytest.raises(keepstone.StorageError) as caught:
        store.close()
    assert "kept on this machine" in caught.value.hint
    proxy.rules.clear()
    with keepstone.open(url) as store:
        assert store.collection("answers")["a"] == 1
    machine("there")
    with keepstone.open(url, mode="r") as store:
        assert store.collection("answers")["a"] == 1


@everywhere
def test_what_was_uploaded_and_never_published_is_recovered_from_another_machine(
    url: str, proxy: Proxy, machine: Machine
) -> None:
    # The first makes the collection, and is offered twice.
    commit = Rule(Fault.HANG, kind="put", key="/log/", nth=3)
    proxy.rules.append(commit)
    process = run_python(UPLOADS, url)
    assert commit.arrived.wait(60)
    process.kill()
    process.communicate()
    proxy.rules.clear()
    # The machine is lost, with its journals.
    machine("there")
    with keepstone.open(url) as other:
        assert len(other.collection("answers")) == 0
        found = list(orphans(other.repository.session, Origin.JOURNAL))
        assert [orphan.record.entries for orphan in found] == [300]
        assert other.recover().uploaded == 300
        assert len(other.collection("answers")) == 300
        assert other.recover().uploaded == 0
        assert other.fsck(read_data=True).ok
    # It was not lost after all: what it publishes now says the same.
    machine("here")
    with keepstone.open(url) as store:
        store.recover()
        assert len(store.collection("answers")) == 300
        assert store.fsck().ok


def test_a_server_that_does_not_answer_is_not_called_damage(
    url: str, proxy: Proxy, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keepstone.storage.retrying.TRIES_MAX", 1)
    with keepstone.open(url, mode="r") as store:
        for fault, error in (
            (Fault.CUT, keepstone.StorageBusyError),
            (Fault.FORBIDDEN, keepstone.StoragePermissionError),
        ):
            rule = proxy.fail(fault, key="/log/", times=None)
            with pytest.raises(error, match="/log/"):
                store.fsck(read_data=True)
            # The others are not waited for one by one.
            assert rule.struck <= store.repository.session.storage.reads_at_once
            proxy.rules.clear()
        assert store.fsck(read_data=True).ok


# ---- media that lose commits ---------------------------------------------------------------------------------------


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


def test_what_waits_under_a_former_name_of_the_machine_is_told_and_published_when_asked(
    url: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_and_die(url, "a", "b")
    former = host_id()
    monkeypatch.setattr("keepstone.storage.platform.host_name", lambda: "renamed")
    with keepstone.open(url) as store:
        assert "a" not in store.collection("answers")
        report = store.recover()
        assert [(other.host, other.journals) for other in report.elsewhere] == [(former, 1)]
        found = examine_place(url).store
        assert found is not None
        assert found.elsewhere == report.elsewhere
        with pytest.raises(keepstone.InvalidInputError, match="no journals of 'nobody'"):
            store.recover(host="nobody")

        report = store.recover(host=former)

        assert (report.journals, report.entries, report.elsewhere) == (1, 2, ())
    machine("there")
    with keepstone.open(url, mode="r") as store:
        assert dict(store.collection("answers")) == {"a": "A", "b": "B"}


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
