"""What went wrong with a request: told apart by the answer's HTTP status, in one place for all clouds.

Layer: storage. Never by the class or the text of an exception: file systems translate the same answer into different
classes, and the text may hold credentials. Nothing of the text gets into our messages, or into their causes.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

from keepstone.foundation.errors import (
    KeepstoneError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageBusyError,
    StorageError,
    StoragePermissionError,
    UnsafeStorageError,
)

UNSAFE_HINT: Final = (
    "use a bucket whose server creates objects only if they are absent (If-None-Match), or `single_writer=True`, "
    "`--single-writer` where only one program ever writes"
)

_CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BUSY: Final = frozenset((408, 409, 421, 425, 429, 499))
_BUSY_CODES: Final = frozenset(
    (
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "XAmzContentSHA256Mismatch",
    )
)
"""Codes that mean "try again", whatever the status: S3 says some of them with 400, 404 or even 200."""
_DENIED_CODES: Final = frozenset(
    (
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestExpired",
    )
)
"""S3 says these with 400."""
_EXPIRED: Final = frozenset(
    ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
)
_DENIED_HINTS: Final = {
    **dict.fromkeys(_EXPIRED, "get new credentials, and try again"),
    "InvalidAccessKeyId": "the server does not know the access key: check whose credentials are used, and the endpoint",
    "SignatureDoesNotMatch": "check the secret key; or something on the way changes requests: let their headers pass",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it, and try again",
    "InvalidToken": "check AWS_SESSION_TOKEN: it belongs to other credentials, or is cut short",
}
_EXISTS_CODES: Final = frozenset(("BlobAlreadyExists", "ConditionNotMet", "PreconditionFailed"))
"""Azure says the first with 409."""
_NO_BUCKET_CODES: Final = frozenset(("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"))


class Kind(Enum):
    """What a caller can do about it."""

    ABSENT = auto()
    NO_BUCKET = auto()
    EXISTS = auto()
    PAST_THE_END = auto()
    DENIED = auto()
    NO_CREDENTIALS = auto()
    UNKNOWN_THERE = auto()
    """The server does not do what was asked for, and will not do it a moment later."""
    BUSY = auto()
    """The same request may succeed a moment later; whether this one took effect is unknown."""
    OTHER = auto()


class AnswerError(Exception):
    """An answer that is no success, where we ask without a library that has an exception for it."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


class Trouble(NamedTuple):
    """One failed request."""

    kind: Kind
    detail: str
    """What the server says, as far as it may be shown."""
    hint: str = ""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def of_answer(status: int, code: str = "") -> Trouble:
    """Tell what an answer with this HTTP status and this code of the cloud's own means."""
    code = code if _CODE.fullmatch(code) and code != str(status) else ""
    detail = f"the server answers {status} {code}".rstrip()
    if code in _NO_BUCKET_CODES:
        return Trouble(Kind.NO_BUCKET, detail)
    if code in _DENIED_CODES or status in (401, 403):
        expired = code in _EXPIRED
        return Trouble(
            Kind.DENIED,
            f"the credentials have expired ({code})" if expired else f"{detail}: access is denied",
            _DENIED_HINTS.get(code, ""),
        )
    if code in _EXISTS_CODES:
        return Trouble(Kind.EXISTS, detail)
    if code == "NotImplemented" or status == 501:
        return Trouble(Kind.UNKNOWN_THERE, detail)
    if code in _BUSY_CODES or status in _BUSY or status >= 500:
        return Trouble(Kind.BUSY, detail)
    if status in (404, 410):
        return Trouble(Kind.ABSENT, detail)
    if status == 412:
        return Trouble(Kind.EXISTS, detail)
    if status == 416:
        return Trouble(Kind.PAST_THE_END, detail)
    return Trouble(Kind.OTHER, detail)


def of_silence(error: BaseException, server: str) -> Trouble:
    """Tell why there was no whole answer: what the system says about it, and who was asked."""
    place = f" from {server}" if server else ""
    said = ""
    for one in chain(error):
        if isinstance(one, ssl.SSLError) and getattr(one, "reason", None):
            return _of_tls(one, place)
        # Some libraries put all addresses that they tried into the text; the number alone is safe to show.
        number = one.errno if isinstance(one, OSError) else None
        if isinstance(number, int) and number > 0:
            said = f": {os.strerror(number)}"
        elif type(one).__name__ == "gaierror":
            said = ": its name cannot be looked up"
        elif type(one).__name__ in _CUT_SHORT:
            return Trouble(Kind.BUSY, f"the answer{place} was cut short")
    if not said and any(isinstance(one, TimeoutError) for one in chain(error)):
        said = " in time"
    return Trouble(
        Kind.BUSY, f"no answer{place}{said}", "check the network, and the endpoint that is configured"
    )


def _of_tls(error: ssl.SSLError, place: str) -> Trouble:
    # These stay as they are, however often one asks.
    lasts = isinstance(error, ssl.SSLCertVerificationError) or error.reason in _NO_TLS
    return Trouble(
        Kind.OTHER if lasts else Kind.BUSY,
        f"no answer{place}: TLS failed ({error.reason})",
        "check whether the endpoint is https:// or http://, and where certificates are your own, AWS_CA_BUNDLE",
    )


_NO_TLS: Final = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"))
"""What OpenSSL makes of a server that speaks something else."""
_CUT_SHORT: Final = frozenset(("ClientPayloadError", "IncompleteReadError", "ResponseStreamingError"))


_READING: Final = frozenset(("read", "ask the size of", "list"))
"""What `raised` is told of as an action that changes nothing."""
_MAY_NOT_WRITE: Final = "check whose credentials are used, and what they may do in this bucket"
_MAY_NOT_READ: Final = (
    "check whose credentials are used, and that they may read and list in this bucket: without the right to list "
    "(s3:ListBucket) S3 answers 403 for what is not there"
)


def raised(trouble: Trouble, action: str, location: str, key: str) -> KeepstoneError:
    """Return the error that says so."""
    place = f"{location}/{key}"
    doing = f"cannot {action} {place}"
    match trouble.kind:
        case Kind.ABSENT:
            return ObjectNotFoundError(f"{location} has no object {key}", key=key)
        case Kind.EXISTS:
            return ObjectExistsError(f"{place} exists already", key=key)
        case Kind.NO_BUCKET:
            return StorageError(
                f"{doing}: the bucket does not exist",
                path=place,
                hint=trouble.hint or "create it, or check its name, the endpoint and the region",
            )
        case Kind.DENIED:
            return StoragePermissionError(
                f"{doing}: {trouble.detail}",
                path=place,
                hint=trouble.hint or (_MAY_NOT_READ if action in _READING else _MAY_NOT_WRITE),
            )
        case Kind.NO_CREDENTIALS:
            return StoragePermissionError(f"{doing}: {trouble.detail}", path=place, hint=trouble.hint)
        case Kind.UNKNOWN_THERE if action == "write":
            # The condition is the one thing in it that servers of S3 may not know; what is replaced has none.
            return UnsafeStorageError(
                f"{doing} only if it is absent: {trouble.detail}", path=place, hint=UNSAFE_HINT
            )
        case Kind.BUSY:
            return StorageBusyError(
                f"{doing}: {trouble.detail}", path=place, hint=trouble.hint or "try again a little later"
            )
        case _:
            return StorageError(f"{doing}: {trouble.detail}", path=place, hint=trouble.hint)
