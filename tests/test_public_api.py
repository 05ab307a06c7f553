"""The public names: documented, importable, and light to use."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any, Final

import pytest

import keepstone

HEAVY: Final = {"fsspec", "s3fs", "botocore", "aiohttp", "numpy", "asyncio", "sqlite3", "argparse", "rich"}
"""What using a small local store must not import."""
INHERITED: Final = {"__init__"}


def members(kind: type) -> dict[str, Any]:
    """Return the public members that a class defines itself."""
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    assert keepstone.__all__
    for name in keepstone.__all__:
        assert getattr(keepstone, name) is not None
    assert dir(keepstone) == sorted(keepstone.__all__)
    with pytest.raises(AttributeError, match="nosuch"):
        _ = keepstone.nosuch


def test_errors_below_the_base_are_public() -> None:
    errors = {name for name in keepstone.__all__ if name.endswith("Error")}

    assert all(issubclass(getattr(keepstone, name), keepstone.KeepstoneError) for name in errors)


@pytest.mark.parametrize("name", sorted(set(keepstone.__all__) - {"__version__"}))
def test_every_public_name_and_its_members_have_docstrings(name: str) -> None:
    value = getattr(keepstone, name)
    undocumented = [] if inspect.getdoc(value) else [name]
    if isinstance(value, type):
        for member, content in members(value).items():
            is_code = isinstance(content, types.FunctionType | property | classmethod | staticmethod)
            # What a mapping or a bytes is said to do need not be said again; getdoc looks at those, too.
            if is_code and not inspect.getdoc(getattr(value, member)):
                undocumented.append(f"{name}.{member}")
    assert not undocumented


@pytest.mark.parametrize("name", ["Store", "Collection", "Version", "Results"])
def test_public_methods_take_options_by_name_only(name: str) -> None:
    loose = [
        f"{name}.{member}({parameter.name})"
        for member, content in members(getattr(keepstone, name)).items()
        if isinstance(content, types.FunctionType)
        for parameter in inspect.signature(content).parameters.values()
        if isinstance(parameter.default, bool) and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]

    assert not loose


def imported_by(code: str, folder: Path) -> set[str]:
    """Return the modules that a fresh process has imported after `code`."""
    program = textwrap.dedent(code) + "\nimport sys\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder, timeout=60
    )
    return set(done.stdout.split())


def test_importing_keepstone_imports_next_to_nothing(tmp_path: Path) -> None:
    imported = imported_by("import keepstone", tmp_path)

    assert {name for name in imported if name.startswith("keepstone")} == {"keepstone"}
    assert not imported & (HEAVY | {"msgspec", "blake3", "zstandard"})


def test_using_a_local_store_imports_nothing_heavy(tmp_path: Path) -> None:
    imported = imported_by(
        """
        import keepstone
        with keepstone.open("store") as store:
            store.save("a", {"x": [1, 2.5, "three"]}, metadata={"y": 1}, aliases=["prod"])
            assert store.load("a@prod") == {"x": [1, 2.5, "three"]}
            answers = store.collection("answers")
            answers.add_many({str(i): {"n": i} for i in range(200)})
            assert list(answers.missing(["7", "x"])) == ["x"]
            store.flush()
        with keepstone.open("store", mode="r") as store:
            assert len(store.collection("answers")) == 200
        """,
        tmp_path,
    )

    assert not imported & HEAVY


def test_the_version_is_that_of_the_distribution() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]

    assert keepstone.__version__ == project["version"]
