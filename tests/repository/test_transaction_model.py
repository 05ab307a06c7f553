"""Transactions of any steps, beside a second session, against a dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import keepstone
from keepstone import RefConflictError, Store

_NAMES = st.sampled_from("abc")
_STEPS = st.one_of(
    st.tuples(st.just("save"), _NAMES, st.integers(0, 3)),
    st.tuples(st.just("add"), _NAMES, _NAMES),
    st.tuples(st.just("remove"), _NAMES, st.none()),
    st.tuples(st.just("other"), _NAMES, st.integers(4, 6)),
)


_SAVED_AS_IT_WAS = [
    ([("save", "a", 0)], False),
    ([("save", "a", 0), ("add", "a", "a"), ("other", "a", 4)], False),
]
"""What is saved, and was the newest already, is read as one's own."""


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@example(_SAVED_AS_IT_WAS)
@given(blocks=st.lists(st.tuples(st.lists(_STEPS, max_size=5), st.booleans()), max_size=4))
def test_any_transactions_give_what_a_dict_gives(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[list[tuple[str, Any, Any]], bool]]
) -> None:
    """`other` saves through a second session while the block lasts: a conflict if and only if its name was read."""
    place = tmp_path_factory.mktemp("model")
    with keepstone.open(place / "s") as store:
        (place / "door").symlink_to(place / "s")
        with keepstone.open(place / "door") as second:
            model: dict[str, int] = {}
            for steps, fails in blocks:
                model = run_block(store, second, model, steps, fails)
                assert {name: store.load(name) for name in store.names()} == model
                assert {name: second.load(name) for name in second.names()} == model
        assert store.fsck().ok


def run_block(
    store: Store, second: Store, model: dict[str, int], steps: list[tuple[str, Any, Any]], fails: bool
) -> dict[str, int]:
    """Run one transaction; return what a dict would hold after it."""
    theirs = dict(model)
    replayed: list[Callable[[dict[str, int]], object]] = []
    mine, own = dict(model), set[str]()
    read: set[str] = set()
    moved: set[str] = set()
    """Names of which `other` made a version; that the value is what it was before changes nothing."""
    expected: type[Exception] = ZeroDivisionError
    try:
        with store.transaction() as change:
            for verb, name, value in steps:
                if verb == "save":
                    change.save(name, value)
                    mine[name] = value
                    own.add(name)
                    replayed.append(lambda d, n=name, v=value: d.update({n: v}))
                elif verb == "add":
                    for asked in (name, value):
                        assert change.exists(asked) == (asked in mine)
                        if asked not in own:
                            read.add(asked)
                    total = sum(change.load(asked) if asked in mine else 0 for asked in (name, value))
                    assert total == mine.get(name, 0) + mine.get(value, 0)
                    change.save(name, total)
                    mine[name] = total
                    own.add(name)
                    replayed.append(lambda d, n=name, v=total: d.update({n: v}))
                elif verb == "remove" and name in mine:
                    change.remove(name)
                    del mine[name]
                    own.add(name)
                    replayed.append(lambda d, n=name: d.pop(n))
                elif verb == "other":
                    second.save(name, value)
                    if theirs.get(name) != value:
                        moved.add(name)
                    theirs[name] = value
            if fails:
                raise expected
    except ZeroDivisionError:
        return theirs
    except RefConflictError:
        conflict = True
    else:
        conflict = False
    assert conflict == (bool(replayed) and not read.isdisjoint(moved))
    if conflict:
        return theirs
    for step in replayed:
        step(theirs)
    return theirs
