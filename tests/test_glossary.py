"""One word for one thing: the glossary's words are used, and not their synonyms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from keepstone.cli.commands import COMMANDS

ROOT: Final = Path(__file__).resolve().parents[1]
GLOSSARY: Final = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
SYNONYMS: Final = {
    "artefact": "artifact",
    "checksum": "digest",
    "hash": "digest",
    "label": "alias",
    "repo": "store",
    "repository": "store",
    "revision": "version",
    "tag": "alias",
    "transaction log": "log",
    "wal": "journal",
}
"""Words that people elsewhere use for ours; our command line does not."""


def words() -> list[str]:
    return re.findall(r"^\| \*\*([a-z ]+)\*\* \|", GLOSSARY, re.MULTILINE)


def test_the_glossary_is_sorted_and_says_each_word_once() -> None:
    assert words() == sorted(set(words()))
    assert set(SYNONYMS.values()) <= set(words())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_commands_uses_no_synonym(name: str) -> None:
    import argparse

    module = COMMANDS[name].load()
    parser = argparse.ArgumentParser()
    module.configure(parser)
    text = " ".join([COMMANDS[name].summary, module.HELP, parser.format_help()]).lower()

    assert not [synonym for synonym in SYNONYMS if re.search(rf"\b{synonym}(es|s)?\b", text)]


@pytest.mark.parametrize(
    "word", ["artifact", "collection", "version", "alias", "digest", "store", "selector"]
)
def test_words_of_the_command_line_are_in_the_glossary(word: str) -> None:
    assert word in words()
    assert re.search(rf"\b{word}", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").lower())
