"""Only the command line prints, ends the process, or reads the environment; and it starts quickly."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import keepstone

SOURCE = Path(keepstone.__file__).parent
OUTSIDE = sorted(p for p in SOURCE.rglob("*.py") if p.parent.name != "cli" and p.name != "__main__.py")
CALLS = {"print", "input", "exit", "quit"}
# Standard error is left to the progress that a caller of the library asks for.
ATTRIBUTES = {"sys.exit", "sys.stdout", "sys.argv", "os.environ", "os.getenv"}
SETTINGS = SOURCE / "storage" / "places.py"
"""The one other file that reads the environment."""


def crossings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield f"line {node.lineno}: {node.func.id}()"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ATTRIBUTES:
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_below_the_command_line_prints_or_reads_the_environment(path: Path) -> None:
    found = list(crossings(ast.parse(path.read_text())))
    assert [crossing for crossing in found if path != SETTINGS or "os.environ" not in crossing] == []


def test_what_is_looked_for_is_found() -> None:
    tree = ast.parse("import os, sys\nprint(1)\nsys.exit(os.environ['A'])\n")

    assert sorted(crossings(tree)) == ["line 2: print()", "line 3: os.environ", "line 3: sys.exit"]
