"""What a gateway does that changes requests on their way: it signs them again, with credentials of its own."""

from __future__ import annotations

from typing import Any

from tests.servers.http_streams import Head
from tests.servers.program import REGION, Access


def without_condition(head: Head, access: Access) -> Head:
    """Return a request's head without `If-None-Match`, signed by `access` where the header had been signed."""
    changed = head.without("If-None-Match")
    if changed == head or "if-none-match" not in head.get("Authorization") or not access.key:
        return changed
    return signed(changed.without("Authorization"), access)


def signed(head: Head, access: Access) -> Head:
    """Return a head that nobody signed with a signature of `access`."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    class Signer(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            # What the body is said to hold is taken over: it may come in pieces, later.
            return head.get("X-Amz-Content-SHA256")

    head = head.without("X-Amz-Date")
    method, path, version = head.first.split(" ")
    lines = head.raw.decode("latin-1").split("\r\n")[1:-2]
    headers = dict(line.split(":", 1) for line in lines)
    request = AWSRequest(
        method=method,
        url=f"http://{head.get('Host')}{path}",
        headers={name: value.strip() for name, value in headers.items()},
    )
    Signer(Credentials(access.key, access.secret), "s3", REGION).add_auth(request)
    fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return Head(f"{method} {path} {version}\r\n{fields}\r\n".encode("latin-1"))
