"""One instance of the filesystem for each store, whichever way a program names the store.

Layer: interop. fsspec keeps an instance for each set of options: here the option is always the absolute location, so
that a change of the current folder, a pickle and a chained URL mean the same store, and a transaction is seen by all
that a thread opens: fsspec keeps instances for each thread.
"""

from __future__ import annotations

import os
from typing import Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]
from fsspec.config import apply_config  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from keepstone.api import Store
from keepstone.foundation.errors import InvalidInputError
from keepstone.repository.arguments import check_kind_of
from keepstone.storage.locate import is_url

_Meta: Any = type(fsspec.AbstractFileSystem)


class OnePerStore(_Meta):
    """Names the store by its absolute location before fsspec looks whether there is an instance of it."""

    def __call__(
        cls,  # noqa: N805 - of a metaclass  # pyright: ignore
        store: Any = None,
        *,
        fo: Any = None,
        target_protocol: Any = None,
        target_options: Any = None,
        **options: Any,
    ) -> Any:
        if fo:
            store = _chained(store, fo, target_protocol, target_options)
        if store:
            options["store"] = store
        # What a user has put into fsspec's configuration may name the store, too.
        given: dict[str, Any] = cast(Any, apply_config)(cls, options)
        return _Meta.__call__(cls, **{**given, "store": _location(given.get("store"))})


def _chained(store: Any, place: str, protocol: Any, options: Any) -> str:
    """Return the location that stands behind `::` in a URL."""
    if store:
        raise InvalidInputError(
            f"two stores are given: {place!r} in the URL, and {store!r}", hint="leave one out"
        )
    if options:
        raise InvalidInputError(
            f"options are given for the place of the store: {', '.join(sorted(options))}",
            hint="leave them out: credentials and endpoints are found where `keepstone.open` finds them",
        )
    is_whole = protocol in (None, "file", "local") or is_url(place)
    return place if is_whole else f"{protocol}://{place.lstrip('/')}"


def _location(store: Any) -> str:
    """Return the absolute location of the store that an option means."""
    if not store:
        raise InvalidInputError(
            "no store is given for keepstone://",
            hint="storage_options={'store': …}, or keepstone://name@v3/file::/path/of/store",
        )
    check_kind_of(store, str | os.PathLike | Store, "store", "a path, a URL or a Store")
    return _absolute(store.location if isinstance(store, Store) else store)


def _absolute(store: str | os.PathLike[str]) -> str:
    location = os.fspath(store)
    return location if is_url(location) else os.path.abspath(os.path.expanduser(location))
