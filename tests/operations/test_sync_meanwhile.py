"""What others do to one of two stores during a sync, or between one that was cut off and the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.operations.bucket import Requests

import keepstone
from keepstone import Store
from keepstone.operations import sync, sync_survey
from keepstone.operations.sync_memory import SyncMemory, read_memory, remember


@pytest.fixture
def place(tmp_path: Path, net: Requests) -> str:
    """An empty store in a bucket."""
    url = f"bucket://{tmp_path.name}"
    keepstone.open(url, create=True).close()
    return url


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
