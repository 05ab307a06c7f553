"""What the tests of blobs share: spools in a folder, and short ways to their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keepstone.blobs.spool import Item, Spool
from keepstone.foundation.clock import Clock
from keepstone.foundation.digest import Digest
from keepstone.foundation.format import Form
from keepstone.storage.calls import Calls

STORE_ID = bytes(range(16))


def item(key: str, value: bytes | None) -> Item:
    """One item as `Spool.append` takes it; None removes the key."""
    return key, Form.BYTES, value, None if value is None else Digest.of(value)


@pytest.fixture
def make_spool(tmp_path: Path) -> Callable[..., Spool]:
    """Spools of one store on one machine, as several processes would have them."""

    def make(calls: Calls | None = None, folder: Path | None = None, store_id: bytes = STORE_ID) -> Spool:
        return Spool(
            folder or tmp_path / "journals",
            store_id=store_id,
            location=str(tmp_path),
            host="host",
            clock=Clock(),
            calls=calls or Calls(),
        )

    return make
