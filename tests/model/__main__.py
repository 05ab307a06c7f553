"""Search all models and write what was found into docs/model.md: `python -m tests.model [--long]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tests.model.rules import MODELS, REDUNDANT, TITLES, all_left_out, name_of, number_of, words
from tests.model.search import LeftOut, Model, run, search

PAGE: Final = Path(__file__).parents[2] / "docs" / "model.md"


def says(model: Model, left_out: LeftOut) -> str:
    """Return the words of the switches that are off."""
    return " ".join(words(name_of(model))[switch] for switch in left_out.switches)


def rule_rows(*, measured: bool) -> list[str]:
    """Return the rows of the table of rules; without searching, the last two cells are empty."""
    rows: list[str] = []
    for model, left_out in all_left_out():
        steps = worlds = loss = ""
        if measured:
            verdict = run(model, left_out.actors, without=left_out.switches)
            steps, worlds, loss = str(len(verdict.steps)), f"{verdict.worlds:,}", verdict.loss
            assert left_out.loss in loss, (left_out, loss)
        where = f"{name_of(model)}: {left_out.actors}"
        rows.append(
            f"| {left_out.rule} | {says(model, left_out)} | {where} | {left_out.loss} | {steps} | {worlds} |"
        )
    return rows


def model_rows(*, measured: bool) -> list[str]:
    """Return the rows of the table of models: what each is about, and how many worlds all rules leave."""
    rows: list[str] = []
    for model in MODELS:
        about = str(model.__doc__).splitlines()[0].removeprefix("Model of ").rstrip(".")
        worlds = sum(run(model, actors).worlds for actors in model.ACTORS) if measured else 0
        rows.append(f"| {name_of(model)} | {about} | {', '.join(model.ACTORS)} | {worlds:,} |")
    return rows


def redundant_rows() -> list[str]:
    """Return the rows of the table of rules that others make up for."""
    return [
        f"| {' and '.join(words(item.model)[switch] for switch in item.switches)} "
        f"| {item.model}: {item.actors} | {item.why} |"
        for item in REDUNDANT
    ]


def titles() -> list[str]:
    """Return the list of what the numbers stand for."""
    numbers = sorted({number_of(left_out.rule)[0] for _, left_out in all_left_out()})
    return [f"{number}. {TITLES[number]}." for number in numbers]


def main() -> None:
    """Write the tables between their marks; with `--long`, also search the larger actor sets and print them."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, lines in (
        ("titles", titles()),
        ("models", model_rows(measured=True)),
        ("rules", rule_rows(measured=True)),
        ("redundant", redundant_rows()),
    ):
        block = f"<!-- {mark} -->\n" + "\n".join(lines) + f"\n<!-- end of {mark} -->"
        head = re.search(rf"<!-- {mark} -->\n((?:\|.*\n\|[-|: ]+\n)?)", text)
        assert head, mark
        block = block.replace(f"<!-- {mark} -->\n", head[0])
        text = re.sub(
            rf"<!-- {mark} -->.*<!-- end of {mark} -->", lambda _, b=block: b, text, flags=re.DOTALL
        )
    PAGE.write_text(text, encoding="utf-8")
    if "--long" in sys.argv:
        for model in MODELS:
            rules = model.Rules()
            for actors, first in getattr(model, "ACTORS_LONG", {}).items():
                verdict = search(first, lambda world, m=model, r=rules: m.steps(world, r), model.loss)
                sys.stdout.write(f"{name_of(model)}: {actors}: {verdict.worlds:,} worlds {verdict.loss}\n")


if __name__ == "__main__":
    main()
