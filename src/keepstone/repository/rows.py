"""What packs say of one key.

Layer: repository.
"""

from __future__ import annotations

from typing import NamedTuple

from keepstone.blobs.blobstore import Place
from keepstone.foundation.digest import Digest


class EntryRow(NamedTuple):
    """A key's newest entry among the packs."""

    stamp: int
    writer: bytes
    digest: Digest | None
    """None: removed."""
    form: int
    place: Place | None
    """None: the value lies in another pack than the entry, or was removed."""

    @property
    def order(self) -> tuple[int, bytes]:
        """What decides between two entries of a key."""
        return self.stamp, self.writer
