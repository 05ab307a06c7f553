"""Numbers of the on-disk format: magic bytes, kinds, codecs, limits, and where objects lie.

Layer: foundation. The code twin of docs/format.md; tests compare the two. Sizes are bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FORMAT_VERSION: Final = 1

FRAME_MAGIC: Final = b"KPST"
PACK_FRAME_MAGIC: Final = b"Kf"
PACK_TRAILER_MAGIC: Final = b"KPSTPACK"
BUNDLE_TRAILER_MAGIC: Final = b"KPSTBNDL"


class Kind(IntEnum):
    """What a frame holds."""

    JOURNAL = 1
    BLOB = 2
    ENTRY = 3
    FINAL = 4
    FOOTER = 5
    DICTIONARY = 6
    RECIPE = 7
    COMMIT = 8
    CHECKPOINT = 9
    DELTA = 10
    """Reserved: a blob stored as a difference from a base."""
    BUNDLE = 11
    """The table at the end of a bundle."""


class Codec(IntEnum):
    """How a frame's payload is stored."""

    RAW = 0
    ZSTD = 1
    ZSTD_DICTIONARY = 2
    BYTE_PLANES = 3
    """Reserved."""


class Form(IntEnum):
    """How an entry's blob is read as a value."""

    MANIFEST = 0
    BYTES = 1
    TEXT = 2
    JSON = 3


class Origin(IntEnum):
    """Why a pack was written."""

    JOURNAL = 1
    """Sealed from journals."""
    SAVE = 2
    """Written by a commit of its own: artifacts, and large values of collections."""
    REPACK = 3
    """Merged from packs of journals."""
    COPY = 4
    """Copied from another store, or from a bundle."""
    REPACK_SAVES = 5
    """Merged from packs that commits wrote."""


NAME_BYTES_MAX: Final = 512
KEY_BYTES_MAX: Final = 4 * 1024
REF_NAME_BYTES_MAX: Final = 1024
"""A name, an alias behind it, or a reserved prefix before it."""
REF_VALUE_BYTES_MAX: Final = 4 * 1024
MESSAGE_BYTES_MAX: Final = 64 * 1024
METADATA_BYTES_MAX: Final = 1024 * 1024
MANIFEST_FORMAT: Final = 1
MANIFEST_BYTES_MAX: Final = 128 * 1024 * 1024
"""A folder of one to two million files."""
PART_PATH_BYTES_MAX: Final = 4 * 1024
SNAPSHOT_SERIALIZER: Final = "snapshot"
"""Stands in the manifest of a snapshot of a collection, whose parts are leaves."""
VALUE_DEPTH_MAX: Final = 200
"""How deep a JSON-like value may be nested; every reader's recursion limit must leave room for it."""

CHUNK_BYTES: Final = 1024 * 1024
"""A blob above this size is stored as a recipe of chunks."""
JOURNAL_VALUE_BYTES_MAX: Final = 8 * 1024 * 1024
"""A larger collection value bypasses the journal and gets packs of its own (rule 7)."""
FRAME_RAW_BYTES_MAX: Final = 64 * 1024 * 1024
PACK_BYTES_TARGET: Final = 64 * 1024 * 1024
FOOTER_BYTES_MAX: Final = 256 * 1024 * 1024
INLINE_BYTES_MAX: Final = 256 * 1024
COMMIT_BYTES_MAX: Final = 4 * 1024 * 1024
CHECKPOINT_BYTES_MAX: Final = 1024 * 1024 * 1024
STORE_JSON_BYTES_MAX: Final = 64 * 1024
LEAF_BYTES_MAX: Final = 1024 * 1024
"""A leaf of a snapshot; one plain blob, since it is no larger than a chunk."""
LEAF_KEYS_MAX: Final = 8 * 1024
JOURNAL_BYTES_TARGET: Final = 64 * 1024 * 1024
LOCK_FORMAT: Final = 1
LOCK_BYTES_MAX: Final = 16 * 1024 * 1024
"""A lock file: some hundred thousand names."""

READ_FEATURES: Final[frozenset[str]] = frozenset()
"""Features of `:features` without which a store would be misread; extended where one is built."""
SINGLE_WRITER: Final = "single-writer"
"""The medium cannot create-if-absent, so only one process at a time may write."""
WRITE_FEATURES: Final[frozenset[str]] = frozenset((SINGLE_WRITER,))
"""Features of `:features` without which writing would do harm."""

STORE_KEY: Final = "store.json"
LOG_PREFIX: Final = "log/"
PACK_PREFIX: Final = "packs/"
CHECKPOINT_PREFIX: Final = "checkpoints/"
CHECKPOINT_LAST_KEY: Final = "checkpoints/LAST"
WAITING_KEY: Final = "turns/waiting"


def log_key(number: int) -> str:
    """Return the key of commit `number`; keys sort as numbers do."""
    return f"{LOG_PREFIX}{number:020d}"


def checkpoint_key(number: int, digest_hex: str) -> str:
    """Return the key of the checkpoint of the state after commit `number`."""
    return f"{CHECKPOINT_PREFIX}{number:020d}-{digest_hex}"


def pack_key(base: int, digest_hex: str) -> str:
    """Return the key of the pack begun at log length `base` whose stored bytes hash to `digest_hex`."""
    return f"{PACK_PREFIX}{digest_hex[:2]}/{base:020d}-{digest_hex}"
