"""Syncs, restores and recoveries with stores in real buckets, on every server; machines have folders of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.operations.handing import seen
from tests.servers import fixtures
from tests.servers.bucket import Bucket, new_bucket, remove
from tests.servers.faults import Fault, Rule
from tests.servers.fixtures import Machine, Servers, everywhere, on_servers
from tests.servers.proxy import Proxy

import keepstone
from keepstone import DivergedError, Store

elsewhere = on_servers("ministack", "rgw")
"""What costs more: with `--servers` and `--rgw` only; in memory it is looked at every day."""


@pytest.fixture
def url(bucket: Bucket, machine: Machine) -> str:
    """A place for a store in a bucket; there is none yet."""
    return f"{bucket.url}/team"


@everywhere
def test_everything_goes_there_and_comes_back_on_another_machine(
    url: str, machine: Machine, full_store: Path, tmp_path: Path
) -> None:
    with keepstone.open(full_store) as store:
        report = store.push(url, create=True)
        assert len(report.changes[0].versions) == 9
        assert store.push(url).is_nothing
        wanted = seen(store)
    machine("there")
    keepstone.clone(url, tmp_path / "cloned")
    with keepstone.open(tmp_path / "cloned") as cloned, keepstone.open(url, mode="r") as far:
        assert seen(cloned) == seen(far) == wanted
        assert far.fsck(read_data=True).findings == ()
        assert cloned.fsck(read_data=True).findings == ()
        assert cloned.sync(url).is_nothing


@everywhere
def test_what_is_new_costs_few_requests_and_nothing_new_two(
    url: str, proxy: Proxy, machine: Machine, here: Store
) -> None:
    here.save("m", "one")
    here.push(url, create=True)
    with proxy.counted() as seen_:
        assert here.push(url).is_nothing
    assert len(seen_) <= 2
    here.collection("c").update({f"q{number}": {"n": number} for number in range(500)})
    here.flush()
    (planned,) = here.plan_push(url).report.changes
    with proxy.counted() as seen_:
        (done,) = here.push(url).changes
    assert len(seen_) <= 8
    assert done.requests == len(seen_)
    assert done.requests <= planned.requests <= done.requests + 3
    assert not [request for request in seen_ if request.kind == "list"]


@everywhere
def test_a_store_that_took_the_place_of_an_open_one_is_noticed(
    url: str, proxy: Proxy, bucket: Bucket, here: Store
) -> None:
    here.save("m", "one")
    here.push(url, create=True)
    with keepstone.open(url) as far:
        with proxy.counted() as asked:
            assert here.push(far).is_nothing
        assert len(asked) == 1
        for key in bucket.sizes():
            bucket.client().delete_object(Bucket=bucket.name, Key=key)
        with pytest.raises(DivergedError, match="no longer holds"):
            here.push(far)


@everywhere
def test_two_machines_take_turns_and_end_with_the_same(url: str, machine: Machine, tmp_path: Path) -> None:
    with keepstone.open(tmp_path / "a") as a:
        a.save("m", "one", aliases=["prod"])
        a.collection("c").update({"x": 1, "y": 2})
        a.sync(url, create=True)
        machine("there")
        with keepstone.open(tmp_path / "b") as b:
            b.pull(url)
            b.save("m", "two of b", aliases=["prod"])
            del b.collection("c")["x"]
            b.collection("c")["z"] = 3
            b.sync(url)
            machine("here")
            a.save("m", "two of a")
            a.collection("c")["y"] = 20
            report = a.sync(url)
            assert not report.conflicts
            machine("there")
            b.sync(url)
            for store in (a, b):
                assert store.load("m@prod") == "two of b"
                assert dict(store.collection("c")) == {"y": 20, "z": 3}
                assert {v.load() for v in store.versions("m")} == {"one", "two of a", "two of b"}
            assert b.sync(url).is_nothing
    with keepstone.open(url, mode="r") as far:
        assert far.fsck(read_data=True).findings == ()


@elsewhere
def test_many_machines_push_at_once_and_nothing_is_lost_or_twice(
    url: str, machine: Machine, tmp_path: Path
) -> None:
    keepstone.open(url, create=True).close()
    stores = [keepstone.open(tmp_path / str(number)) for number in range(3)]
    for number, store in enumerate(stores):
        store.save("same", "same content")
        store.save("m", f"from {number}", aliases=[f"by-{number}"])
        store.collection("c").update({f"{number}/{i}": i for i in range(20)})

    def work(store: Store) -> None:
        store.push(url)
        store.save("m", f"second of {store.location[-1]}")
        store.push(url)

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(work, stores))
    machine("there")
    with keepstone.open(url, mode="r") as far:
        assert [v.load() for v in far.versions("same")] == ["same content"]
        assert sorted(v.load() for v in far.versions("m")) == sorted(
            v.load() for store in stores for v in store.versions("m")
        )
        assert len(far.collection("c")) == 60
        assert far.fsck(read_data=True).findings == ()
    for store in stores:
        store.close()


PUSHES = """\
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    store.push(sys.argv[2])
"""


@elsewhere
@pytest.mark.parametrize("key", ["/packs/", "/log/"])
def test_a_push_that_is_killed_leaves_nothing_half_visible_and_the_next_ends_it(
    url: str, proxy: Proxy, machine: Machine, tmp_path: Path, key: str
) -> None:
    with keepstone.open(tmp_path / "a") as store:
        store.push(url, create=True)
        store.save("m", os.urandom(100_000), aliases=["prod"])
        store.collection("c").update({"x": 1, "y": 2})
        wanted = seen(store)
    # It took effect, and who waits for the answer is killed.
    rule = Rule(Fault.HANG_AFTER, kind="put", key=key)
    proxy.rules.append(rule)
    process = subprocess.Popen([sys.executable, "-c", PUSHES, str(tmp_path / "a"), url])
    assert rule.arrived.wait(60)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    proxy.rules.clear()

    machine("there")
    with keepstone.open(url, mode="r") as far:
        assert far.names() == ([] if key == "/packs/" else ["c", "m"])
        assert far.fsck(read_data=True).ok
    machine("here")
    with keepstone.open(tmp_path / "a") as store:
        store.push(url)
        assert store.push(url).is_nothing
    machine("there")
    with keepstone.open(url, mode="r") as far:
        assert seen(far) == wanted
        assert far.fsck(read_data=True).ok


@pytest.mark.parametrize(
    ("bucket", "other"), [("ministack", "moto"), ("ministack", "rgw"), ("rgw", "moto")], indirect=["bucket"]
)
def test_from_one_server_to_another(
    url: str,
    bucket: Bucket,
    other: str,
    servers: Servers,
    machine: Machine,
    full_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with keepstone.open(full_store) as store:
        store.push(url, create=True)
        wanted = seen(store)
    second = new_bucket(other, servers.get(other))
    with keepstone.open(url) as source:
        assert seen(source) == wanted
        # Clients that are connected stay with the server that they found.
        fixtures.set_environment(second.access, monkeypatch)
        source.push(f"{second.url}/copy", create=True)
        source.save("later", "more")
        assert source.sync(f"{second.url}/copy").changes
    machine("there")
    with keepstone.open(f"{second.url}/copy", mode="r") as copy:
        assert copy.load("later") == "more"
        assert copy.fsck(read_data=True).findings == ()
        found = seen(copy)
        assert {
            name: digest for name, (digest, *_) in found["versions"].items() if name in wanted["versions"]
        } == {name: digest for name, (digest, *_) in wanted["versions"].items()}
        assert found["items"] == wanted["items"]
    remove(second)


@elsewhere
def test_a_lock_is_restored_from_a_bucket(
    url: str, machine: Machine, full_store: Path, tmp_path: Path
) -> None:
    with keepstone.open(full_store) as store:
        store.push(url, create=True)
        wanted = seen(store)
    with keepstone.open(url) as far:
        far.pin(["text", "turns@old", "answers@submitted"], tmp_path / "keepstone.lock")
    machine("there")
    with keepstone.open(tmp_path / "restored") as restored:
        restored.restore(tmp_path / "keepstone.lock", source=url)
        assert (restored.load("text"), restored.load("turns@v1")) == ("some text", "first")
        assert restored.resolve("answers@v1").digest == wanted["versions"]["answers@v1"][0]
        assert restored.fsck(read_data=True).findings == ()
