"""Aliases and pins follow where one side moved them; what both moved is a conflict, and stays."""

from __future__ import annotations

from pathlib import Path

import keepstone
from keepstone import Store


def both(here: Store, there: Store) -> None:
    for value in ("one", "two", "three"):
        here.save("m", value)
    here.alias("m@v1", "prod")
    here.push(there)


def test_an_alias_follows_where_only_the_source_moved_it(here: Store, there: Store) -> None:
    both(here, there)
    here.alias("m@v2", "prod")
    here.alias("m@v3", "new")
    assert [str(a) for a in here.push(there).changes[0].aliases] != []
    assert there.aliases("m") == {"prod": 2, "new": 3}
    here.unalias("m", "new")
    here.push(there)
    assert there.aliases("m") == {"prod": 2}


def test_an_alias_stays_where_only_the_target_moved_it_and_comes_back_with_a_pull(
    here: Store, there: Store
) -> None:
    both(here, there)
    there.alias("m@v2", "prod")
    here.save("n", 1)
    assert not here.push(there).conflicts
    assert (here.aliases("m"), there.aliases("m")) == ({"prod": 1}, {"prod": 2})
    here.pull(there)
    assert here.aliases("m") == {"prod": 2}
    there.unalias("m", "prod")
    assert here.sync(there).conflicts == ()
    assert here.aliases("m") == there.aliases("m") == {}


def test_an_alias_that_both_moved_is_a_conflict_until_they_agree(here: Store, there: Store) -> None:
    both(here, there)
    here.alias("m@v2", "prod")
    there.alias("m@v3", "prod")
    here.save("n", 1)
    report = here.push(there)
    assert [(c.alias, c.source) for c in report.conflicts] == [("m@prod", here.resolve("m@v2").digest)]
    assert there.load("n") == 1
    assert there.aliases("m") == {"prod": 3}
    assert "conflict: m@prod" in str(report)

    assert here.push(there).conflicts == report.conflicts
    here.alias("m@v3", "prod")
    assert here.push(there).conflicts == ()
    here.alias("m@v1", "prod")
    assert here.push(there).conflicts == ()
    assert there.aliases("m") == {"prod": 1}


def test_without_a_common_past_an_alias_that_differs_is_a_conflict(here: Store, there: Store) -> None:
    here.save("m", "one", aliases=["prod", "mine"])
    there.save("m", "two", aliases=["prod", "theirs"])
    assert [c.alias for c in here.push(there).conflicts] == ["m@prod"]
    assert there.aliases("m") == {"prod": 1, "theirs": 1, "mine": 2}


def test_an_alias_of_a_version_that_was_removed_there_does_not_move(here: Store, there: Store) -> None:
    both(here, there)
    there.remove("m@v2")
    here.alias("m@v2", "prod")
    report = here.push(there)
    assert there.aliases("m") == {"prod": 1}
    assert report.changes[0].withheld == ("m@v2",)


def test_pins_travel_with_what_they_protect(here: Store, there: Store, tmp_path: Path) -> None:
    here.save("m", "pinned")
    here.collection("c")["k"] = "pinned item"
    here.pin(["m", "c"], tmp_path / "x.lock")
    here.remove("m")
    here.collection("c")["k"] = "another"
    here.push(there)

    assert [pin.id for pin in there.pins()] == [pin.id for pin in here.pins()]
    assert there.verify(tmp_path / "x.lock").ok
    with keepstone.locked(tmp_path / "x.lock", there) as locked:
        assert (locked.load("m"), locked.collection("c")["k"]) == ("pinned", "pinned item")
    assert there.fsck(read_data=True).findings == ()
    here.unpin(tmp_path / "x.lock")
    here.push(there)
    assert there.pins() == ()
