"""README and docs run: every python, console and bash block, in order, in a folder of its own for each page.

- ```` ```python ```` blocks of a page share their names; a line that ends in `# → value` must have that value.
- ```` ```python answer.py ```` (any language, then a file name) writes that file instead.
- ```` ```console ```` blocks hold commands behind `$ ` and what they print; `...` stands for anything. A command whose
  output begins with `keepstone: ` must fail, every other one must succeed.
- ```` ```bash ```` blocks must succeed.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import stat
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.servers.bucket import Bucket, client, remove

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE: Final = {"docs/cli.md": "made from the commands' own examples, which tests/cli runs"}
IN_A_BUCKET: Final = {"docs/how-to-bucket.md": "our-bucket"}
"""Pages that speak of a bucket, and its name: they run on an S3 server."""
SKIPPED: Final = {
    "pip install -q .": "installs from the network; .ci/run installs the same way",
    "pip install -q -e": "installs from the network; .ci/run runs this very line",
}
"""Blocks that hold one of these texts are not run; three at most."""
COMMAND_SECONDS_MAX: Final = 60
_PROGRESS: Final = re.compile(
    r"^[\d,.]+(?: [KMGT]?i?B)?(?: of [\d,.]+)? \w+  [\d,.]+(?: [KMGT]?i?B)?/s\b.*\n", re.MULTILINE
)
"""Of items and of bytes: on a slow machine what takes long says how far it is."""
THOROUGHLY: Final = {"docs/how-to-bucket.md"}
"""Pages whose commands take longer than those of all others together: run with --thorough."""
RUN_PAGES: Final = [
    pytest.param(page, marks=[pytest.mark.thorough] if name in THOROUGHLY else [], id=name)
    for page in PAGES
    if (name := page.relative_to(ROOT).as_posix()) not in RUN_ELSEWHERE
]


class Block(NamedTuple):
    """One fenced block."""

    line: int
    language: str
    title: str
    """A file to write, or empty."""
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w+)(?: ([^\n`]+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(text.count("\n", 0, match.start()) + 1, match[1], match[2] or "", match[3])


@pytest.fixture
def server(page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bucket that a page speaks of, if it does; what a machine keeps of it is in folders of the test."""
    name = IN_A_BUCKET.get(page.relative_to(ROOT).as_posix())
    if name is None:
        yield
        return
    access = request.getfixturevalue("bucket").access
    folder = request.getfixturevalue("tmp_path")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    client(access).create_bucket(Bucket=name)
    yield
    remove(Bucket("moto", access, name))


def is_skipped(block: Block) -> bool:
    return block.language in ("bash", "console") and any(text in block.text for text in SKIPPED)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment whose `keepstone` and `python` are the ones under test; the current folder is a new one."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, arguments in (("keepstone", "-m keepstone"), ("python", "")):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEEPSTONE")}
    return environment | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Run a block; compare what its marked lines give."""
    lines = block.text.splitlines()
    for node in ast.parse(block.text).body:
        expected = re.search(r"# → (.*)$", lines[(node.end_lineno or 0) - 1])
        code = ast.Module([node], [])
        if isinstance(node, ast.Expr) and expected:
            value = eval(compile(ast.Expression(node.value), f"line {block.line}", "eval"), names)
            assert matches(expected[1].strip(), repr(value)), f"{ast.unparse(node)} gives {value!r}"
        else:
            assert not expected, f"not an expression: {ast.unparse(node)}"
            exec(compile(code, f"line {block.line}", "exec"), names)


def matches(shown: str, real: str) -> bool:
    """Whether `real` is what `shown` says, `...` standing for anything."""
    pattern = ".*".join(re.escape(part) for part in tidy(shown).split("..."))
    return re.fullmatch(pattern, tidy(real), re.DOTALL) is not None


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield (command, output) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, output = "", part
        while True:
            line, _, output = output.partition("\n")
            command += line + "\n"
            if not line.endswith("\\"):
                break
        yield command, output


def run_command(command: str, environment: dict[str, str]) -> tuple[int, str]:
    if exported := re.fullmatch(r"export (\w+)=(\S+)\n", command):
        environment[exported[1]] = exported[2]
        return 0, ""
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    # A slow machine gets lines of progress, which are no part of what a command has to say.
    return done.returncode, _PROGRESS.sub("", done.stdout.decode())


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """The names that the python blocks of a page share; a module's, since dataclasses look theirs up."""
    module = sys.modules["docs_page"] = types.ModuleType("docs_page")
    yield vars(module)
    del sys.modules["docs_page"]


@pytest.mark.parametrize("page", RUN_PAGES)
def test_every_block_of_the_page_runs_and_shows_what_is_so(
    page: Path, server: None, shell: dict[str, str], names: dict[str, Any]
) -> None:
    for block in blocks(page):
        if is_skipped(block):
            continue
        if block.title and block.language not in ("console", "bash"):
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            run_python(block, names)
        elif block.language == "console":
            for command, output in commands(block.text):
                code, real = run_command(command, shell)
                assert matches(output, real), f"{page.name}:{block.line}: {command}{real}"
                assert (code != 0) == output.startswith("keepstone: "), (
                    f"{page.name}:{block.line}: {command}{code}"
                )
        elif block.language == "bash":
            code, real = run_command(block.text, shell)
            assert code == 0, f"{page.name}:{block.line}: {real}"


def test_few_blocks_are_skipped_and_each_reason_is_needed() -> None:
    skipped = [block for page in PAGES for block in blocks(page) if is_skipped(block)]

    assert len(skipped) <= 3
    assert all(any(text in block.text for block in skipped) for text in SKIPPED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = [
        target
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8"))
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or (name and f"def {name}(" not in (ROOT / path).read_text("utf-8"))
    ]

    assert not missing


def test_coverage_counts_what_it_lists_and_no_test_serves_many_promises() -> None:
    text = (ROOT / "docs" / "coverage.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \|(.*)$", text, re.MULTILINE)
    numbers = [int(number) for number, _ in rows]
    served = Counter(test for _, row in rows for test in re.findall(r"tests/[\w/]+\.py(?:::\w+)?", row))

    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 1
    assert numbers[-1] <= 218
    assert f"\n{len(numbers)} of 218 are done." in text
    assert all("tests/" in row for _, row in rows)
    assert max(served.values()) <= 4


def test_invariants_that_a_check_reports_are_explained() -> None:
    used = {
        number
        for path in (ROOT / "src" / "keepstone" / "operations").glob("*.py")
        for number in re.findall(r'"(I\d+)"', path.read_text(encoding="utf-8"))
    }
    explained = re.findall(
        r"^\| (I\d+) \|", (ROOT / "docs" / "invariants.md").read_text("utf-8"), re.MULTILINE
    )

    assert used <= set(explained)
    assert explained == [f"I{number}" for number in range(1, 16)]


@pytest.mark.long
def test_the_picture_of_the_demo_is_what_it_prints(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "images" / "terminal_svg.py"))
    script["main"](tmp_path / "demo.svg")
    shown, real = (
        [
            line.split()[:3]
            for line in re.findall(r"<text[^>]*>(.*?)</text>", re.sub(r"\d+", "0", path.read_text("utf-8")))
        ]
        for path in (ROOT / "docs" / "images" / "demo.svg", tmp_path / "demo.svg")
    )

    assert shown == real, "run docs/images/terminal_svg.py"
