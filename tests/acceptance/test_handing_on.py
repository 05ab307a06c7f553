"""A lock made on one machine gives the same bytes on another, from a copy of the store and from a bundle, or an error.

Machines are folders that share nothing, and every step is a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from tests.operations.handing import SELECTORS, fill, tree_of

import keepstone

DIGESTS: Final = """
import json, sys
import keepstone
from keepstone import Digest

def facts(store):
    found = {}
    for name in store.names():
        for version in store.versions(name):
            if version.is_snapshot:
                items = store.collection(version.selector)
                parts = {key: str(items.digest_of(key)) for key in items}
                assert len(parts) == len(dict(items)) == len(store.collection(name))
            else:
                parts = {p.path: [str(Digest.of_chunks(version.chunks(p.path))), p.mode] for p in version.parts}
            found[version.digest + " " + name] = [dict(version.metadata), parts]
    return found


print(json.dumps([facts(keepstone.open(place, mode="r")) for place in sys.argv[1:]]))
"""


def run(folder: Path, *words: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEEPSTONE")}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def keepstone_says(folder: Path, *words: str, code: int = 0) -> str:
    return run(folder, "-m", "keepstone", *words, code=code)


def digests(folder: Path, *stores: str) -> list[dict[str, Any]]:
    return json.loads(run(folder, "-c", DIGESTS, *stores))


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The second machine, with a lock, a copy of the store and a bundle; and what the first machine had pinned.

    The first machine is gone.
    """
    first, second = tmp_path / "first" / "project", tmp_path / "second"
    first.mkdir(parents=True)
    second.mkdir()
    fill(first / ".keepstone", tmp_path)
    keepstone_says(first, "pin", *SELECTORS)
    lock = {line.split(" ")[1] for line in (first / "keepstone.lock").read_text().splitlines()[3:]}
    # What comes after the pin is not in it.
    with keepstone.open(first / ".keepstone") as store:
        store.save("later", "text")
    keepstone_says(first, "bundle", "keepstone.lock", "x.bundle")
    (known,) = digests(first, ".keepstone")
    pinned = {key: facts for key, facts in known.items() if key.split(" ")[0] in lock}
    assert len(pinned) == len(SELECTORS)
    shutil.copy(first / "keepstone.lock", second)
    shutil.copy(first / "x.bundle", second)
    shutil.copytree(first / ".keepstone", second / "copy")
    shutil.rmtree(tmp_path / "first")
    return second, pinned


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def test_the_same_bytes_elsewhere_or_an_error(machines: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    second, pinned = machines
    for source, store in (("copy", "from-copy"), ("x.bundle", "from-bundle")):
        keepstone_says(second, "restore", "keepstone.lock", "--from", source, "--to", store)
    # `turns` had two versions pinned, and `later` was not.
    assert digests(second, "from-copy", "from-bundle") == [pinned, pinned]
    assert "8 of 8 versions right" in keepstone_says(second, "--store", "from-copy", "verify")
    keepstone_says(second, "--store", "from-bundle", "load", "folder", "out")
    assert tree_of(second / "out") == tree_of(tmp_path / "folder")

    flip(max((second / "copy").rglob("0*-*"), key=lambda path: path.stat().st_size), 2_000)
    flip(second / "x.bundle", (second / "x.bundle").stat().st_size // 2)
    for source in ("copy", "x.bundle"):
        said = keepstone_says(
            second, "restore", "keepstone.lock", "--from", source, "--to", "nowhere", code=5
        )
        assert any(f"{name}@v1 cannot be read whole" in said for name in ("answers", "copies/of large"))
    with keepstone.open(second / "nowhere", mode="r") as nowhere:
        assert nowhere.names() == []
