"""What a request asks of S3, and what a list of requests costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers.http_streams import Head

WRITES: Final = ("put", "copy", "multipart-create", "multipart-part", "multipart-complete")
DOLLARS: Final = {
    **dict.fromkeys((*WRITES, "list"), 0.005 / 1000),
    **dict.fromkeys(("get", "head", "bucket"), 0.0004 / 1000),
}
"""Of S3 standard in us-east-1; deleting and aborting are free."""


@dataclass
class Seen:
    """One request that came."""

    number: int
    """1 for the first."""
    method: str
    kind: str
    """get, head, list, put, copy, delete, delete-many, bucket, multipart-create, -part, -complete or -abort."""
    bucket: str
    key: str
    query: str
    range: str
    is_conditional: bool
    """It had a condition, whether or not that was handed on."""
    sent_bytes: int = 0
    """Of the request's body, as far as it was read."""
    answered_bytes: int = 0
    """Of the answer's body, as far as it was sent."""
    status: int = 0
    """What the client was told; 0 for nothing."""
    served: int = 0
    """What the server said; 0 where it never heard of the request, or said nothing."""
    fault: str = ""

    @property
    def writes(self) -> bool:
        return self.kind not in ("get", "head", "list", "bucket")

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def seen(number: int, head: Head) -> Seen:
    """Return what a request asks for; paths begin with the bucket."""
    method, target, _ = head.first.split(" ", 2)
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    return Seen(
        number,
        method,
        _kind(method, key, set(parse_qs(parts.query, keep_blank_values=True)), head),
        bucket,
        key,
        parts.query,
        head.get("Range"),
        bool(head.get("If-None-Match") or head.get("If-Match")),
    )


def _kind(method: str, key: str, names: set[str], head: Head) -> str:
    if "uploadId" in names:
        of_method = {"PUT": "multipart-part", "POST": "multipart-complete", "DELETE": "multipart-abort"}
        return of_method.get(method, "list")
    if method == "POST":
        return "multipart-create" if "uploads" in names else "delete-many"
    if not key:
        listing = method == "GET" and not names & {"location", "versioning", "policy", "acl"}
        return "list" if listing else "bucket"
    if method == "PUT" and head.get("x-amz-copy-source"):
        return "copy"
    return method.lower()


def counted(requests: Iterable[Seen]) -> Counter[str]:
    """Return how many there are of each kind."""
    return Counter(request.kind for request in requests)


def dollars(requests: Iterable[Seen]) -> float:
    """Return what they would have cost."""
    return sum(DOLLARS.get(request.kind, 0.0) for request in requests)
