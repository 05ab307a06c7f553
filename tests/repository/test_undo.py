"""Undo: what a commit decided about names is taken back, and nothing that came later is overruled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keepstone
from keepstone import ConflictError, InvalidInputError, RefConflictError, Store


def last(store: Store) -> int:
    return next(store.history()).number


def picture(store: Store) -> dict[str, Any]:
    """Return what all names mean: versions by number, aliases."""
    return {
        name: ({v.number: v.load() for v in store.versions(name)}, store.aliases(name))
        for name in store.names(kind="artifact")
    }


CHANGES: dict[str, Callable[[Store], object]] = {
    "a first save": lambda s: s.save("new", 1, aliases=["prod"]),
    "a save": lambda s: s.save("a", 3, aliases=["prod", "fresh"]),
    "an alias that moves": lambda s: s.alias("a@v1", "prod"),
    "a new alias": lambda s: s.alias("a@v1", "old"),
    "an alias that goes": lambda s: s.unalias("a", "prod"),
    "a version that goes": lambda s: s.remove("a@v1"),
    "the newest version, which goes": lambda s: s.remove("b@v2"),
    "a whole name": lambda s: s.remove("a"),
    "a large value": lambda s: s.remove("large"),
    "a snapshot": lambda s: s.collection("c").snapshot(aliases=["sent"]),
    "a snapshot that goes": lambda s: s.remove("c@v1"),
}


@pytest.mark.parametrize("what", [*CHANGES, "a transaction"])
def test_what_is_undone_is_as_it_was_and_again_when_that_is_undone(store: Store, what: str) -> None:
    store.save("a", 1)
    store.save("a", 2, aliases=["prod"])
    store.save("b", 1)
    store.save("b", 2)
    store.save("large", bytes(range(256)) * 6000)
    store.collection("c")["k"] = 1
    store.collection("c").snapshot()
    store.collection("c")["k"] = 2

    def transaction(store: Store) -> None:
        with store.transaction() as change:
            change.save("a", 3)
            change.save("a", 4, aliases=["prod"])
            change.remove("a@v1")
            change.remove("b@v1")
            change.save("new", 1)

    before, snapshots = picture(store), store.versions("c")
    CHANGES.get(what, transaction)(store)
    after, number = picture(store), last(store)
    undone = store.undo(number)

    assert picture(store) == before
    assert [v.digest for v in store.versions("c")] == [v.digest for v in snapshots]
    assert undone.number == number + 1
    assert undone.message.startswith(f"undo of commit {number}: ")
    assert undone.changes
    assert store.fsck(read_data=True).ok
    store.undo(undone, message="after all")
    assert picture(store) == after
    assert next(store.history()).message == "after all"
    store.undo(last(store))
    assert picture(store) == before
    assert store.fsck(read_data=True).ok


def test_numbers_are_not_given_again_after_an_undo(store: Store) -> None:
    store.save("a", 1)
    store.undo(last(store))

    assert not store.exists("a")
    assert store.save("a", 1).number == 2


def test_history_says_what_an_undo_did(store: Store) -> None:
    store.save("a", 1)
    store.save("a", 2, message="too early")
    store.undo(1)
    store.undo(2)

    assert [entry.changes for entry in store.history()] == [
        ("a got versions back; newest v2",),
        ("a v2 removed; newest v1",),
        ("a v2",),
        ("a v1",),
    ]
    assert next(store.history()).message == "undo of commit 2: undo of commit 1: too early"


@pytest.mark.parametrize(
    ("change", "later", "message"),
    [
        (
            lambda s: s.save("a", 3),
            lambda s: s.save("a", 4),
            "'a' has moved since commit 2: by commit 3, a v4",
        ),
        (
            lambda s: s.remove("a"),
            lambda s: s.save("a", 4),
            "'a' has moved since commit 2: by commit 3, a v3",
        ),
        (
            lambda s: s.alias("a@v1", "prod"),
            lambda s: s.alias("a@v2", "prod"),
            "'a@prod' has moved since commit 2: by commit 3, a@prod v1 → v2",
        ),
        (
            lambda s: s.alias("a@v1", "prod"),
            lambda s: s.unalias("a", "prod"),
            "'a@prod' has moved since commit 2: by commit 3, a@prod removed",
        ),
    ],
)
def test_a_name_that_has_moved_since_is_not_overruled(
    store: Store, change: Callable[[Store], object], later: Callable[[Store], object], message: str
) -> None:
    store.save("a", 1)
    store.save("a", 2)
    change(store)
    later(store)
    before = picture(store)
    with pytest.raises(RefConflictError) as caught:
        store.undo(2)

    assert str(caught.value) == message
    assert "undo commit 3 first" in caught.value.hint
    assert (picture(store), last(store)) == (before, 3)


def test_an_alias_that_was_set_later_keeps_its_version(store: Store) -> None:
    store.save("a", 1)
    store.alias("a", "prod")
    with pytest.raises(ConflictError, match="alias 'prod' means v1 of 'a'"):
        store.undo(0)


def test_an_alias_is_not_turned_back_to_a_version_that_is_gone(store: Store) -> None:
    store.save("a", 1, aliases=["prod"])
    store.save("a", 2)
    store.alias("a", "prod")
    store.remove("a@v1")
    with pytest.raises(RefConflictError, match="v1 of 'a', which alias 'prod' meant, was removed since"):
        store.undo(2)
    store.undo(3)
    store.undo(2)

    assert store.aliases("a") == {"prod": 1}


def test_commits_that_changed_no_names_cannot_be_undone(store: Store) -> None:
    store.collection("c")["k"] = 1
    store.flush()
    with pytest.raises(InvalidInputError, match="commit 0 made the collection 'c'"):
        store.undo(0)
    with pytest.raises(InvalidInputError, match="commit 1 changed no name"):
        store.undo(1)
    with pytest.raises(keepstone.NotFoundError, match="there is no commit 2"):
        store.undo(2)
    for wrong in (-1, "1", True, None):
        with pytest.raises(InvalidInputError, match="not the number of a commit"):
            store.undo(wrong)  # type: ignore[arg-type]


def test_a_removal_that_was_undone_already_cannot_be_undone_again(store: Store) -> None:
    store.save("b", 0)
    store.save("b", 1)
    store.remove("b@v1")
    number = last(store)
    store.undo(number)

    with pytest.raises(InvalidInputError, match=f"undoing commit {number} changes nothing"):
        store.undo(number)
    assert last(store) == number + 1


def test_undo_after_packs_were_merged(store: Store) -> None:
    store.save("a", 1)
    store.save("a", 2)
    store.remove("a@v1")
    number = last(store)
    for n in range(40):
        store.save("b", n)
    store.undo(number)

    assert [store.load(f"a@v{n}") for n in (1, 2)] == [1, 2]
    assert store.fsck(read_data=True).ok


_STEPS = st.one_of(
    st.tuples(st.just("save"), st.sampled_from("ab"), st.integers(0, 3)),
    st.tuples(st.just("alias"), st.sampled_from("ab"), st.sampled_from(["x", "y"])),
    st.tuples(st.just("remove"), st.sampled_from(["a", "b", "a@v1", "a@v2", "b@v1"]), st.none()),
    st.tuples(st.just("undo"), st.integers(0, 3), st.none()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(_STEPS, max_size=12))
def test_undoing_the_newest_commits_one_by_one_goes_back_through_all_pictures(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]]
) -> None:
    place: Path = tmp_path_factory.mktemp("undo") / "store"
    with keepstone.open(place) as store:
        pictures: list[dict[str, Any]] = [{}]
        for verb, name, value in steps:
            try:
                if verb == "save":
                    store.save(name, value)
                elif verb == "alias":
                    store.alias(name, value)
                elif verb == "remove":
                    store.remove(name)
                else:
                    store.undo(len(pictures) - 2 - name)
            except keepstone.KeepstoneError:
                pass
            if store.repository.session.log.state.length == len(pictures):
                pictures.append(picture(store))
        for number in range(len(pictures) - 2, -1, -1):
            store.undo(number)
            assert picture(store) == pictures[number]
        assert store.fsck(read_data=True).ok
