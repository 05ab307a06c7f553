"""Exit codes: the one table from an error to what the shell sees.

Layer: cli. docs/cli.md shows the same table; tests walk every error class and compare the two.
"""

from __future__ import annotations

from typing import Final

from keepstone.foundation import errors

OK: Final = 0
BUG: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
CORRUPTION: Final = 5
STORAGE: Final = 6
UNSUPPORTED_FORMAT: Final = 7
PARTLY_FAILED: Final = 8
DIFFERENT: Final = 9
INTERRUPTED: Final = 130

MEANINGS: Final = {
    OK: "done",
    BUG: "a bug in Keepstone: please report it",
    USAGE: "the command is not understood, or an argument cannot be accepted",
    NOT_FOUND: "no such store, name, version, key or file",
    CONFLICT: "somebody was first, or the configuration has changed",
    CORRUPTION: "stored bytes are damaged or missing",
    STORAGE: "the medium failed: full, busy, not permitted, not reachable",
    UNSUPPORTED_FORMAT: "the store needs a newer release",
    PARTLY_FAILED: "the rest is done and kept, but some items failed",
    DIFFERENT: "`keepstone diff --exit-code`: the two differ",
    INTERRUPTED: "interrupted from the keyboard",
}

# The first match along a class's ancestors counts, so a subclass may stand out from its family.
CODES: Final[dict[type[BaseException], int]] = {
    errors.InvalidInputError: USAGE,
    errors.SerializerError: USAGE,
    errors.NotFoundError: NOT_FOUND,
    # Nobody asks the command for a blob or an object by itself: one that is missing is damage.
    errors.BlobNotFoundError: CORRUPTION,
    errors.ObjectNotFoundError: CORRUPTION,
    errors.ConflictError: CONFLICT,
    errors.CorruptionError: CORRUPTION,
    errors.StorageError: STORAGE,
    errors.UnsupportedFormatError: UNSUPPORTED_FORMAT,
    FileNotFoundError: NOT_FOUND,
    OSError: STORAGE,
    KeyboardInterrupt: INTERRUPTED,
}


def exit_code(kind: type[BaseException]) -> int:
    """Return the exit code for errors of class `kind`; `BUG` for whatever is not in the table."""
    for ancestor in kind.__mro__:
        if ancestor in CODES:
            return CODES[ancestor]
    return BUG
