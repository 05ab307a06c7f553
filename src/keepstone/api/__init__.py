"""The front door: opening a store, and what can be done with it."""

from keepstone.api.exchange import clone
from keepstone.api.store import Mode, Store, locked, open  # noqa: A004

__all__ = ["Mode", "Store", "clone", "locked", "open"]
