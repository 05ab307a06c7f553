"""Local storages of both ways in which files are born, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keepstone.storage import platform
from keepstone.storage.calls import Calls
from keepstone.storage.draft import Drafts, NamedDrafts, UnnamedDrafts
from keepstone.storage.local import LocalStorage

KINDS: dict[str, Callable[[Calls], Drafts]] = {"named": NamedDrafts}
if platform.has_unnamed_files():
    KINDS["unnamed"] = UnnamedDrafts

each_kind = pytest.mark.parametrize("kind", sorted(KINDS))
DATA = b"0123456789" * 100


def local(root: Path, kind: str, calls: Calls | None = None) -> LocalStorage:
    calls = calls or Calls()
    return LocalStorage(root, calls=calls, drafts=KINDS[kind](calls))


def litter(root: Path) -> list[Path]:
    return list(root.rglob(".tmp-*"))
