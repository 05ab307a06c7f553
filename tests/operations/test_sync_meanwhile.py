"""What is done to one of two stores during a sync, right after it, or between one that was cut off and the next."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.operations.bucket import Requests, bucket

import keepstone
from keepstone import DivergedError, Store
from keepstone.operations import sync, sync_survey
from keepstone.operations.sync_memory import SyncMemory, read_memory, remember


@pytest.fixture
def place(tmp_path: Path, net: Requests) -> str:
    """An empty store in a bucket."""
    url = f"bucket://{tmp_path.name}"
    keepstone.open(url, create=True).close()
    return url


def replace(place: str, *values: object) -> None:
    """Let another store take the place of the one that is there, with these versions of `m`."""
    bucket(place.removeprefix("bucket://")).objects.clear()
    with keepstone.open(place, create=True) as other:
        for value in values:
            other.save("m", value)


def test_what_is_saved_while_an_empty_store_is_filled_is_pushed(here: Store, there: Store) -> None:
    there.save("theirs", "x")

    def save(*_: object) -> None:
        if "mine" not in here.names():
            here.save("mine", "saved meanwhile")

    here.pull(there, progress=save)
    here.push(there)
    assert there.load("mine") == "saved meanwhile"


def test_what_a_reader_cannot_publish_is_told_of(here: Store, there: Store) -> None:
    there.collection("c")["k"] = 1
    there.save("m", 1)
    with keepstone.open(there.location, mode="r") as reader:
        assert dict(reader.collection("c")) == {"k": 1}
        for report in (here.pull(reader), here.pull(reader), reader.push(here)):
            assert report.changes[0].waiting == 1
            assert f"left out: what 1 journal at {there.location} held back" in str(report)
        assert here.pull(reader, select=["m"]).changes[0].waiting == 0
        assert here.pull(reader, select=["c"]).changes[0].waiting == 1
        assert len(here.collection("c")) == 0
    report = here.pull(there)
    assert report.changes[0].waiting == 0
    assert "left out" not in str(report)
    assert dict(here.collection("c")) == {"k": 1}


def test_what_is_set_after_a_sync_is_above_what_came(here: Store, there: Store) -> None:
    clock = there.repository.session.clock
    now = clock.now_ns
    clock.now_ns = lambda: now() + 1_800 * 10**9
    items = here.collection("c")
    for verb, other, key in ((here.pull, there, "a"), (there.push, here, "b")):
        items["before"] = key
        there.collection("c")[key] = "theirs"
        there.flush()
        verb(other)
        items[key] = "mine"
        assert items[key] == "mine"
    assert dict(items) == {"before": "b", "a": "mine", "b": "mine"}


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_push_that_was_killed_after_its_commit_is_repeated_when_its_packs_were_merged(
    when: str, here: Store, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "NOTE_BYTES_MIN", 10)
    monkeypatch.setattr(sync_survey, "WHOLE_PACK_BYTES_MIN", 10)
    here.save("m", 1)
    here.push(place)
    here.collection("c")["a"] = "x" * 300
    notes: list[SyncMemory | None] = []
    here.push(place, progress=lambda *_: notes.append(read_memory(here.repository.session, place)))
    begun = notes[-1]
    assert begun is not None
    assert begun.push_base is not None
    # So it stands where it was killed before it could note that it had ended.
    remember(here.repository, begun)
    with keepstone.open(place) as other:
        log, items = other.repository.session.log, other.collection("c")
        (pack,) = (name for name, live in log.state.packs.items() if "c" in live.record.collections)

        def merge(done: int, _: int | None) -> None:
            # The first call is made before anything is written.
            if done and pack in log.state.packs:
                for number in range(20):
                    items[str(number)] = number
                    items.flush()

        if when == "before":
            merge(1, None)
        here.push(place, progress=merge)
        assert pack in log.state.dropped
        assert items["a"] == "x" * 300
        assert other.fsck(read_data=True).ok
    assert here.push(place).is_nothing


# ---- another store in the old one's place ---------------------------------------------------------------------------


def test_after_a_push_that_was_cut_off_another_store_there_is_taken_for_what_it_is(
    here: Store, place: str, net: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "NOTE_BYTES_MIN", 10)
    here.save("m", random.Random(3).randbytes(1_000_000))
    net.arm(6)
    with pytest.raises(keepstone.StorageError):
        here.push(place)
    assert net.heal()
    memory = read_memory(here.repository.session, place)
    assert memory is not None
    assert memory.is_of_a_beginning
    replace(place)
    here.push(place)
    assert here.push(place).is_nothing
    here.save("m", "another")
    assert [version.target for version in here.push(place).changes[0].versions] == ["m@v2"]


@pytest.mark.parametrize("select", [["m"], None])
def test_another_store_is_noticed_whatever_was_selected(
    select: list[str] | None, here: Store, place: str
) -> None:
    here.save("m", 1, aliases=["prod"])
    here.push(place, select=select)
    replace(place, 1, 2)
    for again in (select, None):
        for verb in (here.push, here.pull, here.sync):
            with pytest.raises(DivergedError, match="there is another store than at the last sync") as caught:
                verb(place, select=again)
            assert "--afresh" in caught.value.hint
    assert here.sync(place, afresh=True).changes[0].versions
    assert here.sync(place).is_nothing
