"""Keepstone keeps what an ML or LLM project makes: results, prompts, modules, analyses, caches.

The public names, nothing else; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keepstone.api import Store as Store
    from keepstone.api import clone as clone
    from keepstone.api import locked as locked
    from keepstone.api import open as open  # noqa: A004
    from keepstone.foundation.digest import Digest as Digest
    from keepstone.foundation.errors import *  # noqa: F403
    from keepstone.foundation.names import quote as quote
    from keepstone.foundation.names import unquote as unquote
    from keepstone.operations.job import Job as Job
    from keepstone.operations.lineage import Lineage as Lineage
    from keepstone.operations.locked import Locked as Locked
    from keepstone.operations.sync_plan import SyncPlan as SyncPlan
    from keepstone.operations.sync_plan import SyncReport as SyncReport
    from keepstone.operations.verify import verify_bundle as verify_bundle
    from keepstone.repository.collection import Collection as Collection
    from keepstone.repository.past import Past as Past
    from keepstone.repository.transaction import Transaction as Transaction
    from keepstone.repository.version import Version as Version
    from keepstone.workflows.record import Record as Record
    from keepstone.workflows.results import Results as Results

__version__: Final = "0.1.0"

_ERRORS: Final = "keepstone.foundation.errors"
_PLACES: Final = {
    "Collection": "keepstone.repository.collection",
    "Digest": "keepstone.foundation.digest",
    "Job": "keepstone.operations.job",
    "Lineage": "keepstone.operations.lineage",
    "Locked": "keepstone.operations.locked",
    "Past": "keepstone.repository.past",
    "Record": "keepstone.workflows.record",
    "Results": "keepstone.workflows.results",
    "Store": "keepstone.api",
    "Transaction": "keepstone.repository.transaction",
    "SyncPlan": "keepstone.operations.sync_plan",
    "SyncReport": "keepstone.operations.sync_plan",
    "Version": "keepstone.repository.version",
    "clone": "keepstone.api",
    "locked": "keepstone.api",
    "open": "keepstone.api",
    "quote": "keepstone.foundation.names",
    "unquote": "keepstone.foundation.names",
    "verify_bundle": "keepstone.operations.verify",
    **dict.fromkeys(
        (
            "ArtifactNotFoundError",
            "BlobNotFoundError",
            "ConfigChangedError",
            "ConflictError",
            "CorruptionError",
            "DigestMismatchError",
            "DivergedError",
            "HistoryGoneError",
            "InvalidInputError",
            "KeepstoneError",
            "KeyNotFoundError",
            "KindError",
            "MalformedError",
            "NotFoundError",
            "PathExistsError",
            "PathIsFolderError",
            "PathNotFoundError",
            "PathReadOnlyError",
            "RefConflictError",
            "SecretsWarning",
            "SerializerError",
            "StorageBusyError",
            "StorageError",
            "StorageFullError",
            "StoragePermissionError",
            "StoreNotFoundError",
            "UnsafeStorageError",
            "UnsupportedFormatError",
        ),
        _ERRORS,
    ),
}

__all__ = [*_PLACES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'keepstone' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
