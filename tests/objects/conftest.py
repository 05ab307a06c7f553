"""What the tests of tables share: libraries that may be missing, and a table taken apart and built again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.objects.saving import load, save

from keepstone.objects.standard import standard_registry

BERLIN = "Europe/Berlin"


@pytest.fixture(scope="module")
def pd() -> Any:
    return pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def pl() -> Any:
    return pytest.importorskip("polars")


def round_trip(value: object, type: Any = None) -> Any:  # noqa: A002
    registry = standard_registry()
    saved = save(registry, value)
    assert saved[0].serializer == "arrow"
    return load(registry, saved, type)
