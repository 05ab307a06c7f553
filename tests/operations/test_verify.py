"""Verifying names each version that is missing or damaged, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import keepstone
from keepstone import MalformedError, NotFoundError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    with keepstone.open(tmp_path / "store") as store:
        store.save("large", os.urandom(400_000))
        store.save("other", os.urandom(300_000))
        store.save("small", {"x": 1})
        store.pin(["large", "other", "small"], tmp_path / "x.lock")
    return tmp_path


def conditions(store: keepstone.Store, lock: Path) -> dict[str, str]:
    return {verdict.selector: verdict.condition for verdict in store.verify(lock).verdicts}


def test_what_is_right_is_said_with_how_much_was_read(
    made: Path, snapshot: Callable[[Path], dict[str, tuple[int, int, bytes]]]
) -> None:
    before = snapshot(made)
    with keepstone.open(made / "store", mode="r") as store:
        report = store.verify(made / "x.lock")

    assert report.ok
    assert report.bytes_read > 700_000
    assert snapshot(made) == before


def test_each_damaged_version_is_named_and_no_other(made: Path) -> None:
    pack = next(p for p in (made / "store" / "packs").rglob("*-*") if p.stat().st_size > 350_000)
    data = bytearray(pack.read_bytes())
    data[5000] ^= 1
    pack.write_bytes(data)
    with keepstone.open(made / "store", mode="r") as store:
        assert conditions(store, made / "x.lock") == {
            "large@v1": "damaged",
            "other@v1": "right",
            "small@v1": "right",
        }


def test_a_lost_pack_is_damage_of_what_is_still_named(made: Path) -> None:
    next(p for p in (made / "store" / "packs").rglob("*-*") if p.stat().st_size > 350_000).unlink()
    with keepstone.open(made / "store", mode="r") as store:
        assert conditions(store, made / "x.lock")["large@v1"] == "damaged"


def test_each_missing_version_is_named(made: Path) -> None:
    with keepstone.open(made / "new") as new:
        new.save("any", {"x": 1})
        report = new.verify(made / "x.lock")

        assert [verdict.selector for verdict in report.missing] == ["large@v1", "other@v1"]
        assert not report.damaged
        assert not report.ok


@pytest.mark.parametrize("name", ["small", "items"])
def test_a_kind_that_was_changed_in_the_lock_is_never_believed(made: Path, name: str) -> None:
    lock = made / "y.lock"
    with keepstone.open(made / "store") as store:
        store.collection("items")["k"] = 1
        store.pin(["items", "small"], lock)
        other = {"artifact": "collection", "collection": "artifact"}
        lines = [line.split(" ") for line in lock.read_text().splitlines()]
        lock.write_text(
            "".join(
                " ".join([*line[:-1], other[line[-1]] if line[0] == f"{name}@v1" else line[-1]]) + "\n"
                for line in lines
            )
        )
        assert conditions(store, lock) == {
            f"{n}@v1": "damaged" if n == name else "right" for n in ("items", "small")
        }
        with pytest.raises(MalformedError, match=f"{name}@v1 cannot be read whole: the lock says"):
            store.bundle(lock, made / "y.bundle")
        with (
            keepstone.open(made / "new") as new,
            pytest.raises(MalformedError, match=f"{name}@v1 cannot be read whole: the lock says"),
        ):
            new.restore(lock)
        with keepstone.open(made / "new") as new:
            assert new.names() == []
    with keepstone.locked(lock) as locked, pytest.raises(MalformedError, match=f"{name}@v1 cannot be read"):
        locked.load(name)


def test_a_lock_that_is_not_there_is_not_found(made: Path) -> None:
    with keepstone.open(made / "store") as store, pytest.raises(NotFoundError, match="there is no lock file"):
        store.verify(made / "none.lock")
