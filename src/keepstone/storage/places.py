"""Where this machine keeps what belongs to a bucket store: its journals, and what only makes reading fast.

Layer: storage. The one file below the command line that reads the environment: a journal that one program writes must
be found by all others of the same user, however they were started.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from keepstone.foundation.digest import Digest
from keepstone.foundation.errors import InvalidInputError
from keepstone.storage import platform

SPOOL_VARIABLE: Final = "KEEPSTONE_SPOOL"
CACHE_VARIABLE: Final = "KEEPSTONE_CACHE"
CACHE_BYTES_VARIABLE: Final = "KEEPSTONE_CACHE_BYTES"
CACHE_BYTES_MAX: Final = 10 * 1024**3
SPOOL_ADVICE: Final = (
    f"it is in the spool, where items wait to be published; {SPOOL_VARIABLE} names another folder for it"
)
_SIZE: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,3}))? ?(|B|[KMGT]i?B)", re.ASCII | re.IGNORECASE)
_POWERS: Final = " KMGT"
_MACHINE_ID: Final = "/etc/machine-id"


def spool_folder(store_id: str, location: str) -> Path:
    """Return the folder for this machine's journals of a store that is elsewhere.

    They are data, not a cache: below `$KEEPSTONE_SPOOL`, else in the user's state folder. Each machine has a folder of
    its own, since homes are shared and locks do not reach across.
    """
    return _below(SPOOL_VARIABLE, _state_folder()) / _named(store_id, location) / host_id()


def cache_folder(store_id: str, location: str) -> Path:
    """Return the folder for what may be deleted at any time: below `$KEEPSTONE_CACHE`, else in the user's cache."""
    return _cache_of(location) / store_id


def cache_bytes_max() -> int:
    """Return how much of each store is kept for reading: `$KEEPSTONE_CACHE_BYTES`, such as `20GB`, else 10 GiB.

    Raises:
        InvalidInputError: it is no size.
    """
    given = os.environ.get(CACHE_BYTES_VARIABLE, "").strip()
    if not given:
        return CACHE_BYTES_MAX
    match = _SIZE.fullmatch(given)
    if match is None:
        raise InvalidInputError(
            f"{CACHE_BYTES_VARIABLE} is {given!r}, not a size",
            hint="write a number of bytes, or one with a unit: 500MB, 20GB, 1.5TiB; 0 keeps nothing",
        )
    whole, fraction, unit = match.groups(default="")
    base = 1024 if "i" in unit.lower() else 1000
    power = _POWERS.index(unit[0].upper()) if len(unit) > 1 else 0
    return int(whole + fraction) * base**power // 10 ** len(fraction)


def cached_store(location: str) -> str | None:
    """Return the id of the store that was read last at a location; None where nothing of it is kept here."""
    try:
        found = [(entry.stat().st_mtime_ns, entry.name) for entry in os.scandir(_cache_of(location))]
    except OSError:
        return None
    return max(found)[1] if found else None


def is_lasting(folder: Path) -> bool:
    """Whether what is synced to a local disk there survives the end of this machine's power, and of a container."""
    return not platform.is_network_filesystem(str(folder)) and not platform.is_fleeting_filesystem(
        str(folder)
    )


def location_id(location: str) -> str:
    """Return 16 hex digits that stand for a location in file and ref names."""
    return Digest.of(location.encode("utf-8", "surrogateescape")).hex()[:16]


def host_id() -> str:
    """Return what tells this machine from others that share the user's folders."""
    try:
        with open(_MACHINE_ID, "rb") as file:
            machine = file.read(256).strip()
    except OSError:
        machine = b""
    # Containers made from one image share the id, but not the name.
    return f"{platform.host_name()}-{Digest.of(machine).hex()[:8]}"


def _cache_of(location: str) -> Path:
    return _below(CACHE_VARIABLE, _cache_folder()) / location_id(location)


def _named(store_id: str, location: str) -> str:
    return f"{store_id}-{location_id(location)}"


def _below(variable: str, default: str) -> Path:
    given = os.environ.get(variable, "")
    if not given:
        return _expanded(default)
    folder = _expanded(given)
    if not folder.is_absolute():
        # Another program, started elsewhere, would look for it elsewhere.
        raise InvalidInputError(
            f"{variable} is {given!r}, not an absolute path", hint="write the whole path of a folder"
        )
    return folder


def _expanded(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise InvalidInputError(
            f"there is no home folder for {place}",
            hint=f"set {SPOOL_VARIABLE} and {CACHE_VARIABLE} to folders of this user, or HOME",
        ) from None


def _state_folder() -> str:
    if platform.IS_MACOS:
        return "~/Library/Application Support/keepstone"
    return _xdg("XDG_STATE_HOME", "~/.local/state")


def _cache_folder() -> str:
    if platform.IS_MACOS:
        return "~/Library/Caches/keepstone"
    return _xdg("XDG_CACHE_HOME", "~/.cache")


def _xdg(variable: str, default: str) -> str:
    given = os.environ.get(variable, "")
    # The specification says that a relative path is to be ignored.
    return os.path.join(given if os.path.isabs(given) else default, "keepstone")
