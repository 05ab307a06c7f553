"""Planting one defect in a process before it imports Keepstone; defect_list.py has all of them.

A defect is a piece of source text and what takes its place. It is planted when the module is imported, so whoever uses
the module gets it, and the processes that a test starts get it as well (`defect_site`). Nothing of it is in `src`.
`python -m tests.faults.defects` writes the table of docs/defects.md; with a NAME and pytest arguments it runs tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from tests.faults.defect import ROOT, Defect
from tests.faults.defect_list import DEFECTS

VARIABLE: Final = "PLANTED_DEFECT"
PAGE: Final = ROOT / "docs" / "defects.md"
SITE: Final = Path(__file__).resolve().parent / "defect_site"


def edited(defect: Defect, source: str) -> str:
    """Return the source of the defect's module with the defect in it.

    Raises:
        ImportError: the code has changed; the defect has to be written anew.
    """
    for old, new in defect.edits:
        if source.count(old) != 1:
            raise ImportError(
                f"defect {defect.name}: its text stands {source.count(old)} times in {defect.module}"
            )
        source = source.replace(old, new)
    return source


class _Loader(SourceFileLoader):
    def __init__(self, defect: Defect, path: str) -> None:
        super().__init__(defect.module, path)
        self._defect = defect

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        # Neither read from nor written to the cache of compiled modules.
        return compile(edited(self._defect, source), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, defect: Defect) -> None:
        self._defect = defect

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._defect.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(self._defect, spec.origin)
        return spec


def plant(name: str) -> None:
    """Let this process import the module with the defect; it must not have imported it before."""
    sys.meta_path.insert(0, _Finder(DEFECTS[name]))


def environment(name: str) -> dict[str, str]:
    """Return the variables with which a Python, and every one that it starts, has the defect."""
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {VARIABLE: name, "PYTHONPATH": os.pathsep.join(paths)}


def page_rows() -> list[str]:
    """Return the rows of the table in docs/defects.md."""
    return [
        f"| {defect.name} | {defect.what} | `{defect.path.relative_to(ROOT / 'src' / 'keepstone')}` "
        f"| {_where_written(defect.test)} |"
        for defect in DEFECTS.values()
    ]


def _where_written(test: str) -> str:
    # Tests that every storage has to pass stand in one place and run in several.
    return test.replace("tests/storage/test_local.py::TestLocalStorage", "tests/storage/contract.py")


def main(arguments: list[str]) -> int:
    """Write the table of docs/defects.md, or run tests with one defect."""
    if not arguments:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition("|---|---|---|---|\n")
        after = rest[rest.index("\n\n") :]
        PAGE.write_text(before + "|---|---|---|---|\n" + "\n".join(page_rows()) + after, encoding="utf-8")
        return 0
    name, *rest = arguments
    command = [sys.executable, "-m", "pytest", *(rest or ["-n", "0", DEFECTS[name].test])]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment(name), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
