"""Values taken apart and built again by the built-in serializers."""

from __future__ import annotations

from typing import Any

from tests.objects import saving
from tests.objects.saving import Saved

from keepstone.objects.standard import standard_registry


def save(value: object, serializer_id: str | None = None, *, size: int = 1000) -> Saved:
    """Take `value` apart; sizes must be what was said."""
    return saving.save(standard_registry(), value, serializer_id, size=size, is_size_known=True)


def load(saved: Saved, type: Any = None, *, piece: int = 700) -> Any:  # noqa: A002
    """Build the value again."""
    return saving.load(standard_registry(), saved, type, piece=piece)
