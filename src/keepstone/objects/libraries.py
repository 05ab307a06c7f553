"""Other people's libraries: told by a value's class, imported only when a value of theirs is built.

Layer: objects. What may be imported is a fixed list; no name that a store holds is ever imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any, Final

from keepstone.foundation.errors import SerializerError

_DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "ml_dtypes": "ml_dtypes",
    "numpy": "numpy",
    "pandas": "pandas",
    "plotly": "plotly",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "torch": "torch",
    "yaml": "pyyaml",
}
"""Module → what to install for it."""


def root_of(kind: object) -> str:
    """Return the name of the library that defines the class `kind`."""
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def is_installed(module: str) -> bool:
    """Whether `module` could be imported; imports nothing."""
    return importlib.util.find_spec(module) is not None


def import_library(module: str, why: str, *, instead: str = "") -> Any:
    """Return the library `module`, one of the known ones; `why` and `instead` are for the message.

    Raises:
        SerializerError: it is not installed, or cannot be imported; says what to install.
    """
    distribution = _DISTRIBUTIONS[module]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SerializerError(
            f"{distribution} is not installed: {why}"
            if not is_installed(module)
            else f"{distribution} cannot be imported ({error}): {why}",
            hint=f"pip install {distribution}" + (f"; {instead}" if instead else ""),
        ) from error


def versions_of(*modules: str) -> dict[str, str]:
    """Return distribution → version of these libraries, for a manifest."""
    versions: dict[str, str] = {}
    for module in modules:
        version = getattr(sys.modules.get(module), "__version__", None) or _installed_version(module)
        if version:
            versions[_DISTRIBUTIONS.get(module, module)] = str(version)
    return versions


def _installed_version(module: str) -> str | None:
    # It takes longer to import than most commands run.
    from importlib import metadata

    try:
        return metadata.version(_DISTRIBUTIONS.get(module, module))
    except metadata.PackageNotFoundError:
        return None
