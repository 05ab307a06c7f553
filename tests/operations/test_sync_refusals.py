"""Syncs that are refused, and damage that they meet: an error that names what, and nothing is changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.blobs.cut_inputs import npy
from tests.operations.bucket import Requests, bucket
from tests.operations.conftest import flip
from tests.operations.handing import LARGE

import keepstone
from keepstone import (
    BlobNotFoundError,
    CorruptionError,
    DivergedError,
    InvalidInputError,
    StoragePermissionError,
    Store,
    StoreNotFoundError,
)
from keepstone.blobs.pack_frame import PACK_FRAME_HEADER_BYTES
from keepstone.foundation.format import Kind
from keepstone.history.commit import Draft, RefChange
from keepstone.operations import sync_survey
from keepstone.repository.entries import pack_place


def test_a_store_cannot_be_synced_with_itself(here: Store) -> None:
    for place in (here, here.location):
        with pytest.raises(InvalidInputError, match="is this store itself"):
            here.sync(place)


def test_a_store_is_made_only_when_asked(here: Store, tmp_path: Path) -> None:
    here.save("m", 1)
    with pytest.raises(StoreNotFoundError):
        here.push(tmp_path / "nowhere")
    with pytest.raises(StoreNotFoundError):
        here.plan_push(tmp_path / "nowhere").report  # noqa: B018
    assert not (tmp_path / "nowhere").exists()
    plan = here.plan_push(tmp_path / "nowhere", create=True)
    assert "1 version," in str(plan)
    assert not (tmp_path / "nowhere").exists()
    plan.apply()
    with pytest.raises(StoreNotFoundError):
        keepstone.clone(tmp_path / "nothing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(InvalidInputError, match="a store at"):
        keepstone.clone(tmp_path / "nowhere", here.location)


def test_a_reader_can_push_and_not_pull(here: Store, there: Store) -> None:
    here.save("m", 1)
    with keepstone.open(here.location, mode="r") as reader:
        assert reader.push(there).changes[0].versions
        assert not reader.push(there).changes[0].versions
        with pytest.raises(StoragePermissionError):
            reader.pull(there)
    here.save("n", 1)
    with keepstone.open(there.location, mode="r") as reader, pytest.raises(StoragePermissionError):
        here.push(reader)


def test_items_from_the_future_are_refused(here: Store, there: Store) -> None:
    session = here.repository.session
    now = session.clock.now_ns
    session.clock.now_ns = lambda: now() + 2 * 3_600 * 10**9
    here.collection("c")["k"] = 1
    session.clock.now_ns = now
    with pytest.raises(InvalidInputError, match=r"item 'k' of 'c' is stamped 20.* more than an hour ahead"):
        here.push(there)
    assert there.stats().commits == 0


def test_another_store_in_the_old_one_s_place_is_noticed(here: Store, tmp_path: Path, net: Requests) -> None:
    place = f"bucket://{tmp_path.name}"
    here.save("m", 1)
    here.push(place, create=True)
    early = dict(bucket(tmp_path.name).objects)
    here.save("m", 2)
    here.push(place)
    objects = bucket(tmp_path.name).objects
    objects.clear()
    objects.update(early)
    for verb in (here.push, here.pull, here.sync):
        with pytest.raises(DivergedError, match="no longer holds commit 1"):
            verb(place)
    here.save("m", 3)
    with pytest.raises(DivergedError, match="no longer holds commit 1"):
        here.push(place)
    assert [v.target for v in here.push(place, afresh=True).changes[0].versions] == ["m@v2", "m@v3"]
    objects.clear()
    keepstone.open(place, create=True).close()
    with pytest.raises(DivergedError):
        here.sync(place)
    assert len(here.sync(place, afresh=True).changes[1].versions) == 3
    assert here.sync(place).is_nothing


def test_a_clone_is_a_new_store(here: Store, tmp_path: Path, net: Requests) -> None:
    here.save("m", 1)
    place = f"bucket://{tmp_path.name}"
    assert len(keepstone.clone(here.location, place).changes[0].versions) == 1
    here.save("m", 2)
    for taken in (place, tmp_path / "here"):
        with pytest.raises(InvalidInputError, match=r"there is a store at .* already"):
            keepstone.clone(here.location, taken)
    with keepstone.open(place) as other:
        assert other.load("m") == 1


# ---- damage --------------------------------------------------------------------------------------------------------


def test_damage_at_the_source_is_named_and_changes_nothing(tmp_path: Path, there: Store) -> None:
    with keepstone.open(tmp_path / "s") as store:
        store.save("m/large", LARGE)
        store.collection("c").update({f"k{i}": random.Random(i).randbytes(500) for i in range(100)})
        store.flush()
    packs = sorted((tmp_path / "s" / "packs").rglob("*-*"), key=lambda p: p.stat().st_size)
    for pack, title in zip(packs, ("item 'k2", "m/large@v1"), strict=True):
        flip(pack, pack.stat().st_size // 4)
        with (
            keepstone.open(tmp_path / "s", mode="r") as store,
            pytest.raises((CorruptionError, BlobNotFoundError), match=title),
        ):
            store.push(there)
        assert there.stats().commits == 0
        flip(pack, pack.stat().st_size // 4)
    with keepstone.open(tmp_path / "s", mode="r") as store:
        store.push(there)


def test_damage_in_a_pack_that_is_copied_as_it_is_is_named(
    tmp_path: Path, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_survey, "WHOLE_PACK_BYTES_MIN", 10_000)
    with keepstone.open(tmp_path / "s") as store:
        store.collection("c").update({f"k{i}": random.Random(i).randbytes(500) for i in range(100)})
        store.flush()
    (pack,) = (tmp_path / "s" / "packs").rglob("*-*")
    flip(pack, 700)
    with (
        keepstone.open(tmp_path / "s", mode="r") as store,
        pytest.raises(CorruptionError, match="item 'k1' of 'c' cannot be read whole"),
    ):
        store.push(there)
    assert there.stats().commits == 0


def test_a_recipe_in_another_s_place_is_noticed(tmp_path: Path, there: Store) -> None:
    with keepstone.open(tmp_path / "s") as store, store.transaction() as change:
        for name in ("x", "y"):
            # Recipes of the same size.
            change.save(name, npy(random.Random(name).randbytes(2 * 1024 * 1024)))
    with keepstone.open(tmp_path / "s", mode="r") as store:
        session = store.repository.session
        (pack,) = [pack for pack in session.log.state.packs.values() if pack.slot < 0]
        index = session.blobs.index(pack_place(pack))
        one, two = [row for row in index.rows if row.kind == Kind.RECIPE]
    path = tmp_path / "s" / pack.key
    data = path.read_bytes()
    size = PACK_FRAME_HEADER_BYTES + one.stored_size
    first, second = (data[row.offset : row.offset + size] for row in (one, two))
    path.write_bytes(data.replace(first, b"?" * size).replace(second, first).replace(b"?" * size, second))
    with (
        keepstone.open(tmp_path / "s", mode="r") as store,
        pytest.raises(CorruptionError, match=r"x@v1 cannot be read whole: blob .* reads as"),
    ):
        store.push(there)
    assert there.stats().commits == 0


def test_memory_of_a_sync_that_cannot_be_read_costs_only_work(here: Store, there: Store) -> None:
    here.save("m", 1, aliases=["prod"])
    here.push(there)
    ref = next(r for r in here.repository.session.log.state.refs if r.startswith(":sync/"))
    here.repository.session.log.append(
        lambda state: Draft(refs=(RefChange(ref, state.refs[ref], bytes(32)),))
    )
    assert here.push(there).is_nothing
    assert here.push(there).is_nothing
    assert here.fsck().ok
