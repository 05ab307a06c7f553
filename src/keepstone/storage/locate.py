"""From what a user writes to the storage that is meant.

Layer: storage. The only file that names the backends; each is imported when it is first used. Which cloud's library
serves the URL of a bucket stands in bucket_url.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from keepstone.foundation.errors import InvalidInputError
from keepstone.storage.base import Storage

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_LOST_SLASHES: Final = re.compile(r"(s3a?|gs|gcs|az|abfss?|https?|memory|file):(/?)([^/].*)", re.DOTALL)
"""What `pathlib.Path` makes of a URL, and what is written in haste."""


_BUCKETS: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")


def locate(place: str | os.PathLike[str], *, writable: bool | None = None) -> Storage:
    """Return the storage at `place`: a folder (`~` is expanded) or a URL.

    `file:///folder`, `memory://name`, `s3://bucket/prefix` (also `gs://` and `az://`, with their extras), and for
    reading `https://server/path`. Nothing is created, and nothing is read or asked of a server.
    `writable=False` refuses every change; None finds out.

    Raises:
        InvalidInputError: no such kind of place, a file where a folder must be, or credentials in a URL.
    """
    text = os.fspath(place)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(
            f"location {text!r} is a {type(text).__name__}, not text", hint="use os.fsdecode"
        )
    if not text or "\0" in text:
        raise InvalidInputError(
            f"not a location: {text!r}", hint="name a folder, or a URL such as s3://bucket/prefix"
        )
    stripped = text.strip()
    if stripped != text and _SCHEME.fullmatch(stripped):
        raise InvalidInputError(
            f"there is a space or a line end before or behind {without_credentials(stripped)}",
            hint="remove it",
        )
    match = _SCHEME.fullmatch(text)
    if match:
        scheme, rest = match[1].lower(), match[2]
        if scheme not in _BACKENDS:
            raise InvalidInputError(
                f"no storage is known for {scheme}:// (in {_without_credentials(scheme, rest)})",
                hint=_HINTS.get(scheme, "use a folder, s3://, gs://, az://, https:// or memory://"),
            )
        return _BACKENDS[scheme](scheme, rest, writable)
    lost = _LOST_SLASHES.fullmatch(text)
    if lost:
        meant = _without_credentials(lost[1], lost[3])
        why = ", as text: pathlib.Path drops a slash" if lost[2] else f", or ./{lost[1]}:… for a folder"
        raise InvalidInputError(
            f"{meant} was written with {'one slash' if lost[2] else 'two slashes'} less",
            hint=f"write {meant}{why}",
        )
    return _open_folder(text, writable)


def _open_folder(path: str, writable: bool | None) -> Storage:
    from keepstone.storage.local import LocalStorage

    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise InvalidInputError(
            f"nobody here has the home folder {path.split('/', 1)[0]!r}",
            hint=f"write ./{path} if it is a folder",
        )
    if os.path.lexists(expanded) and not os.path.isdir(expanded):
        what = "a link that leads nowhere" if not os.path.exists(expanded) else "a file, not a folder"
        raise InvalidInputError(f"{expanded} is {what}", hint="name the folder of the store")
    return LocalStorage(expanded, writable=writable)


def _open_file_url(scheme: str, rest: str, writable: bool | None) -> Storage:
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise InvalidInputError(
            f"file://{host}{slash}{path} names a machine, {host!r}, instead of a folder",
            hint="write file:///folder with three slashes, or just the folder",
        )
    decoded = unquote(path)
    if "\0" in decoded:
        raise InvalidInputError(f"not a location: {'file:///' + path!r}", hint="remove the %00")
    return _open_folder("/" + decoded, writable)


def _open_memory(scheme: str, rest: str, writable: bool | None) -> Storage:
    from keepstone.storage.memory import MemoryStorage

    return MemoryStorage("memory://" + rest, writable=writable is not False)


def _open_remote(scheme: str, rest: str, writable: bool | None) -> Storage:
    from keepstone.storage.create_guard import CreateGuard
    from keepstone.storage.remote import RemoteStorage
    from keepstone.storage.retrying import Retrying

    # What is tried again may meet itself: the guard stands below, where each call is one request.
    return Retrying(CreateGuard(RemoteStorage(f"{scheme}://{rest}", writable=writable)))


def without_credentials(place: str) -> str:
    """Return a place as it may be shown and kept: of a URL neither user, password, query nor fragment."""
    match = _SCHEME.fullmatch(place)
    return _without_credentials(match[1].lower(), match[2]) if match else place


def is_bucket(location: str | os.PathLike[str]) -> bool:
    """Whether a location is in a bucket: elsewhere, for everybody, and without locks."""
    text = os.fspath(location)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        # `locate` says what is wrong with it.
        return False
    match = _SCHEME.fullmatch(text)
    return match is not None and match[1].lower() in _BUCKETS


def is_elsewhere(location: str | os.PathLike[str]) -> bool:
    """Whether reading a location takes a network: a bucket, or a store on the web."""
    return is_bucket(location) or is_web(location)


def is_web(location: str | os.PathLike[str]) -> bool:
    """Whether a location is on the web, where it can only be read, and not be listed."""
    text = os.fspath(location)
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))  # pyright: ignore


def is_url(place: str) -> bool:
    """Whether `place` is a URL, not a path."""
    return _SCHEME.fullmatch(place) is not None


def _without_credentials(scheme: str, rest: str) -> str:
    authority, slash, path = rest.partition("/")
    path = path.partition("?")[0].partition("#")[0]
    authority = authority.partition("?")[0].partition("#")[0]
    # Secret keys may hold a slash, so everything up to the last @ could be one.
    return f"{scheme}://{(authority + slash + path).rpartition('@')[2]}"


_BACKENDS: Final[dict[str, Callable[[str, str, bool | None], Storage]]] = {
    "file": _open_file_url,
    "memory": _open_memory,
    **dict.fromkeys(
        (*_BUCKETS, "https", "http"),
        _open_remote,
    ),
}
"""Every kind of place by its URL scheme; gets the scheme, what stands behind `://`, and `writable`."""

_HINTS: Final = {
    "r2": "write s3://bucket/prefix, and set AWS_ENDPOINT_URL_S3 to the account's address",
    "minio": "write s3://bucket/prefix, and set AWS_ENDPOINT_URL_S3 to the server's address",
}
