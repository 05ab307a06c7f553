"""Starting: what a fresh process pays over bare Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.machine import has_package
from benchmarks.peers import DISKCACHE, JOBLIB, Keepstone
from benchmarks.settings import Settings
from benchmarks.timing import KEEPSTONE, Case, alternate
from benchmarks.workers import fresh

_TURNS: Final = 21
_BARE: Final = "bare Python"
_LOAD: Final = """
import sys, keepstone
with keepstone.open(sys.argv[1]) as store:
    store.load("answer")
"""
_LOAD_SQLITE: Final = """
import sys, json, sqlite3
connection = sqlite3.connect(sys.argv[1] + "/results.sqlite")
json.loads(connection.execute("SELECT value FROM results").fetchone()[0])
"""
_LOAD_DISKCACHE: Final = """
import sys, diskcache
diskcache.Cache(sys.argv[1])["answer"]
"""


def run(settings: Settings) -> list[Case]:
    """Return import, help, and open and load one; bare Python runs in the same turns."""
    folder = settings.new_folder("startup")
    fresh(_prepare, folder)
    python = sys.executable
    commands = {
        _BARE: [python, "-c", "pass"],
        "import keepstone": [python, "-c", "import keepstone"],
        "keepstone --help": [python, "-m", "keepstone", "--help"],
        "load": [python, "-c", _LOAD, str(folder / "keepstone")],
        "load sqlite": [python, "-c", _LOAD_SQLITE, str(folder / "sqlite")],
    }
    if has_package("diskcache"):
        commands["import diskcache"] = [python, "-c", "import diskcache"]
        commands["load diskcache"] = [python, "-c", _LOAD_DISKCACHE, str(folder / "diskcache")]
    if has_package("joblib") and not settings.is_quick:
        commands["import joblib"] = [python, "-c", "import joblib"]
    calls: dict[str, Callable[[int], float]] = {
        name: lambda _, command=command: _milliseconds(command, folder) for name, command in commands.items()
    }
    taken = alternate(calls, max(15, settings.turns(_TURNS)))
    return _cases(taken)


def _cases(taken: dict[str, list[float]]) -> list[Case]:
    bare = taken[_BARE]

    def over(**named: str) -> dict[str, list[float]]:
        return {
            label: [a - b for a, b in zip(taken[command], bare, strict=True)]
            for label, command in named.items()
            if command in taken
        }

    notes = (f"a whole process, less bare Python in the same turn ({sorted(bare)[len(bare) // 2]:.0f} ms)",)
    imports = over(**{KEEPSTONE: "import keepstone", DISKCACHE: "import diskcache", JOBLIB: "import joblib"})
    loads = over(**{KEEPSTONE: "load", "SQLite": "load sqlite", DISKCACHE: "load diskcache"})
    return [
        Case("startup.import", "`import keepstone`", "ms", imports, notes=notes),
        Case(
            "startup.help", "`keepstone --help`", "ms", over(**{KEEPSTONE: "keepstone --help"}), notes=notes
        ),
        Case("startup.load", "fresh process: open and load one", "ms", loads, notes=notes),
    ]


def _prepare(folder: Path) -> None:
    from benchmarks.peers import open_contender

    value = {"answer": 42, "reasoning": "six by nine"}
    opened = Keepstone(folder / "keepstone", "store")
    opened.store.save("answer", value)
    opened.close()
    for name, place in (("SQLite", "sqlite"), (DISKCACHE, "diskcache")):
        if name != DISKCACHE or has_package("diskcache"):
            peer = open_contender(name, folder / place)
            peer.put("answer", value)
            peer.close()


def _milliseconds(command: list[str], folder: Path) -> float:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEEPSTONE")}
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
    return (time.perf_counter() - start) * 1e3
