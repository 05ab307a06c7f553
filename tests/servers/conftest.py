"""The servers and the proxy are tools of other tests; they are tried by themselves with `--servers`, as CI does."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if any(config.getoption(option) for option in ("--servers", "--rgw", "--long")):
        return
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.skip(reason="tries the tools of other tests: pytest --servers"))
