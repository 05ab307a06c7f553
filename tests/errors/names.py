"""Names, keys, aliases and selectors that are wrong, and all that is asked of names: moments, transactions, undo."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Final

from tests.errors.store_to_harm import Place

import keepstone
from keepstone.history.commit import Draft, RefChange
from keepstone.history.validate import horizon_value


def in_transaction(place: Place, work: Callable[[keepstone.Transaction], object]) -> object:
    with place.open().transaction() as change:
        return work(change)


def disturbed(name: str) -> Callable[[Place], object]:
    def provoke(place: Place) -> object:
        def work(change: keepstone.Transaction) -> None:
            change.exists(name)
            change.save("result", 1)
            place.save_as(name)

        return in_transaction(place, work)

    return provoke


def rested_upon(place: Place) -> object:
    store = place.open()
    store.alias("a", "more")
    return store.undo(1)


def sealing_commit(place: Place) -> object:
    store = place.open()
    store.flush()
    return store.undo(4)


def ended_transaction(place: Place) -> object:
    with place.open().transaction() as change:
        pass
    return change.load("a")


def early_number(place: Place) -> object:
    return in_transaction(place, lambda change: change.save("b", 1).number)


def removed_version(place: Place) -> object:
    place.open().remove("a@v1")
    return place.open().load("a@v1")


def quoted(place: Place) -> object:
    text = "a/../b@c\0:\ud800" + "%"
    name = keepstone.quote(text)
    assert keepstone.unquote(name) == text
    return place.open().save(name, 1)


def cases_apart(place: Place) -> object:
    place.open().save("Twin", 1)
    place.open().save("twin", 2)
    assert (place.open().load("Twin"), place.open().load("twin")) == (1, 2)


def odd_key(place: Place) -> object:
    key = "a/../b@c\0\n"
    place.collection[key] = 1
    assert place.collection[key] == 1


def before_horizon(place: Place) -> object:
    store = place.open()
    session = store.repository.session
    # Nothing that is there now is below it.
    rows = [session.peek("c", key) for key in store.collection("c")]
    value = horizon_value(min(row.stamp for row in rows if row is not None))
    session.log.append(lambda state: Draft(refs=(RefChange(":horizon/c", None, value),)))
    made = min(entry.number for entry in store.history("c"))
    return store.at(made).collection("c")


NAMES: Final[dict[str, Callable[[Place], object]]] = {
    "name `..`": lambda p: p.open().save("..", 1),
    "name `a/../b`": lambda p: p.open().save("a/../b", 1),
    "name `a//b`": lambda p: p.open().save("a//b", 1),
    "empty name": lambda p: p.open().save("", 1),
    "name with a NUL": lambda p: p.open().save("a\0b", 1),
    "name with a bidi override": lambda p: p.open().save("a\u202eb", 1),
    "name with a lone surrogate": lambda p: p.open().save("a\ud800", 1),
    "name of 4,000 characters": lambda p: p.open().save("x" * 4000, 1),
    "name `a@b`": lambda p: p.open().save("a@b", 1),
    "name `:x`": lambda p: p.open().save(":x", 1),
    "name in decomposed Unicode": lambda p: p.open().save("e\u0301", 1),
    "a number as a name": lambda p: p.open().save(3, 1),  # type: ignore[arg-type]
    "a name that is an emoji": lambda p: p.open().save("🎉", 1),
    "names that differ in case only": cases_apart,
    "any text, through `keepstone.quote`": quoted,
    "a number as a key": lambda p: p.collection[3],  # type: ignore[index]
    "key of 5,000 characters": lambda p: p.collection.update({"x" * 5000: 1}),
    "key with a lone surrogate": lambda p: p.collection.update({"\ud800": 1}),
    "key with `/`, `@`, NUL and newline": odd_key,
    "key that is not there": lambda p: p.collection["z"],
    "alias `Prod`": lambda p: p.open().alias("a", "Prod"),
    "alias `latest`": lambda p: p.open().alias("a", "latest"),
    "alias `v3`": lambda p: p.open().alias("a", "v3"),
    "selector `a@`": lambda p: p.open().load("a@"),
    "selector `a@v0`": lambda p: p.open().load("a@v0"),
    "selector `a@2026-13-01`": lambda p: p.open().load("a@2026-13-01"),
    "a date before the first save": lambda p: p.open().load("a@2001-01-01"),
    "a name that does not exist": lambda p: p.open().load("b"),
    "a version that does not exist": lambda p: p.open().load("a@v9"),
    "a version that was removed": removed_version,
    "an alias that does not exist": lambda p: p.open().load("a@x"),
    "a collection where an artifact is meant": lambda p: p.open().save("c", 1),
    "an artifact where a collection is meant": lambda p: p.open().collection("a"),
    "an artifact's version where a collection is meant": lambda p: p.open().collection("a@v1"),
    "a snapshot that was never taken": lambda p: p.open().collection("c@v1"),
    "a snapshot of a collection that does not exist": lambda p: p.open().collection("d").snapshot(),
    "setting an item of a snapshot": lambda p: p.collection.snapshot().items().update({"k": 2}),
    "the files of a snapshot": lambda p: p.collection.snapshot().open(),
    "the items of one value": lambda p: p.open().resolve("a").items(),
    '`at("yesterday")`': lambda p: p.open().at("yesterday"),
    "`at` of a time without a zone": lambda p: p.open().at(datetime.datetime(2026, 11, 20)),
    "`at(2.5)`": lambda p: p.open().at(2.5),  # type: ignore[arg-type]
    "`at` of a commit that is not there yet": lambda p: p.open().at(99),
    "a name in a past that did not have it": lambda p: p.open().at(1).load("large"),
    "a collection in a past that did not have it": lambda p: p.open().at("2001-01-01").collection("c"),
    "saving to the past": lambda p: p.open().at(1).save("a", 3),
    "what a collection held before its horizon": before_horizon,
    "`expected=None` for a name that exists": lambda p: p.open().save("a", 3, expected=None),
    "`expected=` of an alias that moved": lambda p: p.open().alias("a@v1", "prod", expected="a@v1"),
    "removing a version that an alias means": lambda p: p.open().remove("a@v2"),
    "a name that a transaction read has moved": disturbed("a"),
    "a name that a transaction missed was saved": disturbed("b"),
    "undoing a commit whose name has moved since": lambda p: p.open().undo(0),
    "undoing a commit that an alias rests on": rested_upon,
    "undoing a commit that changed no names": sealing_commit,
    "undoing the making of a collection": lambda p: p.open().undo(3),
    "undoing a commit that does not exist": lambda p: p.open().undo(99),
    "a transaction outside of its block": ended_transaction,
    "the number of a version before its transaction ends": early_number,
    "removing a collection in a transaction": lambda p: in_transaction(p, lambda change: change.remove("c")),
}
