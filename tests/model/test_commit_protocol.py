"""The protocol as small models, searched exhaustively: every order of steps, stalls, crashes and lost answers.

The models are not the code: they state the rules of docs/model.md in the fewest words in which they can fail.
With all rules on, no reachable world loses anything; with any one left out, the search finds a shortest way to a
loss, which shows that the rule is needed and that the search can see.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.model.__main__ import model_rows, redundant_rows, rule_rows
from tests.model.rules import MODELS, REDUNDANT, Redundant, all_left_out, model_named, name_of, words
from tests.model.search import LeftOut, Model, run, search

PAGE = (Path(__file__).parents[2] / "docs" / "model.md").read_text(encoding="utf-8")
STEPS_MAX = 16
"""A loss that takes more would be one that nobody can follow."""
MANY_WORLDS = {"packs-twins", "entries-cleared", "2a-packs"}
"""Looked for with --thorough; they take longer than all others together."""


def searched(name: str, *values: object) -> object:
    """Return the parameters of one search."""
    return pytest.param(*values, id=name, marks=[pytest.mark.thorough] if name in MANY_WORLDS else [])


@pytest.mark.parametrize(
    ("model", "actors"),
    [searched(f"{name_of(m)}-{actors}", m, actors) for m in MODELS for actors in m.ACTORS],
)
def test_with_all_rules_nothing_is_ever_lost(model: Model, actors: str) -> None:
    verdict = run(model, actors)

    assert verdict.loss == "", verdict.steps
    assert verdict.worlds > 1


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("model", "actors"),
    [
        pytest.param(m, actors, id=f"{name_of(m)}-{actors}")
        for m in MODELS
        for actors in getattr(m, "ACTORS_LONG", {})
    ],
)
def test_with_more_actors_nothing_is_ever_lost_either(model: Model, actors: str) -> None:
    rules, first = model.Rules(), vars(model)["ACTORS_LONG"][actors]
    verdict = search(first, lambda world: model.steps(world, rules), model.loss)

    assert verdict.loss == "", verdict.steps
    assert verdict.worlds > 1000


@pytest.mark.parametrize(
    ("model", "left_out"),
    [searched(f"{left.rule}-{name_of(m)}", m, left) for m, left in all_left_out()],
)
def test_any_rule_left_out_loses_something(model: Model, left_out: LeftOut) -> None:
    verdict = run(model, left_out.actors, without=left_out.switches)

    assert verdict.loss, f"nothing is lost in {verdict.worlds} worlds"
    assert left_out.loss in verdict.loss
    assert 1 < len(verdict.steps) <= STEPS_MAX


@pytest.mark.parametrize(
    "redundant", REDUNDANT, ids=lambda item: f"{item.model}-{item.actors}-{'+'.join(item.switches)}"
)
def test_where_other_rules_make_up_for_one_nothing_is_lost(redundant: Redundant) -> None:
    verdict = run(model_named(redundant.model), redundant.actors, without=redundant.switches)

    assert verdict.loss == ""


def test_every_switch_of_every_model_has_words_and_is_left_out_once() -> None:
    for model in MODELS:
        tried = {switch for left_out in model.LEFT_OUT for switch in left_out.switches}
        assert tried == set(model.Rules._fields) == set(words(name_of(model)))
    rules = [left_out.rule for _, left_out in all_left_out()]
    assert len(set(rules)) == len(rules)


def test_the_page_lists_these_rules_and_losses() -> None:
    """Steps and worlds are the last two columns: what the program prints, and no promise."""
    found = [line.rsplit("|", 3)[0] for line in PAGE.splitlines() if re.match(r"\| \d+[a-z] \|", line)]

    assert found == [row.rsplit("|", 3)[0] for row in rule_rows(measured=False)]


def test_the_page_lists_the_models_and_what_is_redundant() -> None:
    for row in redundant_rows():
        assert row in PAGE
    for row in model_rows(measured=False):
        assert row.rsplit("|", 2)[0] in PAGE
