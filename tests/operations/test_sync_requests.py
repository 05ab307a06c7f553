"""What syncs cost on a bucket, in requests; and that memory does not grow with what goes over."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.operations.bucket import Requests, bucket

import keepstone
from keepstone import Store
from keepstone.operations import sync, sync_outbox
from keepstone.repository.merging import merge
from keepstone.repository.opening import close_repository, open_repository

MIB = 1024 * 1024


@pytest.fixture
def place(tmp_path: Path, net: Requests) -> str:
    """A store in a bucket with two commits."""
    place = f"bucket://{tmp_path.name}"
    with keepstone.open(place, create=True) as store:
        store.save("theirs", 1)
        store.save("theirs", 2)
    net.take()
    return place


def verbs(net: Requests) -> list[str]:
    return [verb for verb, _ in net.take()]


@pytest.mark.parametrize("commits", [0, 1, 3, 20])
def test_opening_costs_identity_hint_commits_and_a_look_behind_them(
    commits: int, tmp_path: Path, net: Requests
) -> None:
    name = tmp_path.name
    with keepstone.open(f"bucket://{name}", create=True) as store:
        for number in range(commits):
            store.save("m", number)
    net.take()
    close_repository(open_repository(bucket(name), create=False, writable=True))

    made = net.take()
    assert [key for _, key in made[:2]] == ["store.json", "checkpoints/LAST"]
    assert {verb for verb, _ in made} == {"GET"}
    # Behind the fourth commit they are read in parallel: some reads find nothing.
    assert len(made) == commits + 4 if commits <= 3 else len(made) <= commits + 20


def test_ten_thousand_new_results_cost_eight_requests(here: Store, place: str, net: Requests) -> None:
    answers = {f"q{i}": {"answer": i, "why": f"because of {i} " * 20} for i in range(10_000)}
    here.collection("first").update({"a": 1})
    here.push(place)
    here.collection("answers").update(answers)
    net.take()
    report = here.push(place)

    made = verbs(net)
    assert report.changes[0].items == 10_000
    assert len(made) <= 8 + 1, made  # One more commit than the store that the goal speaks of.
    assert made.count("PUT") == 2
    assert not {"LIST", "DELETE"} & set(made)
    with keepstone.open(place) as store:
        assert dict(store.collection("answers")) == answers


def test_the_first_push_to_a_new_store_costs_eight_requests(
    here: Store, tmp_path: Path, net: Requests
) -> None:
    here.collection("answers").update({f"q{i}": {"answer": i, "why": "because " * 30} for i in range(3_000)})
    here.save("m", {"x": 1}, aliases=["prod"])
    place = f"bucket://{tmp_path.name}"
    keepstone.open(place, create=True).close()
    net.take()
    here.push(place)
    assert len(verbs(net)) <= 8


@pytest.mark.parametrize("verb", ["push", "pull", "sync"])
def test_nothing_new_costs_two_reads(verb: str, here: Store, place: str, net: Requests) -> None:
    here.save("m", 1)
    here.sync(place)
    net.take()
    assert getattr(here, verb)(place).is_nothing
    assert verbs(net) == (["GET"] if verb == "push" else ["GET", "GET"])
    # A push by itself makes both agree as well, if nothing else came there.
    here.save("m", 2)
    here.push(place)
    net.take()
    assert getattr(here, verb)(place).is_nothing
    assert len(verbs(net)) <= 2


def test_merging_here_is_nothing_new(here: Store, place: str, net: Requests) -> None:
    items = here.collection("c")
    for number in range(20):
        items[str(number)] = "x" * 100
        items.flush()
    before = len(here.repository.session.log.state.packs)
    here.sync(place)
    net.take()
    while len(here.repository.session.log.state.packs) == before:
        assert merge(here.repository.session, packs_min=2)
    assert here.sync(place).is_nothing
    assert len(verbs(net)) == 2


def test_what_was_merged_before_it_was_pushed_is_new(here: Store, place: str, net: Requests) -> None:
    items = here.collection("c")
    for number in range(30):
        items[str(number)] = "x" * 100
        items.flush()
        if number == 10:
            here.sync(place)
    # New packs and known ones become one.
    while len(here.repository.session.log.state.packs) > 6:
        assert merge(here.repository.session, packs_min=2)
    here.save("m", "x" * 10)
    assert here.push(place).changes[0].versions
    with keepstone.open(place) as store:
        assert len(store.collection("c")) == 30


def test_what_was_pulled_is_not_pushed_back(here: Store, place: str, net: Requests) -> None:
    here.sync(place)
    with keepstone.open(place) as store:
        store.collection("theirs/items").update({str(i): "y" * 500 for i in range(100)})
        store.flush()
    here.collection("mine").update({str(i): "x" * 500 for i in range(100)})
    report = here.sync(place)
    assert [way.items for way in report.changes] == [100, 100]
    net.take()
    assert here.sync(place).is_nothing
    assert len(verbs(net)) == 2


def test_a_pull_reads_neighbours_together(here: Store, place: str, net: Requests) -> None:
    with keepstone.open(place) as store:
        store.collection("answers").update({f"q{i}": f"answer {i} " * 30 for i in range(3_000)})
        store.save("folder", {str(i): "x" * 200 for i in range(100)})
    net.take()
    here.pull(place)
    made = verbs(net)
    # Identity, hint, six commits, two behind them, three footers, results and their dictionary, values.
    assert len(made) <= 24
    assert set(made) == {"GET"}


def test_an_interrupted_push_uploads_only_what_is_missing(
    here: Store, tmp_path: Path, net: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_outbox, "NEW_PACK_BYTES", 100_000)
    monkeypatch.setattr(sync, "NOTE_BYTES_MIN", 100_000)
    place = f"bucket://{tmp_path.name}"
    keepstone.open(place, create=True).close()
    here.save("m", random.Random(3).randbytes(1_000_000))
    here.collection("c").update({str(i): random.Random(i).randbytes(1_000) for i in range(500)})
    net.take()
    net.arm(9)
    with pytest.raises(keepstone.StorageError):
        here.push(place)
    assert net.heal()
    sent = [key for verb, key in net.take() if verb == "PUT" and key in bucket(tmp_path.name).objects]
    assert sent
    # Somebody else writes there meanwhile.
    with keepstone.open(place) as store:
        store.save("theirs", 1)
    net.take()
    here.push(place)
    again = net.take()
    assert not {key for verb, key in again if verb == "PUT"} & set(sent)
    assert {key for verb, key in again if verb == "HEAD"} >= set(sent)
    with keepstone.open(place) as store:
        assert store.load("m") == here.load("m")
        assert store.fsck(read_data=True).findings == ()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_memory_stays_small_whatever_goes_over(verb: str, tmp_path: Path) -> None:
    megabytes = 1_500
    program = f"""
        import random
        from pathlib import Path
        import keepstone
        from tests.operations.bucket import buckets
        from tests.peak import peak_bytes

        piece = random.Random(1).randbytes(1 << 20)
        with keepstone.open("here") as here:
            with open("large", "wb") as file:
                for i in range({megabytes}):
                    file.write(i.to_bytes(4, "big") + piece[4:])
            here.save("large", Path("large"))
            here.collection("c").update({{f"k{{i}}": f"value {{i}} " * 5 for i in range(100_000)}})
            here.flush()
            with keepstone.open("there") as there:
                report = {"here.push(there)" if verb == "push" else "there.pull(here)"}
                assert report.changes[0].items == 100_000
                assert sum(1 for _ in there.resolve("large").chunks()) >= {megabytes}
        print(peak_bytes())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(p for p in [str(Path(__file__).parents[2]), *sys.path] if p)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 256 * MIB
