"""s3rver: the server that must be refused. It ignores every condition, and says that all went well.

`python -m tests.servers.s3rver --install` installs it by npm, once, in the cache folder.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.installer import run_installer
from tests.servers.program import (
    Access,
    Program,
    cache_folder,
    command_line,
    free_port,
    listening,
)

VERSION: Final = "3.7.1"
OWN_KEY: Final = "S3RVER"
"""It knows this one user only; the secret is the same word."""


def _home() -> Path:
    return cache_folder() / f"s3rver-{VERSION}"


def _program() -> Path:
    return _home() / "node_modules" / ".bin" / "s3rver"


def missing() -> str:
    if shutil.which("node") is None:
        return "s3rver needs node and npm, which are not on this machine"
    if _program().exists():
        return ""
    return "s3rver is not installed: python -m tests.servers.s3rver --install"


def install() -> None:
    """Install it, whole or not at all.

    Raises:
        ServerFailedError: there is no npm, or it failed.
    """
    if not missing():
        return
    _home().mkdir(parents=True, exist_ok=True)
    where = ("--prefix", str(_home()))
    run_installer("s3rver", "npm", "install", "--no-audit", "--no-fund", *where, f"s3rver@{VERSION}")


@contextmanager
def running(folder: Path) -> Iterator[Access]:
    """Run it with nothing in it.

    Raises:
        ServerFailedError: it did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, port = folder / "s3rver.log", free_port()
    command = [str(_program()), "-d", str(folder / "data"), "-a", "127.0.0.1", "-p", str(port)]
    endpoint = f"http://127.0.0.1:{port}"
    with listening(endpoint, [*command, "--silent", "--no-vhost-buckets"], log=log):
        yield Access(endpoint, OWN_KEY, OWN_KEY)


PROGRAM: Final = Program("s3rver", missing, install, running)

if __name__ == "__main__":
    sys.exit(command_line(PROGRAM))
