"""A new bucket on some server, and the clients that tests use to look at it."""

from __future__ import annotations

import functools
import os
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.servers.program import REGION, Access

if TYPE_CHECKING:
    from s3fs import S3FileSystem

KEYS_A_REQUEST: Final = 1_000


class Bucket(NamedTuple):
    """A bucket that nobody else uses."""

    server: str
    access: Access
    """Straight to the server, past any proxy."""
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def client(self) -> Any:
        """Return a client of another make, for what is really there: boto3's, which tries once."""
        return client(self.access)

    def put(self, key: str, data: bytes) -> None:
        self.client().put_object(Bucket=self.name, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        return self.client().get_object(Bucket=self.name, Key=key)["Body"].read()

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return every key and its size in bytes, sorted by key."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}

    def uploads(self) -> list[str]:
        """Return the keys of multipart uploads that were begun and neither completed nor aborted."""
        found = self.client().list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in found.get("Uploads", ())]


def client(access: Access) -> Any:
    # Its connections must not be shared with a forked child.
    return _client(access, os.getpid())


@functools.lru_cache(maxsize=4)
def _client(access: Access, process: int) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.key,
        aws_secret_access_key=access.secret,
        region_name=REGION,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def new_bucket(server: str, access: Access) -> Bucket:
    """Create a bucket whose name was never used."""
    bucket = Bucket(server, access, f"b-{uuid.uuid4().hex}")
    bucket.client().create_bucket(Bucket=bucket.name)
    return bucket


def remove(bucket: Bucket) -> None:
    """Remove a bucket and all that is in it, so that servers in memory stay small."""
    if bucket.server == "s3rver":
        return  # keeps its objects in files, and fails where many are deleted at once
    client = bucket.client()
    keys = list(bucket.sizes())
    for start in range(0, len(keys), KEYS_A_REQUEST):
        these = [{"Key": key} for key in keys[start : start + KEYS_A_REQUEST]]
        client.delete_objects(Bucket=bucket.name, Delete={"Objects": these, "Quiet": True})
    client.delete_bucket(Bucket=bucket.name)


def single_tries(*, read_seconds: float = 10) -> S3FileSystem:
    """Return an s3fs of the environment in which every call is one request: none of its layers tries again."""
    from s3fs import S3FileSystem

    settings = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": read_seconds}
    system = S3FileSystem(use_listings_cache=False, skip_instance_cache=True, config_kwargs=settings)
    system.retries = 1
    system.connect()
    connected: Any = system._s3
    http = connected._endpoint.http_session
    make = http._get_session

    async def make_session(proxy: str | None) -> Any:
        # aiohttp sends what it holds for idempotent, a conditional PUT too, once more on a connection that was cut.
        session = await make(proxy)
        session._retry_connection = False
        return session

    http._get_session = make_session
    return system
