"""Lets the tests of every layer, and other projects, import `tests.storage.contract`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_REPOSITORY = str(Path(__file__).resolve().parents[2])
if _REPOSITORY not in sys.path:
    sys.path.insert(0, _REPOSITORY)

pytest.register_assert_rewrite("tests.storage.contract")
