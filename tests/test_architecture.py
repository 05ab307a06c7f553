"""The layers, the limits of size, and docs/architecture.md, held by looking at the source itself."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "keepstone"
MODULES: Final = sorted(SOURCE.rglob("*.py"))

RANKS: Final = {
    "foundation": 0,
    "storage": 1,
    "blobs": 2,
    "history": 2,
    "objects": 2,
    "repository": 3,
    "operations": 4,
    "api": 5,
    "workflows": 6,
    "interop": 7,
    "cli": 8,
    "__main__": 9,
}
"""Layers of one rank are strangers: they never import each other."""

FACADE: Final = "__init__"
"""keepstone/__init__.py names public things of every layer below `cli` and imports them when they are used."""

KEYWORDS_ALLOWED: Final = {
    ("storage/calls.py", "uninterrupted"): "hands on whatever the wrapped system call takes",
    (
        "storage/event_loop.py",
        "submit",
    ): "hands on whatever the function takes, as the executor that it extends",
    (
        "repository/collection.py",
        "update",
    ): "dict.update takes its items as keywords, and a mapping must do as it does",
    **{
        ("interop/filesystem.py", name): "its callers hand on options of other filesystems of fsspec"
        for name in ("info", "ls", "exists", "cat_file", "open", "touch", "mkdir", "cp_file", "mv")
    },
}
"""Public functions that may take **kwargs, with the reason."""

ENVIRONMENT_READERS: Final = ("cli/", "storage/places.py")
"""Only these read the environment."""

CODE: Final = ("src", "tests", "benchmarks", "docs")
"""Where all Python of the project lies."""

EXITS: Final = ("print", "exit", "quit", "sys.exit", "os._exit")
READS: Final = ("os.environ", "os.environb", "os.getenv", "os.getenvb")

FILE_LINES_MAX: Final = 500
FUNCTION_LINES_MAX: Final = 60


def named(path: Path) -> str:
    """Return a module's path below the package, with slashes."""
    return path.relative_to(SOURCE).as_posix()


def layer_of(module: str) -> str:
    """Return the layer of `keepstone.a.b`; of the package itself, the facade."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else FACADE


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


class Function(NamedTuple):
    """One function of a module."""

    name: str
    lines: int
    takes_any_keyword: bool


class Facts(NamedTuple):
    """What the rules are about, of one module."""

    docstring: str
    imports: list[tuple[int, str, int]]
    """(line, module, relative level) of every import, at whatever depth it stands."""
    functions: list[Function]
    exits: list[str]
    """Where it prints or ends the process."""
    reads: list[str]
    """Where it reads the environment."""


@functools.cache
def facts_of(path: Path) -> Facts:
    """Return what stands in a module; each is read once, and no tree is kept."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    facts = Facts(ast.get_docstring(tree) or "", [], [], [], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            facts.imports.extend(imports_in(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            facts.functions.append(Function(node.name, lines_of(node), node.args.kwarg is not None))
        elif isinstance(node, ast.Call) and (name := dotted(node.func)) in EXITS:
            facts.exits.append(f"{named(path)}:{node.lineno}: {name}")
        elif isinstance(node, ast.Attribute) and (name := dotted(node)) in READS:
            facts.reads.append(f"{named(path)}:{node.lineno}: {name}")
    return facts


def dotted(node: ast.expr) -> str:
    """Return `name` or `module.name`; empty for anything else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imports_in(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str, int]]:
    """Yield (line, module, relative level) of what is imported."""
    if isinstance(node, ast.Import):
        for name in node.names:
            yield node.lineno, name.name, 0
        return
    yield node.lineno, node.module or "", node.level
    if node.module == "keepstone":
        for name in node.names:
            yield node.lineno, f"keepstone.{name.name}", node.level


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from `def` on; its docstring is explanation and does not count."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    explained = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - explained


def first_line(path: Path) -> str:
    """Return what a module says that it is."""
    return facts_of(path).docstring.partition("\n")[0]


LAYERS: Final = {
    layer: [path for path in MODULES if layer_of(module_of(path)) == layer] for layer in (*RANKS, FACADE)
}


def test_every_module_stands_in_a_known_layer() -> None:
    assert {layer_of(module_of(path)) for path in MODULES} - {FACADE} <= RANKS.keys()


EACH_LAYER = pytest.mark.parametrize("modules", LAYERS.values(), ids=LAYERS)


@EACH_LAYER
def test_imports_are_absolute_and_go_down(modules: list[Path]) -> None:
    wrong: list[str] = []
    for path in modules:
        own = layer_of(module_of(path))
        if own == FACADE:
            own = "workflows"
        for line, module, level in facts_of(path).imports:
            if level:
                wrong.append(f"{named(path)}:{line}: relative import")
            if module.split(".")[0] != "keepstone":
                continue
            target = layer_of(module)
            # `import keepstone` is what a user writes: only what stands above the front door may.
            rank = RANKS["api"] if target == FACADE or target not in RANKS else RANKS[target]
            if target != own and rank >= RANKS[own]:
                wrong.append(f"{named(path)}:{line}: {own} imports {module}")
    assert not wrong


@EACH_LAYER
def test_functions_stay_short(modules: list[Path]) -> None:
    long = [
        f"{named(path)}: {function.name} has {function.lines} lines"
        for path in modules
        for function in facts_of(path).functions
        if function.lines > FUNCTION_LINES_MAX
    ]
    assert not long


@pytest.mark.parametrize("folder", CODE)
def test_files_stay_short(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}

    assert lines
    assert {path: count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


@EACH_LAYER
def test_only_the_command_line_prints_or_exits(modules: list[Path]) -> None:
    assert not [
        where
        for path in modules
        if not named(path).startswith("cli/") and named(path) != "__main__.py"
        for where in facts_of(path).exits
    ]


@EACH_LAYER
def test_only_the_command_line_reads_the_environment(modules: list[Path]) -> None:
    assert not [
        where
        for path in modules
        if not named(path).startswith(ENVIRONMENT_READERS)
        for where in facts_of(path).reads
    ]


@EACH_LAYER
def test_public_functions_name_their_arguments(modules: list[Path]) -> None:
    unnamed = [
        (named(path), function.name)
        for path in modules
        for function in facts_of(path).functions
        if function.takes_any_keyword and not function.name.startswith("_")
    ]
    assert not set(unnamed) - KEYWORDS_ALLOWED.keys()


@EACH_LAYER
def test_modules_say_what_they_are_and_which_layer(modules: list[Path]) -> None:
    for path in modules:
        if not path.stat().st_size:
            continue
        text = facts_of(path).docstring
        layer = layer_of(module_of(path))
        assert text.splitlines(), named(path)
        if layer != FACADE and path.name != "__init__.py":
            assert f"Layer: {'cli' if layer == '__main__' else layer}." in text, named(path)


def test_architecture_page_lists_every_module_by_its_own_first_line() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_/0-9]+\.py)` \| (.*) \|$", page, re.MULTILINE)

    assert sorted(listed) == sorted(
        (named(path), first_line(path)) for path in MODULES if path.stat().st_size
    )


def update_page() -> None:
    """Write the tables of modules anew: `python tests/test_architecture.py`."""
    path = ROOT / "docs" / "architecture.md"
    head, _, tables = path.read_text(encoding="utf-8").partition("-->\n\n")
    titles = re.findall(r"^### .*$", tables, re.MULTILINE)
    parts: list[str] = []
    for title in titles:
        folder = match[1] if (match := re.match(r"### `(\w+)`", title)) else "."
        rows = [
            f"| `{named(path)}` | {first_line(path)} |"
            for path in MODULES
            if path.parent == SOURCE / folder and path.stat().st_size
        ]
        parts.append("\n".join([title, "", "| module | what it is |", "|---|---|", *rows, ""]))
    path.write_text(head + "-->\n\n" + "\n".join(parts), encoding="utf-8")


def test_architecture_page_shows_the_layers_in_the_order_that_is_held() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.split("```text\ncli")[1].split("```")[0]
    shown = [re.split(r"\s{3,}", line)[0].split() for line in ("cli" + block).strip().splitlines()]

    ranks = sorted(set(RANKS.values()) - {RANKS["__main__"]}, reverse=True)
    assert shown == [sorted(layer for layer, rank in RANKS.items() if rank == number) for number in ranks]


if __name__ == "__main__":
    update_page()
