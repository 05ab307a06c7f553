"""The bucket that benchmarks use: on Ceph RGW where that is installed, else on moto, which is slow itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.servers import moto, rgw
from tests.servers.bucket import client
from tests.servers.program import Access
from tests.servers.rgw import collect_garbage

NAME: Final = "benchmarks"
_KEYS_A_REQUEST: Final = 1_000


class BucketServer(NamedTuple):
    """A server with one bucket; this process's environment leads to it, and so do those of its children."""

    title: str
    """With its version, for notes."""
    access: Access
    folder: Path

    def url(self, prefix: str) -> str:
        """Return the URL of what lies below a prefix of the bucket."""
        return f"s3://{NAME}/{prefix}"

    def remove(self, prefix: str) -> None:
        """Remove what lies below a prefix, and let the server give back the space."""
        asked = client(self.access)
        for page in asked.get_paginator("list_objects_v2").paginate(Bucket=NAME, Prefix=prefix):
            keys = [{"Key": found["Key"]} for found in page.get("Contents", ())]
            for start in range(0, len(keys), _KEYS_A_REQUEST):
                asked.delete_objects(Bucket=NAME, Delete={"Objects": keys[start : start + _KEYS_A_REQUEST]})
        if self.title.startswith("Ceph"):
            collect_garbage(self.folder)


@contextmanager
def bucket_server(folder: Path) -> Iterator[BucketServer]:
    """Run a server in `folder`, with nothing in it; spool and cache of bucket stores lie beside it meanwhile."""
    program, title = moto.PROGRAM, "moto"
    if not rgw.missing():
        program, title = rgw.PROGRAM, f"Ceph RGW {rgw.version()}, objects in memory"
    before = dict(os.environ)
    shutil.rmtree(folder, ignore_errors=True)
    with program.running(folder / "server") as access:
        for name in Access.unwanted():
            os.environ.pop(name, None)
        os.environ.update(access.environment())
        os.environ.update(KEEPSTONE_SPOOL=str(folder / "spool"), KEEPSTONE_CACHE=str(folder / "cache"))
        try:
            client(access).create_bucket(Bucket=NAME)
            yield BucketServer(title, access, folder / "server")
        finally:
            os.environ.clear()
            os.environ.update(before)
    # A daemon may still be writing its last line.
    shutil.rmtree(folder, ignore_errors=True)


def drop_cache() -> None:
    """Forget what was read from bucket stores: reading is measured from the bucket."""
    shutil.rmtree(os.environ["KEEPSTONE_CACHE"], ignore_errors=True)


def sync_disks() -> None:
    """Let the system write what earlier turns left to write, so that no other turn waits for it."""
    subprocess.run(["sync"], check=True)
