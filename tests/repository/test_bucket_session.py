"""Stores in buckets: what one machine keeps until it is published, and what others see when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.servers.bucket import Bucket
from tests.servers.faults import Fault, Rule
from tests.servers.fixtures import Machine, everywhere
from tests.servers.proxy import Proxy

import keepstone
from keepstone.foundation.format import Origin
from keepstone.operations.doctor import examine_place
from keepstone.operations.orphans import orphans
from keepstone.storage.places import host_id

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
