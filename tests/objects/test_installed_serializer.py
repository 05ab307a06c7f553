"""docs/how-to-serializer.md: the package of that page, installed, saves and loads in programs that register nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keepstone

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to-serializer.md"
PROGRAM = """
from fractions import Fraction
import sys
import keepstone
with keepstone.open(sys.argv[1]) as store:
    store.save("plain", {"a": 1})
    assert "keepstone_fractions" not in sys.modules
    store.save("third", Fraction(1, 3))
with keepstone.open(sys.argv[1]) as store:
    print(store.load("third"))
"""


def block(title: str) -> str:
    found = re.search(rf"^```\w+ {re.escape(title)}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def install(folder: Path) -> None:
    """Lay out what an installer makes of the page's project: the module, and what it says of itself."""
    project = tomllib.loads(block("pyproject.toml"))
    facts = project["project"]
    [module] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    (folder / module).write_text(block(module))
    info = folder / f"{facts['name'].replace('-', '_')}-{facts['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: {facts['version']}\n"
    )
    lines = [
        line
        for group, entries in facts["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def test_a_package_that_is_installed_is_used_without_being_registered(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site)
    source = str(Path(keepstone.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, str(site)])}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "1/3\n"
