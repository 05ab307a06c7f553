"""What callers hand over, checked before anything is done with it.

Layer: repository. A wrong type is an `InvalidInputError` that names the argument, never an error from deep inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keepstone.foundation.errors import InvalidInputError
from keepstone.foundation.format import MESSAGE_BYTES_MAX
from keepstone.foundation.names import check_alias, check_name


def check_kind_of(value: object, kind: Any, what: str, wanted: str) -> None:
    """Refuse a `value` that is no `kind`, calling it `what` and saying what is `wanted`.

    Raises:
        InvalidInputError: it is something else.
    """
    if not isinstance(value, kind):
        raise InvalidInputError(f"{what} is of type {type(value).__name__}", hint=f"pass {wanted}")


def check_message(message: str) -> None:
    """Refuse what cannot be kept as a commit's message: other than text, or more than 64 KiB of it."""
    check_kind_of(message, str, "message", "text")
    try:
        size = len(message.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError("message has a lone surrogate", hint="decode the text properly") from error
    if size > MESSAGE_BYTES_MAX:
        raise InvalidInputError(
            f"message takes {size:,} bytes; the limit is {MESSAGE_BYTES_MAX:,}",
            hint="save a long text as an artifact",
        )


def check_metadata(metadata: object) -> None:
    """Refuse metadata that is no mapping; what it holds is judged when it is encoded."""
    if metadata is not None:
        check_kind_of(metadata, Mapping, "metadata", "a dict with text keys")


def check_save(name: str, metadata: Mapping[str, Any] | None, aliases: Iterable[str]) -> tuple[str, ...]:
    """Return the aliases, each once, if something can be saved under this name with them and this metadata.

    Raises:
        InvalidInputError: it cannot.
    """
    check_name(name)
    check_metadata(metadata)
    return tuple(dict.fromkeys(check_alias(alias) for alias in listed(aliases, "aliases")))


def listed(values: Iterable[Any], what: str) -> tuple[Any, ...]:
    """Return what the list argument `what` holds; a text by itself is no list.

    Raises:
        InvalidInputError: it is no list.
    """
    if isinstance(values, str):
        raise InvalidInputError(
            f"{what} is the text {values!r}, not a list", hint=f"write {what}=[{values!r}]"
        )
    check_kind_of(values, Iterable, what, "a list")
    return tuple(values)
