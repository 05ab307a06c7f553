"""What a row of docs/values.md says, as a test can ask it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st


class Kind(NamedTuple):
    """Values of one row."""

    values: st.SearchStrategy[Any]
    same: Callable[[Any, Any], bool] = lambda given, loaded: type(given) is type(loaded) and given == loaded
    """Whether what was loaded is what the row says of what was saved."""
    type: Any = None
    """Another way to load it that the row speaks of."""
    same_typed: Callable[[Any, Any], bool] = lambda given, loaded: (
        type(given) is type(loaded) and given == loaded
    )
    serializer: str | None = None
    loads: bool = True
    """Whether it loads without `type`."""
    copy: Callable[[Any], Any] = lambda value: value
    """Makes an equal value anew: it must be the same artifact."""


Row = Callable[[Path], Kind]
"""Takes a folder for files; skips where a library is missing."""
