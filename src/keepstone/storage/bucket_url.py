"""URLs of buckets and of stores on the web: which are accepted, and who serves them.

Layer: storage. What is refused is never shown with what could be a secret: user, password, query, fragment.
"""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from keepstone.foundation.errors import InvalidInputError

if TYPE_CHECKING:
    from keepstone.storage.bucket import Bucket
    from keepstone.storage.event_loop import RequestLoop

PREFIX_BYTES_MAX: Final = 768
"""What a name in S3 may have, 1,024 bytes, less what our own keys need."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@\[\]]+)(:[0-9]{1,5})?")
_CLOUDS: Final = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
_WEB: Final = ("http", "https")
_PACKAGES: Final = {
    "s3": ("s3fs", ""),
    "gs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "http": ("aiohttp", ""),
}
SCHEMES: Final = (*_CLOUDS, *_WEB)


class BucketUrl(NamedTuple):
    """Where a store's objects are: `scheme://bucket/prefix/`."""

    scheme: str
    bucket: str
    prefix: str
    """Ends in a slash, or is empty."""

    @classmethod
    def parse(cls, text: str) -> BucketUrl:
        """Return the place that a URL names.

        Raises:
            InvalidInputError: it names none, or holds credentials or options, or the package for it is missing.
        """
        match = _URL.fullmatch(text)
        scheme = match[1].lower() if match else ""
        if match is None or scheme not in SCHEMES:
            raise InvalidInputError("not the URL of a bucket", hint="write s3://bucket/prefix")
        authority, path = match[2], match[3]
        # Secret keys may hold a slash, so everything up to the last @ could be one.
        shown = f"{scheme}://{(authority + path).rpartition('@')[2]}"
        if "@" in authority + path:
            raise InvalidInputError(
                f"{shown} was written with a user or a password", hint=_CREDENTIALS[scheme]
            )
        if match[4] is not None or match[5] is not None:
            raise InvalidInputError(
                f"{shown} was written with a query or a fragment",
                hint="write bucket and prefix only; options belong in the configuration of fsspec",
            )
        _check_path(shown, path)
        if scheme in _WEB:
            if not _HOST.fullmatch(authority):
                raise InvalidInputError(f"{shown} names no server", hint=f"write {scheme}://server/path")
            return cls(scheme, authority, path.strip("/") + "/" if path.strip("/") else "")._installed()
        if not _BUCKET.fullmatch(authority):
            raise InvalidInputError(
                f"{shown}: {authority!r} is no name of a bucket",
                hint="buckets have 3 to 63 small letters, digits, dots and hyphens; for an access point "
                "write its alias",
            )
        prefix = path.strip("/") + "/" if path.strip("/") else ""
        return cls(_CLOUDS[scheme], authority, prefix)._installed()

    @property
    def is_web(self) -> bool:
        """Whether it is a store published on the web."""
        return self.scheme in _WEB

    @property
    def location(self) -> str:
        """The URL as it is shown and kept."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def connect(self, loop: RequestLoop) -> Bucket:
        """Return the bucket; nothing is sent yet."""
        if self.scheme == "s3":
            from keepstone.storage.s3 import S3Bucket

            return S3Bucket(self.bucket, loop)
        if self.scheme == "gs":
            from keepstone.storage.gcs import GcsBucket

            return GcsBucket(self.bucket, loop)
        if self.scheme == "az":
            from keepstone.storage.azure import AzureBucket

            return AzureBucket(self.bucket, loop)
        from keepstone.storage.https import WebFolder

        return WebFolder(f"{self.scheme}://{self.bucket}/", loop)

    def _installed(self) -> BucketUrl:
        package, extra = _PACKAGES["http" if self.is_web else self.scheme]
        if not _is_installed(package):
            raise InvalidInputError(
                f"{self.scheme}:// needs the package {package}, which is not installed",
                hint=f'pip install "keepstone[{extra}]"' if extra else f"pip install {package}",
            )
        return self


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        return False


_AWS: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws, and leave them out of the URL"
)
_GOOGLE: Final = "use GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`"
_AZURE: Final = "write az://container/prefix, and set AZURE_STORAGE_ACCOUNT_NAME and how to log in"
_NETRC: Final = "headers for logging in belong in the configuration of fsspec"
_CREDENTIALS: Final = {
    **dict.fromkeys(("s3", "s3a"), _AWS),
    **dict.fromkeys(("gs", "gcs"), _GOOGLE),
    **dict.fromkeys(("az", "abfs", "abfss"), _AZURE),
    **dict.fromkeys(_WEB, _NETRC),
}


def _check_path(shown: str, path: str) -> None:
    inner = path[1:].removesuffix("/")
    segments = inner.split("/") if inner else []
    if any(segment in ("", ".", "..") for segment in segments) or path == "//":
        raise InvalidInputError(
            f"{shown} has an empty, '.' or '..' segment", hint="write the prefix plainly: s3://bucket/a/b"
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in inner):
        raise InvalidInputError(f"{shown!r} has a control character", hint="remove it")
    try:
        size = len(inner.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(
            f"{shown!r} has a lone surrogate", hint="write the prefix in whole characters"
        ) from None
    if size > PREFIX_BYTES_MAX:
        raise InvalidInputError(
            f"the prefix in {shown[:80]}… takes {size} bytes; the limit is {PREFIX_BYTES_MAX}",
            hint="choose a shorter one",
        )
