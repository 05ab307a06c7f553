"""Where the store is: the option, the environment, the nearest `.keepstone`, or here.

Layer: cli. The only file that reads KEEPSTONE_STORE. Nothing is created here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keepstone.foundation.errors import InvalidInputError, StoreNotFoundError

if TYPE_CHECKING:
    import argparse

FOLDER: Final = ".keepstone"
VARIABLE: Final = "KEEPSTONE_STORE"
_HOW_TO_SAY: Final = "make one with `keepstone init`, or say where it is with --store or KEEPSTONE_STORE"


def locate(option: str | None, environment: Mapping[str, str], folder: Path) -> str:
    """Return the path or URL of the store that a command run in `folder` means.

    `--store`, else KEEPSTONE_STORE, else the nearest `.keepstone` upwards, else `.keepstone` in `folder`.
    """
    if option is not None:
        return _given(option, "--store")
    if environment.get(VARIABLE):
        return _given(environment[VARIABLE], VARIABLE)
    for parent in (folder, *folder.parents):
        if (parent / FOLDER).is_dir():
            return str(parent / FOLDER)
    return str(folder / FOLDER)


def _given(location: str, where: str) -> str:
    if not location:
        raise InvalidInputError(f"{where} is empty", hint="give a folder or a URL such as s3://bucket/team")
    return location if is_url(location) else os.path.expanduser(location)


def may_name_url(words: Iterable[str], environment: Mapping[str, str]) -> bool:
    """Whether a command line, or what stands for its `--store`, holds a URL."""
    return any("://" in word for word in (*words, environment.get(VARIABLE, "")))


def is_url(location: str) -> bool:
    """Whether `location` is a URL, not a path."""
    return "://" in location


def check_exists(location: str) -> str:
    """Return `location` if there is a store; a URL is returned unseen, opening it will tell.

    Raises:
        StoreNotFoundError: it is a path without a store.
    """
    # A folder with a log is a store that has lost its store.json, which opening it says.
    marks = (os.path.join(location, mark) for mark in ("store.json", "log"))
    if not is_url(location) and not any(os.path.exists(mark) for mark in marks):
        from keepstone.storage import locate

        # It may be no place at all, such as a URL with a slash too few.
        locate.locate(location)
        near = store_inside(location) or store_around(location)
        hint = f"there is one at {near}: say so with --store or KEEPSTONE_STORE" if near else _HOW_TO_SAY
        raise StoreNotFoundError(f"no store at {location}", location=location, hint=hint)
    return location


def store_inside(location: str) -> str:
    """Return the store that lies in the folder `location`, which is none; empty if there is none."""
    inside = os.path.join(location, FOLDER)
    return inside if not is_url(location) and os.path.exists(os.path.join(inside, "store.json")) else ""


def store_around(location: str) -> str:
    """Return the folder of `location` where it is a store itself, and no project that has one; else nothing."""
    folder, name = os.path.split(location)
    return folder if name == FOLDER and os.path.exists(os.path.join(folder, "store.json")) else ""


def require_online(arguments: argparse.Namespace, *places: str | None) -> None:
    """Return unless one of the places can only be reached by a network that is not to be asked.

    Raises:
        InvalidInputError: `--offline` is given, and one is the URL of a server.
    """
    if not getattr(arguments, "offline", False):
        return
    for place in places:
        if place is not None and is_url(place) and not place.lower().startswith(("file:", "memory:")):
            from keepstone.storage.locate import without_credentials

            raise InvalidInputError(
                f"with --offline nothing is asked of a network, and {without_credentials(place)} is behind one",
                hint="leave --offline out, or name a local store",
            )
