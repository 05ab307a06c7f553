"""Guards that every storage shares, besides `base.check_key`.

Layer: storage. They make all media refuse the same calls, so that code that works on one works on all.
"""

from __future__ import annotations

from keepstone.foundation.errors import InvalidInputError
from keepstone.storage.base import check_key


def check_prefix(prefix: str) -> str:
    """Return `prefix` if it is empty, or a key and a slash.

    Raises:
        InvalidInputError: it is something else.
    """
    if prefix:
        if not prefix.endswith("/"):
            raise InvalidInputError(f"not a prefix of storage keys: {prefix!r}", hint="a prefix ends in '/'")
        check_key(prefix[:-1])
    return prefix


def check_range(key: str, start: int, end: int) -> None:
    """Accept [start, end) if it is a range of bytes.

    Raises:
        InvalidInputError: it begins before the object, or ends before it begins.
    """
    if not 0 <= start <= end:
        raise InvalidInputError(f"not a range of bytes: [{start}, {end}) of {key}")
