"""docs/cli.md says what the parsers say."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.cli.commands import COMMANDS
from keepstone.cli.exit_codes import MEANINGS
from keepstone.cli.parser import parser_for
from keepstone.cli.reference import render

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_as_the_parsers_are() -> None:
    assert PAGE.read_text() == render(), "write it anew: python -m keepstone.cli.reference > docs/cli.md"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_is_documented_under_its_command(command: str) -> None:
    section = PAGE.read_text().partition(f"\n### {command}\n")[2].partition("\n### ")[0]
    options = set(parser_for(COMMANDS[command]).option_strings()) - {
        "-h",
        "--help",
        "--store",
        "--offline",
        "--debug",
    }

    assert all(f"`{option}`" in section or f"`{option} " in section for option in options)


def test_every_exit_code_is_documented() -> None:
    assert all(f"| {code} | {meaning} |" in PAGE.read_text() for code, meaning in MEANINGS.items())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_argument_has_help(command: str) -> None:
    assert all(action.help for action in parser_for(COMMANDS[command]).actions())
