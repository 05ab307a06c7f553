"""All models, and the rules in the words of their switches."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, cast

from tests.model import (
    copies,
    derived,
    disk,
    entries,
    journals,
    packs,
    readers,
    recovery,
    repack,
    slots,
    syncing,
    times,
)
from tests.model.search import LeftOut, Model

MODELS: Final = tuple(
    cast(Model, module)
    for module in (
        packs,
        slots,
        recovery,
        repack,
        entries,
        times,
        disk,
        derived,
        journals,
        readers,
        copies,
        syncing,
    )
)

TITLES: Final = {
    1: "No slot is used twice",
    2: "No name is born again",
    3: "Commits say what they stand on",
    4: "The collector judges again at the slot that it wins",
    5: "What is deleted was dropped or condemned in the log first",
    6: "A lost answer is looked for under the attempt's own name",
    7: "Packs of journals stand alone",
    8: "Commits rely on packs only",
    9: "Entries merge in any order",
    10: "Forgetting has a horizon, and journals are adopted once",
    11: "Times inform",
    12: "A commit is durable before it is acknowledged or built upon",
    13: "A checkpoint counts only with its commit",
    14: "The catalog is never ahead of the log",
    15: "A journal is held by its owner from birth to death",
    16: "Readers look where things come from before where they go to",
    17: "A copy takes what was selected, and nothing else",
    18: "One sync serves all who wait",
}


class Redundant(NamedTuple):
    """A rule that is off, and nothing is lost among these actors: others make up for it there."""

    model: str
    switches: tuple[str, ...]
    actors: str
    why: str


REDUNDANT: Final = (
    Redundant(
        "packs",
        ("names_carry_base",),
        "stored",
        "2a alone keeps what is stored, but content that was dropped once could never be saved again",
    ),
    Redundant("packs", ("names_carry_base",), "twins", "the same"),
    Redundant("packs", ("dropped",), "stored", "names that carry their base are only born again by twins"),
    Redundant(
        "journals",
        ("inode",),
        "two adopters",
        "the log says that the journal was sealed (10c), as long as the floor has not passed",
    ),
    Redundant(
        "journals",
        ("sealed",),
        "stalled adopter",
        "nobody dies between commit and unlink, and the name is gone (15b)",
    ),
    Redundant(
        "entries",
        ("above_seen",),
        "one key",
        "9f would do; but it has to look at what is replaced, which the code does only where 9e left a stamp aside",
    ),
    Redundant("entries", ("horizon",), "one key", "tombstones (10a) are enough where nothing is cleared"),
    Redundant("recovery", ("packs_only",), "orphans", "the machine with the journals is not lost"),
)


def name_of(model: Model) -> str:
    """Return the last part of a module's name."""
    return model.__name__.rpartition(".")[2]


def model_named(name: str) -> Model:
    """Return the model of that name."""
    return next(model for model in MODELS if name_of(model) == name)


def all_left_out() -> list[tuple[Model, LeftOut]]:
    """Return every rule with its model, in the order of the rules' numbers."""
    found = [(model, left_out) for model in MODELS for left_out in model.LEFT_OUT]
    return sorted(found, key=lambda item: number_of(item[1].rule))


def number_of(rule: str) -> tuple[int, str]:
    """Return a rule's number as something that sorts."""
    return int(rule[:-1]), rule[-1]


@cache
def words(name: str) -> dict[str, str]:
    """Return what each switch of a model says: the text below it."""
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Rules")
    found: dict[str, str] = {}
    for field, text in zip(body[::2], body[1::2], strict=True):
        assert isinstance(field, ast.AnnAssign)
        assert isinstance(field.target, ast.Name)
        assert isinstance(text, ast.Expr)
        assert isinstance(text.value, ast.Constant)
        found[field.target.id] = str(text.value.value)
    return found
